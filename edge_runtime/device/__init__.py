"""Measure this machine, find the best configuration for it, and check that it computes the right masks."""
