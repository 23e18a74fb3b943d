"""Limit the disk space of results by deleting the oldest."""

from __future__ import annotations

import math
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.sinks.folder import PICTURE_SUFFIXES
from edge_runtime.storage import RESULTS_MARKER, translated

_OURS = {
    "masks": re.compile(r"\d{6,}\.png"),
    "overlays": re.compile(r"\d{6,}\.(jpg|png)"),
    "": re.compile(r"overlay(-\d{8}-\d{6}(-\d+)?)?\.mp4"),
}
"""Pattern of the names of results of videos and live sources, by folder."""
_BLOCK_BYTES = 4096
MAX_FILES = 100_000
"""Largest number of files, because larger folders are slow on every file system and need memory for the names."""


class Retention:
    """Limit on the size of a results folder, enforced by deleting its oldest results; thread-safe.

    The folder is read once at the start, and each written file is added, so that folders are not read for each frame.
    Results of earlier runs count, and are deleted first. Masks and pictures of images have any name: theirs are those that
    are not older than the marker, which the first run makes. No other file is ever deleted.
    """

    def __init__(self, folder: Path, limit_mb: float, max_files: int = MAX_FILES) -> None:
        """Read the existing results.

        Args:
            folder: Folder of the results.
            limit_mb: Largest total size in megabytes (10^6 bytes); files count in blocks of 4 KiB, as on the disk.
            max_files: Largest number of files.

        Raises:
            StorageError: The folder cannot be read.
        """
        self._limit_bytes = round(limit_mb * 1e6)
        self._max_files = max_files
        self._lock = threading.Lock()
        self._total_bytes = 0
        self._sizes: dict[str, int] = {}  # bytes by path, oldest first
        with translated("read", folder):
            for _, path, size in sorted(_results(folder)):
                self._count(path, size)

    def add(self, path: Path, size_bytes: int) -> None:
        """Count a file that was just written, and delete the oldest ones above the limit, but never this one.

        Raises:
            StorageError: A file cannot be deleted; it is not counted from then on.
        """
        with self._lock:
            self._count(path, size_bytes)
            while (self._total_bytes > self._limit_bytes or len(self._sizes) > self._max_files) and len(
                self._sizes
            ) > 1:
                oldest = next(iter(self._sizes))
                self._total_bytes -= self._sizes.pop(oldest)
                with translated("delete", Path(oldest)):
                    Path(oldest).unlink(missing_ok=True)

    def _count(self, path: Path | str, size_bytes: int) -> None:
        self._total_bytes -= self._sizes.pop(str(path), 0)  # an overwritten file becomes the newest
        blocks_bytes = -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        self._sizes[str(path)] = blocks_bytes
        self._total_bytes += blocks_bytes


def _results(folder: Path) -> Iterator[tuple[float, str, int]]:
    """Yield time, path and bytes of each result of an earlier run."""
    marker = folder / RESULTS_MARKER
    since = marker.stat().st_mtime if marker.exists() else math.inf
    for part, pattern in _OURS.items():
        place = folder / part
        for path in place.rglob("*") if part and place.is_dir() else place.glob("*"):
            known = path.parent == place and pattern.fullmatch(path.name) is not None
            named = bool(part) and path.suffix in PICTURE_SUFFIXES and not path.name.startswith(".")
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and (known or (named and found.st_mtime >= since)):
                yield found.st_mtime, str(path), found.st_size
