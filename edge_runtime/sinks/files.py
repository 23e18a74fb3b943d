"""Masks and pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.image import encode_png
from edge_runtime.sources import Frame
from edge_runtime.storage import printable, write_bytes

_JPEG_QUALITY = 95


class PictureSink(Protocol):
    """Takes the pictures that an effect draws."""

    wants_more: bool

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Take the picture of a frame, (H, W, 3) uint8 BGR."""

    def close(self) -> list[str]:
        """Finish; returns what was written, one line each, for people."""


class MaskFiles:
    """Class ids as PNG files, ``FOLDER/NAME.png``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = 0

    def write(self, frame: Frame, mask: NDArray[np.uint8]) -> Path:
        """Write (H, W) uint8 class ids and return the file's path.

        Raises:
            StorageError: It could not be written.
        """
        path = self._folder / f"{frame.name}.png"
        write_bytes(path, encode_png(mask, printable(path)))
        self.written += 1
        return path

    def close(self) -> list[str]:
        """Return what was written."""
        return [f"{printable(self._folder)} ({self.written} masks)"] if self.written else []


class PictureFiles:
    """Pictures as files, ``FOLDER/NAME.jpg`` or ``.png``."""

    wants_more = True

    def __init__(self, folder: Path, suffix: str) -> None:
        """``suffix`` is ".jpg" for photographs or ".png" for what must stay exact."""
        self._folder = folder
        self._suffix = suffix
        self.written = 0

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, 3) uint8 BGR.

        Raises:
            StorageError: It could not be written.
        """
        path = self._folder / f"{frame.name}{self._suffix}"
        done, data = cv2.imencode(self._suffix, picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not done:
            raise InputError(f"{printable(path)} — cannot be encoded — found a picture of shape {picture_bgr.shape}")
        write_bytes(path, data.tobytes())
        self.written += 1

    def close(self) -> list[str]:
        """Return what was written."""
        return [f"{printable(self._folder)} ({self.written} pictures)"] if self.written else []
