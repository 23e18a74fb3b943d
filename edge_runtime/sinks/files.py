"""Write masks and pictures as files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.image import MAX_PIXELS, encode_png
from edge_runtime.sinks.folder import remove_abandoned
from edge_runtime.sinks.retention import Retention
from edge_runtime.sources.frame import Frame
from edge_runtime.storage import printable, replace_file, sync_names, temporary_name, translated, write_bytes

_JPEG_QUALITY = 95
_LONGEST_JPEG_PX = 65500
"""Longest side that libjpeg writes; a longer picture becomes a PNG."""
_SYNC_EVERY = 64
"""Number of files between two syncs of their folder. Each file's content is durable at once, its name after the next
sync. After a power cut, the latest files may be missing, but none is incomplete. A sync per file would up to double the
time."""


class PictureSink(Protocol):
    """Destination of the pictures that an effect draws.

    After a ``StorageError`` in ``write``, this picture was not kept, and the next ``write`` tries again.
    """

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write the picture of a frame, (H, W, 3) BGR or (H, W, 4) BGRA uint8."""

    def close(self) -> list[str]:
        """Finish writing; return one line of text per output."""


class _Files:
    """Writer of atomic files in a folder; thread-safe."""

    _what = "files"

    def __init__(self, folder: Path, retention: Retention | None = None) -> None:
        self._folder = folder
        self._retention = retention
        self._lock = threading.Lock()
        self._folders: set[Path] = set()  # written since the last sync
        self._made: set[Path] = set()
        self.written = 0

    def close(self) -> list[str]:
        """Make the names of all files durable; return one line of text per output.

        Raises:
            StorageError: The folder no longer exists.
        """
        if not self.written:
            return []
        self._sync()
        return [f"{printable(self._folder)} ({self.written} {self._what})"]

    def _place(self, frame: Frame, suffix: str) -> Path:
        """Return the path of a frame's file, and make its folder, because a frame's name may begin with folders."""
        path = self._folder / f"{frame.name}{suffix}"
        if ".." in path.relative_to(self._folder).parts:
            raise InputError(f"{printable(frame.name)} — a frame's name that leads out of {printable(self._folder)}")
        if path.parent != self._folder and path.parent not in self._made:
            with translated("make", path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            self._made.add(path.parent)
        return path

    def _save(self, path: Path, data: bytes | memoryview) -> None:
        write_bytes(path, data, sync_folder=False)
        self._count(path, len(data))

    def _count(self, path: Path, size_bytes: int) -> None:
        with self._lock:
            self.written += 1
            self._folders.add(path.parent)
            sync = self.written % _SYNC_EVERY == 0
        if sync:
            self._sync()
        if self._retention is not None:
            self._retention.add(path, size_bytes)

    def _sync(self) -> None:
        """Make the names of the files that were written since the last time durable."""
        with self._lock:
            folders, self._folders = self._folders | {self._folder}, set()
        for folder in folders:
            sync_names(folder)


class MaskFiles(_Files):
    """Writer of class ids as PNG files, ``FOLDER/NAME.png``; thread-safe."""

    _what = "masks"

    def write(self, frame: Frame, mask: NDArray[np.uint8]) -> Path:
        """Write (H, W) uint8 class ids and return the file's path.

        Raises:
            StorageError: The file could not be written.
        """
        path = self._place(frame, ".png")
        self._save(path, encode_png(mask, printable(path)))
        return path


class PictureFiles(_Files):
    """Writer of pictures as files, ``FOLDER/NAME.jpg``; thread-safe.

    A picture that must be exact, has an alpha channel or is too long for JPEG becomes ``FOLDER/NAME.png``.
    """

    _what = "pictures"

    def __init__(self, folder: Path, *, exact: bool = False, retention: Retention | None = None) -> None:
        """Write to ``folder``, with ``exact`` as PNG instead of JPEG; ``retention`` limits the size of the results."""
        super().__init__(folder, retention)
        self._exact = exact

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8.

        Raises:
            StorageError: The file could not be written.
        """
        if self._exact or picture.shape[2] == 4:
            path = self._place(frame, ".png")
            self._save(path, encode_png(picture, printable(path)))
            return
        path = self._place(frame, ".jpg")
        if picture.shape[0] * picture.shape[1] > MAX_PIXELS and self._written_straight(path, picture):
            return
        if max(picture.shape) > _LONGEST_JPEG_PX:
            self._save(self._place(frame, ".png"), encode_png(picture, printable(path)))
            return
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not done:
            raise InputError(f"{printable(path)} — cannot be encoded — found a picture of shape {picture.shape}")
        self._save(path, data.data)

    def _written_straight(self, path: Path, picture: NDArray[np.uint8]) -> bool:
        """Encode a very large picture directly into its file, to save memory; return False if OpenCV cannot."""
        temporary = temporary_name(path.with_name("picture.jpg"))
        try:
            # Do not pass OpenCV a path that is not valid text, because it crashes when reading one.
            str(temporary).encode()
            done = cv2.imwrite(str(temporary), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        except (UnicodeEncodeError, cv2.error):
            done = False
        if not done:  # such as a full disk, which writing the bytes reports
            temporary.unlink(missing_ok=True)
            return False
        size_bytes = temporary.stat().st_size
        replace_file(temporary, path)
        self._count(path, size_bytes)
        return True
