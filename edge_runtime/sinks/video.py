"""Pictures as one video file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import StorageError
from edge_runtime.sources import Frame
from edge_runtime.storage import printable, replace_file, temporary_name, translated

VIDEO_CODEC, VIDEO_SUFFIX = "mp4v", ".mp4"
"""The one codec that the OpenCV wheels write at speed and common players play: 1 ms a 640x480 frame. The wheels have no
H.264 encoder, VP8 takes 19 ms and VP9 110 ms."""
DEFAULT_FPS = 25.0
_MEASURED_FRAMES = 12
_MIN_FREE_BYTES = 1_000_000
_JPEG_QUALITY = 95


class VideoFile:
    """Pictures as one video, under a temporary name until ``close`` has finished and checked it.

    Without a known rate the first frames are held back to measure one, so that a recorded camera plays at its own speed
    however fast the model is.
    """

    wants_more = True

    def __init__(self, path: Path, fps: float | None) -> None:
        """Prepare a video; ``fps`` None measures the rate, from capture times."""
        self._path = path
        self._fps = fps
        self._temporary = temporary_name(path)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._held: list[tuple[float, NDArray[np.uint8]]] = []
        self.written = 0

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Append a picture, (H, W, 3) uint8 BGR; one of another size than the first is scaled to it.

        Raises:
            StorageError: The video cannot be opened, or the disk is full.
        """
        if self._writer is None:
            self._held.append((frame.captured_at, picture_bgr))
            if self._fps is None and len(self._held) < _MEASURED_FRAMES:
                return
            self._open()
        else:
            self._append(picture_bgr)

    def close(self) -> list[str]:
        """Finish the file, check that it can be read, and give it its name.

        Raises:
            StorageError: It is not all there; OpenCV writes videos without saying when the disk is full.
        """
        try:
            if self._writer is None and self._held:
                self._open()
            if self._writer is None:
                return []
            self._writer.release()
            check = cv2.VideoCapture(str(self._temporary.absolute()), cv2.CAP_FFMPEG)
            found = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if found < self.written:
                raise self._failed(f"only {found} of {self.written} frames arrived")
            replace_file(self._temporary, self._path)
            return [f"{printable(self._path)} ({self.written} frames)"]
        finally:
            self._held.clear()
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> None:
        height, width = self._held[0][1].shape[:2]
        self._size = width, height
        code = cv2.VideoWriter.fourcc(*VIDEO_CODEC)
        name = str(self._temporary.absolute())
        try:
            writer = cv2.VideoWriter(
                name, cv2.CAP_FFMPEG, code, _writable_fps(self._fps or self._measured_fps()), self._size
            )
        except (cv2.error, UnicodeError, TypeError) as cause:
            raise self._failed("OpenCV cannot take this name") from cause
        if not writer.isOpened():
            self._held.clear()
            raise self._failed("the video writer does not open")
        self._writer = writer
        for _, picture in self._held:
            self._append(picture)
        self._held.clear()

    def _append(self, picture_bgr: NDArray[np.uint8]) -> None:
        if self._writer is None:
            return
        if picture_bgr.shape[1::-1] != self._size:  # VideoWriter would leave it out without a word
            picture_bgr = np.asarray(cv2.resize(picture_bgr, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(picture_bgr)
        self.written += 1
        if self.written % 50 == 0:  # a full disk is noticed now, not after hours
            with translated("write", self._path):
                free = shutil.disk_usage(self._temporary.parent).free
            if free < _MIN_FREE_BYTES:
                raise self._failed("no space left on device")

    def _measured_fps(self) -> float:
        seconds = self._held[-1][0] - self._held[0][0]
        return min(max((len(self._held) - 1) / seconds, 1.0), 120.0) if seconds > 0 else DEFAULT_FPS

    def _failed(self, found: str) -> StorageError:
        return StorageError(
            f"cannot write {printable(self._path)} — {found} — free some space or choose another folder"
        )


def _writable_fps(fps: float) -> float:
    """Round a rate until the codec takes it: OpenCV makes 66.667 into 66667 / 1000, and MPEG-4 counts to 65535."""
    return round(fps, 3 if fps <= 65 else 2)
