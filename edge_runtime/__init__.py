"""Segment camera frames with onnxruntime, numpy and OpenCV.

    from edge_runtime import Segmenter

    segmenter = Segmenter.load("models/person")
    result = segmenter(image_bgr)  # result.mask: (H, W) uint8 class ids

Importing this package loads neither onnxruntime nor cv2; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.errors import (
        EdgeUnetError,
        GateError,
        InputError,
        ModelError,
        SourceError,
        StorageError,
        UsageError,
    )
    from edge_runtime.model.contract import ClassInfo, Contract
    from edge_runtime.model.session import SessionOptions
    from edge_runtime.segment.segmentation import Segmentation
    from edge_runtime.segment.segmenter import Segmenter

_HOME = {
    "ClassInfo": "model.contract",
    "Contract": "model.contract",
    "EdgeUnetError": "errors",
    "GateError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "Segmentation": "segment.segmentation",
    "Segmenter": "segment.segmenter",
    "SessionOptions": "model.session",
    "SourceError": "errors",
    "StorageError": "errors",
    "UsageError": "errors",
}

__all__ = [
    "ClassInfo",
    "Contract",
    "EdgeUnetError",
    "GateError",
    "InputError",
    "ModelError",
    "Segmentation",
    "Segmenter",
    "SessionOptions",
    "SourceError",
    "StorageError",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edge_runtime' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"edge_runtime.{_HOME[name]}"), name)
