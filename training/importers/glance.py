"""Look at a folder without reading it whole, to recognise its format."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

_MOST_IN_FOLDER = 300
_MOST_FOLDERS = 60
_MOST_FILES = 30
_PEEK_BYTES = 1 << 16


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return some entries of a folder, sorted by name, hidden ones left out; none if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            seen = [entry for entry in islice(found, _MOST_IN_FOLDER) if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(seen, key=lambda entry: entry.name)


def folders(root: Path, depth: int = 2) -> Iterator[Path]:
    """Yield a folder and some of those below it, the nearest first, down to a depth."""
    level = [root]
    left = _MOST_FOLDERS
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level[:left]:
            yield folder
            below += [Path(entry.path) for entry in entries(folder) if entry.is_dir()]
        left -= len(level)
        level = below
        if left <= 0:
            return


def files(root: Path, suffixes: Collection[str], depth: int = 2) -> Iterator[Path]:
    """Yield some files with one of the suffixes in a folder and below it, the nearest first."""
    found = (
        Path(entry.path)
        for folder in folders(root, depth)
        for entry in entries(folder)
        if Path(entry.name).suffix.lower() in suffixes and entry.is_file()
    )
    yield from islice(found, _MOST_FILES)


def peek(path: Path) -> str:
    """Return the beginning and the end of a text file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PEEK_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _PEEK_BYTES))
            return (head + file.read()).decode("utf-8", "ignore")
    except OSError:
        return ""
