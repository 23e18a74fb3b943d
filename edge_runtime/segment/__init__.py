"""One frame to one mask: preprocessing, the segmenter, and what wraps it."""
