"""Graph passes, one a file, in the order in which ``export.optimise`` applies them."""
