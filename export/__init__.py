"""Export a trained run as a model package: convert, optimise, check parity, publish or refuse.

    from export import ExportConfig, export_package

    manifest = export_package(ExportConfig(run=Path("runs/first"), out=Path("models/first")))

Importing this package loads neither TensorFlow nor onnx; the first use of ``export_package`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.config import ExportConfig, Int8Budget, ParityBudget
    from export.errors import ConvertError, Int8Error, ParityError
    from export.package import export_package
    from export.parity import Parity

_HOME = {
    "ConvertError": "errors",
    "ExportConfig": "config",
    "Int8Budget": "config",
    "Int8Error": "errors",
    "Parity": "parity",
    "ParityBudget": "config",
    "ParityError": "errors",
    "export_package": "package",
}

__all__ = [
    "ConvertError",
    "ExportConfig",
    "Int8Budget",
    "Int8Error",
    "Parity",
    "ParityBudget",
    "ParityError",
    "export_package",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'export' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"export.{_HOME[name]}"), name)
