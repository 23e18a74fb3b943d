"""Read all frames of video files in order, from disk or a network address."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.errors import EdgeUnetError, InputError, SourceError
from edge_runtime.sources.capture import is_address, open_url, plausible_fps, redacted
from edge_runtime.sources.containers import Container, read_container
from edge_runtime.sources.frame import DEFAULT_FPS, Frame, Source, decoded_frame
from edge_runtime.sources.options import Patience, SourceOptions
from edge_runtime.sources.slot import SlotSource
from edge_runtime.storage import printable, translated


def recognise(source: int | str | Path, options: SourceOptions) -> VideoSource | None:
    """Return the source for a video file; None for anything else.

    Every regular file that no other source has recognised is taken for a video.

    Raises:
        InputError: The path does not name a regular file, or cannot be accessed.
        UsageError: An option of another kind of source is set.
    """
    if is_address(source):
        return None
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
        self._container = Container()

    def open(self) -> None:
        """Open the file.

        Raises:
            InputError: The file is damaged or not a video.
        """
        name = opencv_name(self._path, InputError)
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
        self._capture, self._container = capture, read_container(self._path)
        self.fps, self.total = plausible_fps(capture), self._container.frames or _total(capture)
        self._note_losses(capture)

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            InputError: No frame can be decoded; or, after the last frame, some are missing.
        """
        latest_s = -math.inf
        while self._capture is not None and not self.stopped.is_set():
            started = time.monotonic()
            done, image = self._capture.read()
            if not done:
                break
            now = time.monotonic()
            latest_s = _time_s(self._capture, latest_s, self.fps)
            frame = decoded_frame(self.captured, image, self.name, (now - started) * 1e3, latest_s)
            yield self._taken(frame)
        if self._capture is None or self.stopped.is_set():
            return
        problem = self._problem(self._capture)
        if problem is not None:
            self.problems.append(problem)
            raise InputError(problem)

    def _note_losses(self, capture: cv2.VideoCapture) -> None:
        """Note what OpenCV does not read: a row or column of an odd size, and sound."""
        stored = self._container.size
        read = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        for height, width in (stored, stored[::-1]) if stored else ():
            if (height, width) != read and (height - height % 2, width - width % 2) == read:
                self._note(f"{self.name} — is {width}x{height}, of which OpenCV reads {read[1]}x{read[0]}")
                break
        self.has_sound = self._container.sound

    def _problem(self, capture: cv2.VideoCapture) -> str | None:
        """Return what is wrong with a file that was read to its end; None if nothing is."""
        if not self.captured:
            codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
            return (
                f"{self.name} — no frame can be decoded (codec {printable(codec.decode('latin-1'))}) — damaged, or OpenCV "
                "does not know the codec: convert it to H.264"
            )
        frames = self._container.frames
        cut, count = self._container.cut, self.captured
        if (cut and (frames is None or count < frames)) or (frames is not None and _ended_early(count, frames)):
            of = f"/{self.total}" if self.total else ""
            return f"{self.name} — ended early {self.captured}{of} frames — the file is truncated or damaged: copy it again"
        return None


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
            count, latest_s = 0, -math.inf
            while not self.stopped.is_set():
                done, image = capture.read()
                if not done:
                    break
                latest_s = _time_s(capture, latest_s, self.fps)
                self._put(np.asarray(image, np.uint8), time.monotonic(), time_s=latest_s)
                count += 1
        finally:
            capture.release()
        if self.stopped.is_set():
            return
        if not count:
            raise SourceError(f"{self.name} — has no frame that can be decoded — check the address")
        # The number of frames is estimated from length and rate, which is wrong for a variable rate.
        rate = self.fps or DEFAULT_FPS
        missing = _ended_early(count, self.total, slack=max(2, math.ceil(rate)))
        if missing and _ended_early(round(latest_s * rate), self.total, slack=max(2, math.ceil(rate))):
            problem = f"{self.name} — ended early {count}/{self.total} frames — check the network and the file"
            self.problems.append(problem)
            raise SourceError(problem)


def opencv_name(path: Path, error: type[EdgeUnetError]) -> str:
    """Return the name of a file for OpenCV's videos, absolute because FFmpeg takes "a:b.mp4" for a protocol.

    Raises:
        EdgeUnetError: ``error``, because the name is no valid text, with which OpenCV crashes.
    """
    with translated("read", path, error):
        name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError as cause:
        raise error(f"{printable(name)} — OpenCV cannot take this name — rename the file or folder") from cause
    return name


def _total(capture: cv2.VideoCapture) -> int | None:
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else None


def _time_s(capture: cv2.VideoCapture, before_s: float, fps: float | None) -> float:
    """Return the time of the frame that was just read; if the container has no times, that of a constant rate."""
    time_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
    if math.isfinite(time_s) and time_s > before_s:
        return time_s
    return 0.0 if before_s == -math.inf else before_s + 1 / (fps or DEFAULT_FPS)


def _ended_early(count: int, total: int | None, slack: int = 2) -> bool:
    """Tell whether more frames are missing than a container may count too many."""
    return total is not None and count < total - slack
