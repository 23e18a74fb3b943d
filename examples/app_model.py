"""Segment one image with an exported ``model.app.onnx``, with OpenCV and onnxruntime and without edge_runtime.

python examples/app_model.py models/first/model.app.onnx picture.jpg mask.png

The values in the PNG are class ids. onnxruntime has the same calls for C, C++, C#, Java and JavaScript.
"""

from __future__ import annotations

import sys

import cv2
import onnxruntime as ort

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, picture, output = sys.argv[1:]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
frame = cv2.imread(picture)  # (height, width, 3) uint8 BGR, of any size
if frame is None:
    sys.exit(f"{picture} — cannot be read as a picture")
(mask,) = session.run(["mask"], {"frame": frame})  # (height, width) uint8
if not cv2.imwrite(output, mask):
    sys.exit(f"{output} — cannot be written")
