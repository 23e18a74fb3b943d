"""The model package: its contract, its files, and the onnxruntime session."""
