"""Options and progress bar of the dataset check, shared by the commands that check a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.tolerance import TOLERATED, add_switches, values_of
from edge_runtime.errors import InputError
from training.errors import DataError

if TYPE_CHECKING:
    from training.data.check import DatasetReport

NEEDED = ("keras", "rich", "tensorboard", "tensorflow", "yaml")
_EXAMPLE = Path("my-data")
"""Folder of an imported dataset, as the help calls it."""
_TOLERATED = {**TOLERATED, "allow_copies": "accept pictures that are in two splits, whose metrics are too good"}


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
    """Check a dataset, with a progress bar on stderr if it is a terminal.

    Raises:
        InputError: There is no dataset; if it looks like one of another format, the message says how to import it.
    """
    from training.data.check import check_dataset, progress_bar
    from training.importers.detection import import_hint

    try:
        with progress_bar() as on_progress:
            return check_dataset(data, on_progress=on_progress, **tolerated)
    except InputError as error:
        if hint := import_hint(data, _EXAMPLE):
            raise DataError(f"{error} — {hint}") from error
        raise
