"""Write raw pictures for another program, such as ffmpeg."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from edge_runtime.sinks.bytestream import ByteStream
from edge_runtime.sinks.canvas import Canvas
from edge_runtime.sources.frame import Frame
from edge_runtime.storage import printable


class RawFrames:
    """Writer of consecutive raw BGR24 pictures, as for ``ffmpeg -f rawvideo -pix_fmt bgr24 -s WxH -i -``.

    All have the size of the first picture; pictures of another size are scaled to it.
    """

    def __init__(self, target: str, stop: threading.Event) -> None:
        """Open a file, a named pipe, or standard output for "-"; see ``ByteStream``.

        Raises:
            StorageError: The target cannot be opened.
        """
        self._stream = ByteStream(target, stop)
        self._canvas = Canvas()
        self._target = target
        self.written = 0

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8; BGRA is blended with black.

        Raises:
            StorageError: The disk is full, or the file was deleted.
            BrokenPipeError: The reader has closed the pipe.
        """
        self._stream.write(self._canvas.paint(picture).data.cast("B"))
        self.written += 1

    def close(self) -> list[str]:
        """Close the target; return a line of text with the size of the pictures, which their reader must know."""
        self._stream.close()
        height, width = self._canvas.size
        name = "standard output" if self._target == "-" else printable(self._target)
        return [f"{name} ({self.written} raw frames, bgr24, {width}x{height})"] if self.written else []
