"""Segment camera frames with onnxruntime, numpy and OpenCV.

    from edge_runtime import Segmenter

    segmenter = Segmenter.load("models/person")
    result = segmenter(image_bgr)  # result.mask: (H, W) uint8 class ids

The public API is the names in ``__all__``. Everything else in this package is internal and may change without notice.
The same holds for ``training`` and ``export``.

Importing this package loads neither onnxruntime nor cv2; the first use of a name loads what it needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime reads it when it is loaded. From 1.32 on, it sends usage data to Microsoft from Linux, too, and keeps a
# device id in ~/.cache, unless this is set. Child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edge_runtime.dataset.evaluate import Evaluation
    from edge_runtime.effects import parse_effect
    from edge_runtime.errors import (
        EdgeUnetError,
        GateError,
        InputError,
        ModelError,
        SourceError,
        StorageError,
        UsageError,
        WedgedError,
    )
    from edge_runtime.model.contract import ClassInfo, Contract
    from edge_runtime.model.session import SessionOptions
    from edge_runtime.run.config import RunConfig
    from edge_runtime.run.execution import execute
    from edge_runtime.run.observer import Observer
    from edge_runtime.segment.evaluation import evaluate_dataset
    from edge_runtime.segment.refined import RefinedSegmenter
    from edge_runtime.segment.segmentation import Segmentation
    from edge_runtime.segment.segmenter import Segmenter
    from edge_runtime.segment.stream import FrameResult, stream
    from edge_runtime.segment.tiled import TiledSegmenter
    from edge_runtime.segment.timing import StageTimes
    from edge_runtime.sinks.outputs import OutputOptions
    from edge_runtime.sources import open_source
    from edge_runtime.sources.frame import Frame, Source
    from edge_runtime.sources.options import Patience, SourceOptions

_HOME = {
    "ClassInfo": "model.contract",
    "Contract": "model.contract",
    "EdgeUnetError": "errors",
    "Evaluation": "dataset.evaluate",
    "Frame": "sources.frame",
    "FrameResult": "segment.stream",
    "GateError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "Observer": "run.observer",
    "OutputOptions": "sinks.outputs",
    "Patience": "sources.options",
    "RefinedSegmenter": "segment.refined",
    "RunConfig": "run.config",
    "Segmentation": "segment.segmentation",
    "Segmenter": "segment.segmenter",
    "SessionOptions": "model.session",
    "Source": "sources.frame",
    "SourceError": "errors",
    "SourceOptions": "sources.options",
    "StageTimes": "segment.timing",
    "StorageError": "errors",
    "TiledSegmenter": "segment.tiled",
    "UsageError": "errors",
    "WedgedError": "errors",
    "evaluate_dataset": "segment.evaluation",
    "execute": "run.execution",
    "open_source": "sources",
    "parse_effect": "effects",
    "stream": "segment.stream",
}

__all__ = [
    "ClassInfo",
    "Contract",
    "EdgeUnetError",
    "Evaluation",
    "Frame",
    "FrameResult",
    "GateError",
    "InputError",
    "ModelError",
    "Observer",
    "OutputOptions",
    "Patience",
    "RefinedSegmenter",
    "RunConfig",
    "Segmentation",
    "Segmenter",
    "SessionOptions",
    "Source",
    "SourceError",
    "SourceOptions",
    "StageTimes",
    "StorageError",
    "TiledSegmenter",
    "UsageError",
    "WedgedError",
    "evaluate_dataset",
    "execute",
    "open_source",
    "parse_effect",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from edge_runtime.errors.installation import installed_version

        return installed_version()
    if name not in _HOME:
        raise AttributeError(f"module 'edge_runtime' has no attribute '{name}'")
    from importlib import import_module

    try:
        return getattr(import_module(f"edge_runtime.{_HOME[name]}"), name)
    except ImportError as cause:
        from edge_runtime.errors.installation import import_problem

        raise ImportError(import_problem(cause), name=cause.name, path=cause.path) from cause


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
