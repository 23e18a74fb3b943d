"""The input pipeline: decoded images to augmented batches."""
