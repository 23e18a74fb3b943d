"""What can go wrong in training, under the runtime's tree (the number is the exit code).

EdgeUnetError
├── InputError            3
│   └── DataError         3   a dataset or a file of it cannot be trained on
├── UsageError            2
│   └── ResumeError       2   the run folder does not fit what was asked for
├── DivergedError         8   the loss or a weight is not finite
└── LoaderError          70   preparing a batch failed
"""

from __future__ import annotations

from edge_runtime.errors import EdgeUnetError, InputError, UsageError


class DataError(InputError):
    """A dataset, or a file of it, cannot be trained on."""


class ResumeError(UsageError):
    """A run folder cannot be resumed with this configuration or data."""


class DivergedError(EdgeUnetError):
    """Training diverged: the loss or a weight is not finite."""

    exit_code = 8


class LoaderError(EdgeUnetError):
    """Preparing a batch failed in a way that no check of the data foresees; the message names the file."""

    exit_code = 70


class TrainingStopped(Exception):  # noqa: N818 -- nothing is wrong: somebody wanted it
    """Training was asked to stop, and has; its state is saved."""
