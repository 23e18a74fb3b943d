"""The parity gate: Keras compared with the ONNX file that ships, run as on the device, and with the graph of each stage."""
