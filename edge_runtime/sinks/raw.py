"""Raw pictures for another program, such as ffmpeg, to read."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from edge_runtime.sinks.bytestream import ByteStream
from edge_runtime.sinks.canvas import Canvas
from edge_runtime.sources.frame import Frame
from edge_runtime.storage import printable


class RawFrames:
    """Pictures as raw BGR24, one after the other: ``edge-unet run … | ffmpeg -f rawvideo -pix_fmt bgr24 -s WxH -i - …``.

    All have the size of the first; another one is scaled to it.
    """

    def __init__(self, target: str, stop: threading.Event) -> None:
        """Open a file, a named pipe, or standard output for "-"; see ``ByteStream``.

        Raises:
            StorageError: It cannot be opened.
        """
        self._stream = ByteStream(target, stop)
        self._canvas = Canvas()
        self._target = target
        self.written = 0

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8, the latter on black.

        Raises:
            StorageError: The disk is full.
            BrokenPipeError: The reader has gone.
        """
        self._stream.write(self._canvas.paint(picture).data.cast("B"))
        self.written += 1

    def close(self) -> list[str]:
        """Close it; returns the size that a reader must know."""
        self._stream.close()
        height, width = self._canvas.size
        name = "standard output" if self._target == "-" else printable(self._target)
        return [f"{name} ({self.written} raw frames, bgr24, {width}x{height})"] if self.written else []
