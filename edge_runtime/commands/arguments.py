"""The argument PACKAGE of several commands, and parsers of options, which raise ``ArgumentTypeError`` for other text."""

from __future__ import annotations

import argparse
import math

from edge_runtime.models import PERSON, SHIPPED, located


def add_package(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the argument PACKAGE, the person model by default; ``what`` begins its help."""
    parser.add_argument(
        "package",
        metavar="PACKAGE",
        type=located,
        nargs="?",
        default=PERSON,
        help=f"{what}, or {' or '.join(SHIPPED)}, which come with the runtime (default: person)",
    )


def file_name(text: str) -> str:
    """Return the name of a file or folder, which is empty if a shell variable is not set."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name — expected a file or folder")
    return text


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} — expected a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Parse a number of seconds above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} — expected seconds above 0")
    return value


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} — expected a number from 0 to 1")
    return value


def parse_size(text: str) -> tuple[int, int]:
    """Parse "HxW", each at least 1 pixel, into (height, width)."""
    height, _, width = text.lower().partition("x")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in (height, width)):
        raise argparse.ArgumentTypeError(f"{text!r} — expected HEIGHTxWIDTH, as in 224x320")
    return int(height), int(width)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
