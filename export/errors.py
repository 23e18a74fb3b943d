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


class ConvertError(ModelError):
    """A run folder or its Keras model cannot be read or converted."""


class ParityError(GateError):
    """Keras and onnxruntime differ by more than the budget."""


class Int8Error(GateError):
    """An INT8 variant was asked for, and it loses more than the budget."""
