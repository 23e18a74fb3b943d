"""Everything that can go wrong, as one tree.

    EdgeUnetError                 (never raised itself)
    ├── UsageError            2   wrong option, setting or missing extra
    ├── InputError            3   an image, array, mask or dataset that cannot be used
    ├── ModelError            4   a model package or model file that is refused
    ├── GateError             5   parity, quantisation or self-test outside its budget
    ├── StorageError          6   disk full, read-only, no permission, output in use
    ├── SourceError           7   camera or stream not available
    └── WedgedError          70   a frame's work does not come to an end

The number is the exit code of the command line. As a library the same cases are exceptions; the library never exits.
A message is one line: what and where — what was found, what was expected — what to do. ``training.errors`` and
``export.errors`` hang their own cases under these.
"""

from __future__ import annotations


class EdgeUnetError(Exception):
    """Base of all errors of this project; ``exit_code`` is what the command line returns for it."""

    exit_code = 70


class UsageError(EdgeUnetError):
    """An option, a setting or the installation is not what the call needs."""

    exit_code = 2


class InputError(EdgeUnetError):
    """An image, array, mask or dataset cannot be used."""

    exit_code = 3


class ModelError(EdgeUnetError):
    """A model package or model file is refused."""

    exit_code = 4


class GateError(EdgeUnetError):
    """A quality gate failed: parity, quantisation or self-test."""

    exit_code = 5


class StorageError(EdgeUnetError):
    """A file could not be written: disk full, read-only, no permission, in use."""

    exit_code = 6


class SourceError(EdgeUnetError):
    """A camera or stream cannot be opened or has ended."""

    exit_code = 7


class WedgedError(EdgeUnetError):
    """The work on a frame does not come to an end: native code hangs. Only a new process helps."""
