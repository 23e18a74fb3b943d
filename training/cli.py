"""The workstation's commands. Nothing heavy is imported before one runs, and TensorFlow not before the dataset is good."""

from __future__ import annotations

from edge_runtime.cli import Commands
from training.commands import data, train


def register(commands: Commands) -> None:
    """Add ``data`` and ``train`` to the command line."""
    data.register(commands)
    train.register(commands)
