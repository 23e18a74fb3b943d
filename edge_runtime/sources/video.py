"""Read all frames of video files in order, from disk or a network address."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge_runtime.errors import InputError, SourceError
from edge_runtime.sources.capture import is_address, is_remote_video, open_url, plausible_fps, redacted
from edge_runtime.sources.frame import Frame, Source, decoded_frame
from edge_runtime.sources.options import Patience, SourceOptions
from edge_runtime.sources.slot import SlotSource
from edge_runtime.storage import printable, translated

# Containers that store the number of frames; in others it is estimated from the longest track, sound included.
_COUNTING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi"})


def recognise(source: int | str | Path, options: SourceOptions) -> VideoSource | RemoteVideoSource | None:
    """Return the source for a video file on disk or at a network address; None for anything else.

    Every regular file that no other source has recognised is taken for a video.

    Raises:
        InputError: The path does not name a regular file, or cannot be accessed.
        UsageError: An option of another kind of source is set.
    """
    if is_address(source):
        if not is_remote_video(source):
            return None
        options.refuse_all_but()
        return RemoteVideoSource(source, options.patience)
    path = Path(str(source))
    with translated("read", path, InputError):
        if not path.exists():
            return None
        options.refuse_all_but()
        if path.is_file():
            return VideoSource(path)
    raise InputError(f"{printable(path)} — is no regular file — expected an image, a video, a folder or a camera")


class VideoSource(Source):
    """Source of all frames of a video file, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(printable(path), "video")
        self._path = path
        self.files = [path]
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Open the file.

        Raises:
            InputError: The file is damaged or not a video.
        """
        # Use an absolute path, because FFmpeg would take "http:x.mp4" or "a:b.mp4" for a protocol.
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
        self.fps, self.total = plausible_fps(capture), _total(capture)

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            InputError: After the last frame, if the file ended well before its stored number of frames.
        """
        while self._capture is not None and not self.stopped.is_set():
            started = time.monotonic()
            done, image = self._capture.read()
            if not done:
                break
            decode_ms = (time.monotonic() - started) * 1e3
            yield self._taken(decoded_frame(self.captured, image, self.name, decode_ms))
        if self._capture is None or self.stopped.is_set():
            return
        if _ended_early(self.captured, self.total, self.fps, self._path.suffix):
            problem = (
                f"{self.name} — ended early {self.captured}/{self.total} frames — the file is truncated: copy it again"
            )
            self.problems.append(problem)
            raise InputError(problem)


class RemoteVideoSource(SlotSource):
    """Source of all frames of a video at a network address, in order; waiting for the network can be interrupted."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        super().__init__(redacted(url), "video")
        self._url = url
        self._patience = patience or Patience()

    def open(self) -> None:
        """Open the video.

        Raises:
            SourceError: The video cannot be opened, or not in time.
        """
        self._start(threading.Thread(target=self._run_to_end, args=(self._read,), name="edge-unet-video", daemon=True))
        try:
            with self._changed:
                while not (self._opened or self._ended or self.stopped.is_set()):
                    self._wait()
                if not self._opened and self._error is not None:
                    raise self._error
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        try:
            capture = open_url(self._url, self._patience, self._patience.read_s)
        except SourceError as error:
            raise SourceError(f"{self.name} — {error}") from None
        try:
            with self._changed:
                self.fps, self.total = plausible_fps(capture), _total(capture)
                self._opened = True
                self._changed.notify_all()
            count = 0
            while not self.stopped.is_set():
                done, image = capture.read()
                if not done:
                    break
                self._put(np.asarray(image, np.uint8), time.monotonic())
                count += 1
        finally:
            capture.release()
        suffix = Path(urlsplit(self._url).path).suffix
        if not self.stopped.is_set() and _ended_early(count, self.total, self.fps, suffix):
            problem = f"{self.name} — ended early {count}/{self.total} frames — check the network and the file"
            self.problems.append(problem)
            raise SourceError(problem)


def _total(capture: cv2.VideoCapture) -> int | None:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else None


def _ended_early(count: int, total: int | None, fps: float | None, suffix: str) -> bool:
    """Tell whether frames are missing, with a tolerance for containers whose count is inaccurate."""
    slack = 2 if suffix.lower() in _COUNTING_SUFFIXES else max(2, math.ceil(fps or 0))
    return total is not None and count < total - slack
