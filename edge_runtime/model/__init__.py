"""Load model packages: contract, files, device profile, and the onnxruntime session."""
