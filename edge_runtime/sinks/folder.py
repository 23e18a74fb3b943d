"""Prepare the folder for results."""

from __future__ import annotations

import re
import time
from pathlib import Path

from edge_runtime.errors import StorageError
from edge_runtime.sources.frame import Kind
from edge_runtime.sources.video import opencv_name
from edge_runtime.storage import mark_results, temporary_name, translated

_ABANDONED_S = 600.0
PICTURE_SUFFIXES = (".png", ".jpg")
"""Endings of masks and pictures."""
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp(\.mp4|\.png|\.jpg)")
"""Pattern of the names of files that are being written."""


def prepare_folder(folder: Path, kind: Kind) -> None:
    """Make the folders for results and check that they can be written, before the first frame.

    Incomplete files of a killed run are removed once they are ten minutes old.

    Raises:
        StorageError: A file has the name of the folder, or the folder is read-only or full.
    """
    if kind != "images":
        opencv_name(folder, StorageError)  # which writes the video
    for part in (folder / "masks", folder / "overlays") if kind == "images" else (folder / "masks",):
        with translated("make", part):
            part.mkdir(parents=True, exist_ok=True)
        _check_writable(part)
    if kind != "images":
        _check_writable(folder)  # for the video
    mark_results(folder)
    for part in (folder, folder / "masks", folder / "overlays"):
        remove_abandoned(part)


def _check_writable(folder: Path) -> None:
    with translated("write", folder):
        probe = temporary_name(folder / "probe")
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove incomplete files of a killed run from a folder, once they are ten minutes old.

    Raises:
        StorageError: The folder cannot be read.
    """
    with translated("clean", folder):
        for path in folder.glob(".*.tmp*"):
            # Another run may be writing a younger file right now.
            if TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
