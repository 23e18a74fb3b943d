"""Segment frames: preprocessing, the segmenter, wrappers for streams and large pictures, streaming, evaluation."""
