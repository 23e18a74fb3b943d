"""Show and log a training run: progress, TensorBoard, sample pictures."""
