"""Export a trained run as a model package: convert, optimise, check parity, publish or refuse.

    from export import ExportConfig, export_package

    manifest = export_package(ExportConfig(run="runs/first", out="models/first"))

Importing this package loads neither TensorFlow nor onnx; the first use of ``export_package`` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import edge_runtime  # noqa: F401 - before onnxruntime, whose telemetry it turns off

if TYPE_CHECKING:
    from edge_runtime.model.package import Manifest
    from export.config import ExportConfig, Int8Budget, ParityBudget
    from export.errors import ConvertError, Int8Error, ParityError
    from export.own_model.export import export_model
    from export.package import export_package
    from export.parity.figures import Parity

_HOME = {
    "ConvertError": "export.errors",
    "ExportConfig": "export.config",
    "Int8Budget": "export.config",
    "Int8Error": "export.errors",
    "Manifest": "edge_runtime.model.package",
    "Parity": "export.parity.figures",
    "ParityBudget": "export.config",
    "ParityError": "export.errors",
    "export_model": "export.own_model.export",
    "export_package": "export.package",
}

__all__ = [
    "ConvertError",
    "ExportConfig",
    "Int8Budget",
    "Int8Error",
    "Manifest",
    "Parity",
    "ParityBudget",
    "ParityError",
    "export_model",
    "export_package",
]


# Keras reads it when it is loaded: of its backends, only TensorFlow is used here.
os.environ["KERAS_BACKEND"] = "tensorflow"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'export' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
