"""Segment frames: preprocessing, the segmenter, its wrappers for streams and large pictures, streaming, evaluation."""
