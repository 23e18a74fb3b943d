"""Video files: every frame, in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2

from edge_runtime.errors import InputError
from edge_runtime.sources.frame import BaseSource, Frame, decoded_frame, plausible_fps
from edge_runtime.storage import printable

# These containers count their frames; others only estimate them from their longest track, sound included.
_COUNTING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi"})


class VideoSource(BaseSource):
    """The frames of a video file, in order, none lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(printable(path), "video")
        self._path = path
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Open the file.

        Raises:
            InputError: It is damaged or no video.
        """
        # An absolute path: FFmpeg would take "http:x.mp4" or "a:b.mp4" for a protocol.
        name = str(self._path.absolute())
        try:
            capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
            if not capture.isOpened():
                capture = cv2.VideoCapture(name)
        except (cv2.error, UnicodeError, TypeError) as cause:
            raise InputError(f"{self.name} — OpenCV cannot take this name — rename the file") from cause
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"{self.name} — cannot be opened as a video — damaged or an unknown format: convert it to MP4"
            )
        self._capture = capture
        self.fps = plausible_fps(capture)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if 0 < count < 1e9 else None

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            InputError: After the last one, if the file ended well before the number of frames that it claims.
        """
        while self._capture is not None and not self.stopped.is_set():
            done, image = self._capture.read()
            if not done:
                break
            index, self.captured = self.captured, self.captured + 1
            yield decoded_frame(index, image, self.name)
        counting = self._path.suffix.lower() in _COUNTING_SUFFIXES
        slack = 2 if counting else max(2, math.ceil(self.fps or 0))
        if self._capture is None or self.stopped.is_set():
            return
        if self.total is not None and self.captured < self.total - slack:
            problem = (
                f"{self.name} — ended early {self.captured}/{self.total} frames — the file is truncated: copy it again"
            )
            self.problems.append(problem)
            raise InputError(problem)
