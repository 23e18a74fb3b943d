"""The runtime's commands, one a module: each registers its arguments and runs."""
