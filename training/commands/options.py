"""Options and progress bar of the dataset check, shared by the commands that check a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.tolerance import TOLERATED, add_switches, values_of

if TYPE_CHECKING:
    from training.data.check import DatasetReport

NEEDED = ("keras", "rich", "tensorboard", "tensorflow", "yaml")
_TOLERATED = TOLERATED


def add_empty_without_mask(parser: argparse._ActionsContainer) -> None:
    """Add the option that takes images without a mask as all background, alone."""
    parser.add_argument("--empty-without-mask", action="store_true", help=_TOLERATED["empty_without_mask"])


def add_tolerance(group: argparse._ArgumentGroup) -> None:
    """Add the options that turn errors of a dataset into warnings."""
    add_switches(group, _TOLERATED)


def tolerance(args: argparse.Namespace) -> dict[str, bool]:
    """Return the values of the options of ``add_tolerance``."""
    return values_of(args, _TOLERATED)


def check_with_progress(data: Path, tolerated: Mapping[str, bool]) -> DatasetReport:
    """Check a dataset, with a progress bar on stderr if it is a terminal."""
    from training.data.check import check_dataset, progress_bar

    with progress_bar() as on_progress:
        return check_dataset(data, on_progress=on_progress, **tolerated)
