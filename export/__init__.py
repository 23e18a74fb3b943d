"""Turn a run folder into a model package: convert, optimise, check parity, publish or refuse."""
