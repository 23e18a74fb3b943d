"""Read, check and split a dataset, and generate the synthetic one."""
