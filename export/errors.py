"""Errors of export, under the runtime's tree (the number is the exit code).

EdgeUnetError
├── ModelError            4
│   └── ConvertError      4   a checkpoint or run that cannot be converted
└── GateError             5
    ├── ParityError       5   Keras and onnxruntime differ by more than the budget
    └── Int8Error         5   an INT8 variant was asked for and loses more than the budget
"""

from __future__ import annotations

from edge_runtime.errors import GateError, ModelError


def first_line(cause: Exception) -> str:
    """Return the first line of an error's message that says something, or the name of its class."""
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)


class ConvertError(ModelError):
    """A run folder or its Keras model cannot be read or converted.

    Example:
        >>> from export import ExportConfig, export_package
        >>> export_package(ExportConfig(run=data, out=tmp_path / "model"))
        Traceback (most recent call last):
        export.errors.ConvertError: run folder ... — no run.json inside — expected what `edge-unet train` writes
    """


class ParityError(GateError):
    """Keras and onnxruntime differ by more than the budget.

    Example:
        >>> from export import ExportConfig, ParityBudget, export_package
        >>> exact = ParityBudget(max_abs_diff=0.0)  # float arithmetic cannot meet it
        >>> export_package(ExportConfig(run=run, out=tmp_path / "model", budget=exact, int8="off"))
        Traceback (most recent call last):
        export.errors.ParityError: parity gate — Keras and onnxruntime differ: max |Δ probability| ... > 0; ...
    """


class Int8Error(GateError):
    """An INT8 variant was asked for, and it loses more than the budget.

    Example:
        >>> from export import ExportConfig, Int8Budget, export_package
        >>> strict = Int8Budget(mean_iou_drop=-0.5)  # INT8 would have to gain 0.5 of mean IoU
        >>> export_package(ExportConfig(run=run, out=tmp_path / "model", int8="always", int8_budget=strict))
        Traceback (most recent call last):
        export.errors.Int8Error: INT8 — ... — no package was written — ...
    """
