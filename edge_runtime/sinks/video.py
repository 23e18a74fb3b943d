"""Write pictures as one video file, or as consecutive video files."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import StorageError
from edge_runtime.sinks.canvas import Canvas
from edge_runtime.sinks.retention import Retention
from edge_runtime.sinks.sound import add_sound
from edge_runtime.sources.frame import DEFAULT_FPS, Frame
from edge_runtime.sources.video import opencv_name
from edge_runtime.storage import printable, replace_file, temporary_name, translated

VIDEO_CODEC, VIDEO_SUFFIX = "mp4v", ".mp4"
"""The only codec that OpenCV's wheels write fast and common players support: 1 ms per 640x480 frame. The wheels have no
H.264 encoder, VP8 takes 19 ms and VP9 110 ms."""
_MEASURED_FRAMES, _TIMED_FRAMES = 12, 8
_MEASURABLE_FPS, _HIGHEST_FPS = (1.0, 120.0), 1000.0
_LONGEST_PAUSE_S = 600.0
_FASTER = 1.1
"""Times of the frames are rounded to milliseconds in some containers."""
_MIN_FREE_BYTES, _INDEX_BYTES = 1_000_000, 32
"""Free bytes that are needed to finish a video: for the last pictures, and per frame for the index."""


class VideoFile:
    """Writer of one video, under a temporary name until ``close`` has finished and checked it.

    If the rate is unknown, it is measured on the first frames, which are held back for this. A recorded camera
    therefore plays at its own speed, however fast the model is. A picture of a video is repeated until the time of the
    next one, so that a video of a variable rate keeps its times.

    Attributes:
        path: File to write.
        sound: What became of the sound of the source, after ``close``; empty if there is none.
        written: Number of frames in the file.
    """

    def __init__(
        self, path: Path, fps: float | None, *, sound: Path | None = None, stop: threading.Event | None = None
    ) -> None:
        """Prepare a video.

        Args:
            path: File to write.
            fps: Frames per second; None: measured from capture times. More if the frames of a video are closer.
            sound: Video whose sound is added at the end; None: none.
            stop: Set when the run is to end, so that no picture is repeated any more.
        """
        self.path = path
        self.sound = ""
        self._sound_of = sound
        self._stop = stop or threading.Event()
        self._fps = fps
        self._temporary = temporary_name(path)
        self._writer: cv2.VideoWriter | None = None
        self._canvas = Canvas()
        self._held: list[tuple[Frame, NDArray[np.uint8]]] = []
        self._begins_s: float | None = None  # time in the source at which this video begins
        self._latest: NDArray[np.uint8] | None = None
        self.written = 0

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Append a picture, (H, W, 3) BGR or (H, W, 4) BGRA on black, scaled to the size of the first one; uint8.

        Raises:
            StorageError: The video cannot be opened, it was deleted, or the disk is full. Then only ``close`` may be
                called.
        """
        if self._writer is None:
            self._held.append((frame, picture))
            needed = _MEASURED_FRAMES if self._fps is None else _TIMED_FRAMES if frame.time_s is not None else 1
            if len(self._held) < needed:
                return
            self._open()
        else:
            self._append(frame, picture)

    def close(self) -> None:
        """Finish the file, check that it can be read, and rename it; without pictures, no file is written.

        Raises:
            StorageError: The video is incomplete, because OpenCV does not report a full disk while writing.
        """
        try:
            if self._writer is None and self._held:
                self._open()
            if self._writer is None:
                return
            self._writer.release()
            if not self.written:  # the disk is full: the video of an earlier run stays
                return
            check = cv2.VideoCapture(opencv_name(self._temporary, StorageError), cv2.CAP_FFMPEG)
            found = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if found < self.written:
                raise self._failed(f"only {found} of {self.written} frames arrived")
            replace_file(self._temporary, self.path)
            if self._sound_of is not None and not self._stop.is_set():  # a run that is stopped ends at once
                seconds = self.written / (self._fps or DEFAULT_FPS)
                self.sound = f", {add_sound(self.path, self._sound_of, seconds)}"
        finally:
            self._held.clear()
            self._latest = None
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> None:
        height, width = self._held[0][1].shape[:2]
        code = cv2.VideoWriter.fourcc(*VIDEO_CODEC)
        name = opencv_name(self._temporary, StorageError)
        self._fps = fps = _writable_fps(self._rate())
        try:
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, fps, (width, height))
        except (cv2.error, UnicodeError, TypeError) as cause:
            raise self._failed("OpenCV cannot take this name") from cause
        if not writer.isOpened():
            self._held.clear()
            raise self._failed("the video writer does not open")
        self._writer = writer
        for frame, picture in self._held:
            self._append(frame, picture)
        self._held.clear()

    def _append(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Append a picture, after repeating the one before it until the time of this one."""
        for _ in range(self._repeats(frame)):
            if self._stop.is_set():  # a long pause may take minutes
                break
            self._encode(picture if self._latest is None else self._latest)
        self._encode(picture)
        # Every effect returns new memory, so that the picture stays as it is.
        self._latest = picture if frame.time_s is not None else None

    def _repeats(self, frame: Frame) -> int:
        if frame.time_s is None or self._fps is None:
            return 0
        if self._begins_s is None:
            self._begins_s = frame.time_s
        missing = round((frame.time_s - self._begins_s) * self._fps) - self.written
        if missing > _LONGEST_PAUSE_S * self._fps:  # a jump in the times rather than a pause
            self._begins_s += missing / self._fps
            return 0
        return missing if missing > 1 else 0  # one frame may be due to a delay of the codec

    def _encode(self, picture: NDArray[np.uint8]) -> None:
        if self._writer is None:
            return
        # Detect a full disk or a deleted folder now, not after hours.
        with translated("write", self.path):
            free = shutil.disk_usage(self._temporary).free
        if free < _MIN_FREE_BYTES + _INDEX_BYTES * self.written:
            raise self._failed("no space left on device")
        self._writer.write(self._canvas.paint(picture))  # OpenCV silently skips a picture of another size
        self.written += 1

    def _rate(self) -> float:
        """Return the frames per second of the video: the given ones, or more if the frames of a video are closer."""
        lowest, highest = _MEASURABLE_FPS
        if self._fps is None:
            seconds = self._held[-1][0].captured_at - self._held[0][0].captured_at
            return min(max((len(self._held) - 1) / seconds, lowest), highest) if seconds > 0 else DEFAULT_FPS
        times = [frame.time_s for frame, _ in self._held if frame.time_s is not None]
        gaps = sorted(after - before for before, after in itertools.pairwise(times))
        middle = gaps[len(gaps) // 2] if gaps else 0.0  # a few frames may be bunched
        found = min(1 / middle, _HIGHEST_FPS) if middle > 0 else 0.0
        return found if found > _FASTER * self._fps else self._fps

    def _failed(self, found: str) -> StorageError:
        return StorageError(f"cannot write {printable(self.path)} — {found} — free some space or choose another folder")


class VideoFiles:
    """Writer of one video, or of consecutive ones, so that a kill or power cut costs at most the latest.

    After a ``StorageError``, the current video is finished, and the next picture begins another one.
    """

    def __init__(
        self,
        path: Path,
        fps: float | None,
        *,
        sound: Path | None = None,
        segment_s: float | None = None,
        retention: Retention | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Prepare the first video.

        Args:
            path: Path of a single video, ``overlay.mp4``. Consecutive videos, and videos after a failure, have the
                local time of their start in their name, as ``overlay-20261122-140500.mp4``. Only ``overlay.mp4`` is
                ever overwritten.
            fps: Frames per second of the videos; None: measured for each video from capture times.
            sound: Video whose sound a single video gets; None: none.
            segment_s: Length of each video in seconds of playing time; None: a single video.
            retention: Limit on the size of the results, to which finished videos are added.
            stop: As for ``VideoFile``.
        """
        self._path = path
        self._fps = fps
        self._sound = sound if segment_s is None else None
        self._segment_s = segment_s
        self._retention = retention
        self._stop = stop
        self._video: VideoFile | None = None
        self._started_at = 0.0
        self._begun = self._finished = self._frames = 0
        self._last, self._about_sound = path, ""

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Append a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8.

        Raises:
            StorageError: The picture was not kept; see the class.
        """
        if self._video is not None and self._over(self._video, frame):
            self._finish()
        if self._video is None:
            self._video = VideoFile(self._next_path(), self._fps, sound=self._sound, stop=self._stop)
            self._started_at = frame.captured_at
        try:
            self._video.write(frame, picture)
        except StorageError:
            with contextlib.suppress(StorageError):  # the first error is more informative
                self._finish()
            raise

    def close(self) -> list[str]:
        """Finish the video; return one line of text per output.

        Raises:
            StorageError: The video is incomplete.
        """
        self._finish()
        if self._finished == 0:
            return []
        if self._finished == 1:
            return [f"{printable(self._last)} ({self._frames} frames{self._about_sound})"]
        names = printable(self._path.with_stem(f"{self._path.stem}-*"))
        return [f"{names} ({self._finished} videos, {self._frames} frames)"]

    def _over(self, video: VideoFile, frame: Frame) -> bool:
        if self._segment_s is None:
            return False
        # Frames of a file arrive as fast as the model runs, those of a camera at its own rate.
        played_s = video.written / self._fps if self._fps else frame.captured_at - self._started_at
        return played_s >= self._segment_s

    def _finish(self) -> None:
        video, self._video = self._video, None
        if video is None:
            return
        video.close()
        if video.written:
            self._finished += 1
            self._frames += video.written
            self._last, self._about_sound = video.path, video.sound
            if self._retention is not None:
                with translated("read", video.path):
                    size_bytes = video.path.stat().st_size
                self._retention.add(video.path, size_bytes)

    def _next_path(self) -> Path:
        self._begun += 1
        if self._segment_s is None and self._begun == 1:
            return self._path
        stem = f"{self._path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        # The clock may have been set back, or a failure and the next attempt may be in the same second.
        names = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        return next(path for path in map(self._path.with_stem, names) if not path.exists())


def _writable_fps(fps: float) -> float:
    """Round a rate until the codec accepts it: OpenCV turns 66.667 into 66667 / 1000, but MPEG-4 allows up to 65535."""
    return round(fps, 3 if fps <= 65 else 2 if fps <= 650 else 0)
