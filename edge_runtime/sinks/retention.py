"""A cap on what results take on the disk: the oldest are deleted."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from edge_runtime.storage import translated

_OURS = {
    "masks": re.compile(r"\d{6,}\.png"),
    "overlays": re.compile(r"\d{6,}\.(jpg|png)"),
    "": re.compile(r"overlay(-\d{8}-\d{6}(-\d+)?)?\.mp4"),
}
"""The names that results of videos and live sources have, by folder. Nothing else is ever deleted."""
_BLOCK_BYTES = 4096
MAX_FILES = 100_000
"""However small they are: a folder of more is slow on every file system, and their names would fill the memory."""


class Retention:
    """Keeps a results folder below a size by deleting its oldest results; safe to use from several threads.

    The folder is read once, at the start; then each file that is written is added. So a frame costs no reading of
    folders, and results of earlier runs count and go first.
    """

    def __init__(self, folder: Path, limit_mb: float, max_files: int = MAX_FILES) -> None:
        """Read the results that are there already.

        Args:
            folder: The folder that results go to.
            limit_mb: Megabytes (10^6 bytes) that they may take; a file counts in blocks of 4 KiB, as on the disk.
            max_files: How many they may be.

        Raises:
            StorageError: The folder cannot be read.
        """
        self._limit_bytes = round(limit_mb * 1e6)
        self._max_files = max_files
        self._lock = threading.Lock()
        self._total_bytes = 0
        self._sizes: dict[str, int] = {}  # by path, oldest first
        found: list[tuple[float, Path, int]] = []
        with translated("read", folder):
            for part, pattern in _OURS.items():
                if (folder / part).is_dir():
                    ours = [path for path in (folder / part).iterdir() if pattern.fullmatch(path.name)]
                    found += [(path.stat().st_mtime, path, path.stat().st_size) for path in ours]
        for _, path, size in sorted(found):
            self._count(path, size)

    def add(self, path: Path, size_bytes: int) -> None:
        """Count a file that was just written, and delete the oldest ones if there is too much now; never this one.

        Raises:
            StorageError: A file cannot be deleted; it is left out of account from then on.
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

    def _count(self, path: Path, size_bytes: int) -> None:
        self._total_bytes -= self._sizes.pop(str(path), 0)  # written over: it is the newest now
        blocks_bytes = -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        self._sizes[str(path)] = blocks_bytes
        self._total_bytes += blocks_bytes
