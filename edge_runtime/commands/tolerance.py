"""Options that let a dataset with faults pass, with one text for all commands that read datasets."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

TOLERATED = {
    "skip_bad": "leave out pairs with an error, such as a damaged file or a mask of another size",
    "allow_unpaired": "leave out images without a mask and masks without an image",
    "empty_without_mask": "images without a mask count as all background",
    "allow_lossy_mask": "accept JPEG masks; each pixel is read as the nearest known value",
}
"""Help of each option, by the name of the argument that it sets."""


def add_switches(group: argparse._ActionsContainer, switches: Mapping[str, str]) -> None:
    """Add an option without a value for each argument, with its help."""
    for name, text in switches.items():
        group.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def values_of(args: argparse.Namespace, switches: Mapping[str, str]) -> dict[str, bool]:
    """Return the values of the options that ``add_switches`` added, by argument."""
    return {name: getattr(args, name) for name in switches}
