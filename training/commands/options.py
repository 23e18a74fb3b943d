"""Options and progress bar of the dataset check, shared by the commands that check a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.data.check import DatasetReport

NEEDED = ("keras", "rich", "tensorboard", "tensorflow", "yaml")
_TOLERATED = {
    "skip_bad": "leave out pairs with an error, such as a damaged file or a mask of another size",
    "allow_unpaired": "leave out images without a mask and masks without an image",
    "empty_without_mask": "images without a mask count as all background",
    "allow_lossy_mask": "accept JPEG masks; each pixel is read as the nearest known value",
}


def add_empty_without_mask(parser: argparse._ActionsContainer) -> None:
    """Add the option that takes images without a mask as all background, alone."""
    parser.add_argument("--empty-without-mask", action="store_true", help=_TOLERATED["empty_without_mask"])


def add_tolerance(group: argparse._ArgumentGroup) -> None:
    """Add the options that turn errors of a dataset into warnings."""
    for name, text in _TOLERATED.items():
        group.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def tolerance(args: argparse.Namespace) -> dict[str, bool]:
    """Return the values of the options of ``add_tolerance``."""
    return {name: getattr(args, name) for name in _TOLERATED}


def check_with_progress(data: Path, tolerated: Mapping[str, bool]) -> DatasetReport:
    """Check a dataset, with a progress bar on stderr if it is a terminal."""
    from training.data.check import check_dataset, progress_bar

    with progress_bar() as on_progress:
        return check_dataset(data, on_progress=on_progress, **tolerated)
