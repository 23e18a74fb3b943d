"""What is shown and logged of a training run: progress, TensorBoard, sample pictures."""
