"""Fit a Keras U-Net on images and masks; the result is a run folder."""
