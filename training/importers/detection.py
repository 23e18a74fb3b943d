"""Detect the format of a folder by its content: every format says what it recognises, and one alone is taken."""

from __future__ import annotations

import importlib
import shlex
from collections import Counter
from pathlib import Path

from edge_runtime.dataset.pairs import SPLITS
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.formats import IMPORTERS
from training.importers.glance import entries, folders

_MOST_FOLDERS = 20


def detect(src: Path, dst: Path) -> tuple[str, str]:
    """Return the format of a folder, and what shows it.

    Args:
        src: Folder to look at; not all of its files are read.
        dst: Folder to write, for the commands in messages.

    Raises:
        DataError: No format fits, or several do, or the folder is a dataset as it is.
    """
    found = recognised(src)
    if is_dataset(src):
        also = f", and for {_listed(found)}" if found else ""
        raise DataError(
            f"{printable(src)} — taken for a dataset folder, because it has images/ and masks/{also} — expected another "
            f"format — use it as it is: {_quoted('edge-unet data check', src)}{_or_commands(found, src, dst)}"
        )
    if len(found) > 1:
        raise DataError(
            f"{printable(src)} — taken for {_listed(found)} — expected one format — name it: {_commands(found, src, dst)}"
        )
    if not found:
        raise DataError(_nothing(src, dst))
    return next(iter(found.items()))


def recognised(src: Path) -> dict[str, str]:
    """Return what shows each of the formats that a folder can have."""
    found = {}
    for kind, entry in IMPORTERS.items():
        evidence: str | None = importlib.import_module(f"training.importers.{entry.module}").recognise(src)
        if evidence:
            found[kind] = evidence
    return found


def is_dataset(src: Path) -> bool:
    """Tell whether a folder is a dataset as training reads it: images and masks directly in their folders."""
    return any(
        all(any(_has_suffix(entry.name) for entry in entries(folder / part)) for part in ("images", "masks"))
        for folder in (src, *(src / split for split in SPLITS))
    )


def import_hint(src: Path, dst: Path, *, instead_of: str | None = None) -> str | None:
    """Return how to import a folder that is no dataset but looks like a format, or None.

    Args:
        src: Folder to look at.
        dst: Folder to write, for the command.
        instead_of: Format for which the folder was taken; no hint is given if it looks like that.
    """
    if not src.is_dir() or is_dataset(src):
        return None
    found = recognised(src)
    if not found or instead_of in found:
        return None
    return f"it looks like {_listed(found)} — import it: {_commands(found, src, dst)}"


def _nothing(src: Path, dst: Path) -> str:
    """Return the message for a folder of no format: what is in it, and what is expected."""
    counts = Counter(
        Path(entry.name).suffix.lower() or "no ending"
        for folder in folders(src)
        for entry in entries(folder)
        if entry.is_file()
    )
    content = ", ".join(f"{count} {printable(ending)}" for ending, count in counts.most_common(8)) or "no files"
    below = {
        Path(entry.path): found
        for entry in entries(src)[:_MOST_FOLDERS]
        if entry.is_dir() and (found := recognised(Path(entry.path)))
    }
    if below:
        folder, found = next(iter(below.items()))
        hint = f"but its folder {printable(folder.name)} looks like {_listed(found)}: {_commands(found, folder, dst)}"
        return f"{printable(src)} — of no known format ({content}) — {hint}"
    layouts = "; ".join(
        f"{kind}: {' '.join(entry.layout.splitlines()[0].split())}" for kind, entry in IMPORTERS.items()
    )
    return (
        f"{printable(src)} — of no known format ({content}) — expected one of {layouts} — `edge-unet data import --help` "
        "has the layouts"
    )


def _listed(found: dict[str, str]) -> str:
    return " and for ".join(f"{kind}, because {evidence}" for kind, evidence in found.items())


def _commands(found: dict[str, str], src: Path, dst: Path) -> str:
    return " or ".join(_quoted(f"edge-unet data import {kind}", src, dst) for kind in found)


def _or_commands(found: dict[str, str], src: Path, dst: Path) -> str:
    return f", or import it: {_commands(found, src, dst)}" if found else ""


def _quoted(command: str, *paths: Path) -> str:
    return f"`{' '.join((command, *(shlex.quote(printable(path)) for path in paths)))}`"


def _has_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES
