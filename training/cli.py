"""Commands of the workstation; heavy imports wait until one runs, and TensorFlow until the dataset is checked."""

from __future__ import annotations

from edge_runtime.cli import Commands
from training.commands import data, train


def register(commands: Commands) -> None:
    """Add ``data`` and ``train`` to the command line."""
    data.register(commands)
    train.register(commands)
