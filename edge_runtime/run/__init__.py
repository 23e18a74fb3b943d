"""A run from a source to its outputs, attended or as a service."""
