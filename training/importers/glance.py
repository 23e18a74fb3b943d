"""Look at a folder without reading it whole, to recognise its format."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

_SAMPLE = 300
_MOST_ENTRIES = 50_000
_MOST_FOLDERS = 60
_MOST_FILES = 30
_PEEK_BYTES = 1 << 16


def entries(folder: Path, most: int = _SAMPLE) -> list[os.DirEntry[str]]:
    """Return some entries of a folder, sorted by name, hidden ones left out; none if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            seen = [entry for entry in islice(found, most) if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(seen, key=lambda entry: entry.name)


def folders(root: Path, depth: int = 2) -> Iterator[Path]:
    """Yield a folder and some of those below it, the nearest first, down to a depth."""
    return (folder for folder, _ in _folders(root, depth))


def files(root: Path, suffixes: Collection[str], depth: int = 2) -> Iterator[Path]:
    """Yield some files with one of the suffixes in a folder and below it, the nearest first."""
    found = (
        Path(entry.path)
        for _, inside in _folders(root, depth)
        for entry in inside
        if os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file()  # noqa: PTH122 - of thousands
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


def _folders(root: Path, depth: int) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Yield folders with their entries, level by level, until there were enough of either."""
    level, seen, left = [root], 0, _MOST_ENTRIES
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            if seen == _MOST_FOLDERS or left <= 0:
                return
            inside = entries(folder, left)
            seen, left = seen + 1, left - len(inside)
            yield folder, inside
            below += [Path(entry.path) for entry in inside if entry.is_dir()]
        level = below
