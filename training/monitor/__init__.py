"""What one sees of a training run: progress, TensorBoard, sample pictures."""
