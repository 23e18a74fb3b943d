"""Graph passes, one a file, in the order in which ``export.convert`` applies them."""
