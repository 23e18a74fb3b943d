"""This machine: its speed, its settings, and whether it computes the right masks."""
