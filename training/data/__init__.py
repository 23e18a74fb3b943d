"""The dataset: reading it, checking it, splitting it, and drawing the built-in one."""
