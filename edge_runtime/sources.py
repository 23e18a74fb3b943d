"""Where frames come from: image files, video files, cameras and network streams.

Files lose nothing: each frame waits for its turn. A live source has a thread of its own that always holds the newest
frame; what the consumer has no time for is replaced and counted, so a slow consumer sees the present, not the past.
"""

from __future__ import annotations

import glob
import math
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError, SourceError, UsageError
from edge_runtime.image import IMAGE_SUFFIXES, read_image
from edge_runtime.pairs import image_files
from edge_runtime.storage import printable, translated

Kind = Literal["images", "video", "live"]
URL_SCHEMES = ("rtsp", "rtsps", "http", "https")
# These containers count their frames; others only estimate them from their longest track, sound included.
_COUNTING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi"})
_MAX_FPS = 240.0
_JOIN_S = 1.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a source.

    Attributes:
        index: Position in the source from 0; in a live source gaps are dropped frames.
        name: A name for files made from it, unique in the source: the image file's stem, or "000017".
        source: The file, device or address it came from, fit to print: without control characters or credentials.
        image_bgr: (H, W, 3) uint8 BGR, 0–255.
        captured_at: When it was decoded, seconds of ``time.monotonic``.
    """

    index: int
    name: str
    source: str
    image_bgr: NDArray[np.uint8]
    captured_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a live source may be silent, in seconds.

    Attributes:
        open_s: For opening a stream.
        read_s: For one read of a network stream.
        stall_s: Without a new frame, whatever the driver says; above the 5 s that a slow camera may take.
    """

    open_s: float = 5.0
    read_s: float = 5.0
    stall_s: float = 10.0


class Source(Protocol):
    """A context manager that opens a source and closes it; between, it is iterated once.

    Attributes:
        name: What it is, fit to print.
        kind: Images and videos lose no frame; a live source drops what the consumer has no time for.
        fps: Nominal frames a second, where known; after opening.
        total: Number of frames, where known; for a video an estimate; after opening.
        captured: Frames that the source had, also those that failed or were dropped.
        dropped: Frames that a newer one replaced before anyone took them.
        failed: Files that could not be read.
        reconnects: Times that a live source was opened again.
        problems: One line for each failure.
    """

    name: str
    kind: Kind
    fps: float | None
    total: int | None
    captured: int
    dropped: int
    failed: int
    reconnects: int
    problems: list[str]

    @property
    def live(self) -> bool: ...  # noqa: D102 - see the class

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(source: int | str | Path, timeouts: Timeouts | None = None) -> Source:
    """Recognise a source; ``with`` opens it.

    Args:
        source: A camera index (a number, or a string of digits), an rtsp or http address, a camera device, an image, a
            video, a folder of images, or a glob pattern of images.
        timeouts: Patience with live sources.

    Raises:
        InputError: No such file, or nothing usable in it.
        UsageError: An empty name, or an address of an unknown kind.
    """
    timeouts = timeouts or Timeouts()
    if isinstance(source, int) or (isinstance(source, str) and source.isascii() and source.isdigit()):
        return LiveSource(f"camera {int(source)}", int(source), timeouts)
    if isinstance(source, str) and "://" in source:
        scheme = source.partition("://")[0].lower()
        if scheme not in URL_SCHEMES:
            raise UsageError(f"source {redacted(source)} — unknown kind of address — expected {', '.join(URL_SCHEMES)}")
        return LiveSource(redacted(source), source, timeouts)
    if not str(source):
        raise UsageError("source — is empty — expected a camera index, a file, a folder, a glob or an address")
    path = Path(source)
    with translated("read", path, InputError):
        if path.is_dir():
            return ImageSource(_not_empty(image_files(path), path), printable(path))
        if path.is_char_device():
            return LiveSource(f"camera {printable(path)}", str(path), timeouts)
        if path.is_file():
            images = path.suffix.lower() in IMAGE_SUFFIXES
            return ImageSource([path], printable(path)) if images else VideoSource(path)
        if path.exists():
            raise InputError(
                f"{printable(path)} — is no regular file — expected an image, a video, a folder or a camera"
            )
        if glob.has_magic(str(path)):
            found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            matches = [Path(match) for match in sorted(found)]
            images_only = [m for m in matches if m.suffix.lower() in IMAGE_SUFFIXES and m.is_file()]
            return ImageSource(_not_empty(images_only, path), printable(path))
    raise InputError(f"{printable(path)} — no such file or folder — check the path")


def redacted(url: str) -> str:
    """Return an address that can be printed: scheme, host and path, without user, password and parameters.

    Cameras also take credentials as parameters, some inside the path (``/user=admin_password=x``), so everything from
    the first ``?``, ``=``, ``;`` or ``#`` on is left out. A password may hold a "/", so the host begins after the last
    "@".
    """
    scheme, _, rest = url.partition("://")
    shown = re.split(r"[?=;#]", rest.rpartition("@")[2], maxsplit=1)
    return printable(f"{scheme}://{shown[0]}{'…' if len(shown) > 1 else ''}")


class _BaseSource:
    """Counters, and a ``with`` block around ``open`` and ``close``."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.fps: float | None = None
        self.total: int | None = None
        self.captured = self.dropped = self.failed = self.reconnects = 0
        self.problems: list[str] = []

    @property
    def live(self) -> bool:
        """Whether frames come by themselves and may be dropped."""
        return self.kind == "live"

    def open(self) -> None:
        """Open what needs opening."""

    def close(self) -> None:
        """Give back what was opened."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ImageSource(_BaseSource):
    """Image files in order. One that cannot be read is passed over, remembered, and reported at the end."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        super().__init__(name, "images")
        self._paths = list(paths)
        self.total = len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            InputError: At the end, if there were others: it names them.
        """
        names = _unique_names(self._paths)
        for index, (path, name) in enumerate(zip(self._paths, names, strict=True)):
            try:
                image = read_image(path)
            except InputError as error:
                self.captured += 1
                self.failed += 1
                self.problems.append(str(error))
                continue
            self.captured += 1
            yield Frame(index=index, name=name, source=printable(path), image_bgr=image, captured_at=time.monotonic())
        if self.problems:
            raise InputError(_all_problems(self.problems, len(self._paths)))


class VideoSource(_BaseSource):
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
        self.fps = _plausible_fps(capture)
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
        while self._capture is not None:
            done, image = self._capture.read()
            if not done:
                break
            index, self.captured = self.captured, self.captured + 1
            yield _frame(index, image, self.name)
        counting = self._path.suffix.lower() in _COUNTING_SUFFIXES
        slack = 2 if counting else max(2, math.ceil(self.fps or 0))
        if self._capture is not None and self.total is not None and self.captured < self.total - slack:
            problem = (
                f"{self.name} — ended early {self.captured}/{self.total} frames — the file is truncated: copy it again"
            )
            self.problems.append(problem)
            raise InputError(problem)


class LiveSource(_BaseSource):
    """A camera or network stream: a thread grabs, one slot holds the newest frame, the consumer takes it.

    Opening and reading happen in that thread only, for both may block in native code where no signal gets through.
    """

    def __init__(self, name: str, target: int | str, timeouts: Timeouts) -> None:
        """Take a camera index, device path or address; ``name`` is what may be printed of it."""
        super().__init__(name, "live")
        self._target = target
        self._timeouts = timeouts
        self._changed = threading.Condition()
        # Everything below, and the counters, are read and written under this condition.
        self._slot: Frame | None = None
        self._opened = self._ended = self._closing = False
        self._error: SourceError | None = None
        self._last_news = 0.0
        self._thread = threading.Thread(target=self._grab, name="edge-unet-grab", daemon=True)

    def open(self) -> None:
        """Start grabbing and wait until the source is open.

        Raises:
            SourceError: It cannot be opened, or does not answer in time.
        """
        self._last_news = time.monotonic()
        self._thread.start()
        try:
            with self._changed:
                while not (self._opened or self._ended):
                    self._wait(self._timeouts.open_s + self._timeouts.read_s)
                if not self._opened:
                    raise self._error or self._died()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop grabbing; a frame left in the slot counts as dropped. A thread stuck in native code is left behind."""
        with self._changed:
            self._closing = True
            if self._slot is not None:
                self._slot = None
                self.dropped += 1
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time, until the source is closed.

        Raises:
            SourceError: The stream ended, or brought no frame for too long.
        """
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        with self._changed:
            while self._slot is None:
                if self._closing:
                    return None
                if self._ended:
                    raise self._error or self._died()
                self._wait(self._timeouts.stall_s)
            frame, self._slot = self._slot, None
            return frame

    def _wait(self, patience_s: float) -> None:
        """Wait a moment for news, in short steps: some systems deliver Ctrl-C only between them."""
        self._changed.wait(_POLL_S)
        if time.monotonic() - self._last_news > patience_s and not (self._slot or self._ended):
            raise SourceError(
                f"{self.name} — no frame for {patience_s:g} s — check the cable, the network and its power"
            )

    def _died(self) -> SourceError:
        return SourceError(f"{self.name} — the grabbing thread died — the traceback above says why: please report it")

    def _grab(self) -> None:
        """Run in the thread: open, read until the end, say how it ended. Reconnecting belongs here, around the block."""
        error: SourceError | None = None
        try:
            capture = self._open_capture()
            try:
                self._read(capture)
            finally:
                capture.release()
        except SourceError as caught:
            error = caught
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _open_capture(self) -> cv2.VideoCapture:
        if isinstance(self._target, str) and "://" in self._target:
            # Only here are the timeouts heard: set() after opening is refused, and other backends ignore them.
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(self._timeouts.open_s * 1000),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(self._timeouts.read_s * 1000),
            ]
            capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, limits)
            if not capture.isOpened():
                raise SourceError(f"{self.name} — cannot be opened — check the address, the network and the password")
        else:
            capture = _open_camera(self._target, self.name)
        with self._changed:
            self.fps = _plausible_fps(capture)
            self._opened, self._last_news = True, time.monotonic()
            self._changed.notify_all()
        return capture

    def _read(self, capture: cv2.VideoCapture) -> None:
        """Put each new frame into the slot until the source is closed; returning False once means the end, for good."""
        while not self._closing:
            started = time.monotonic()
            done, image = capture.read()
            now = time.monotonic()
            if not done or image is None:
                stalled = now - started >= 0.9 * self._timeouts.read_s
                found = f"no frame for {now - started:.0f} s" if stalled else "the stream ended"
                raise SourceError(
                    f"{self.name} — {found} after {self.captured} frames — check the camera and the network"
                )
            with self._changed:
                if self._closing:
                    return
                index, self.captured = self.captured, self.captured + 1
                self.dropped += self._slot is not None
                self._slot = _frame(index, image, self.name)
                self._last_news = now
                self._changed.notify_all()


def _frame(index: int, image_bgr: object, source: str, name: str | None = None) -> Frame:
    return Frame(
        index=index,
        name=name if name is not None else f"{index:06d}",
        source=source,
        image_bgr=np.asarray(image_bgr, np.uint8),
        captured_at=time.monotonic(),
    )


def _open_camera(target: int | str, name: str) -> cv2.VideoCapture:
    device = Path(f"/dev/video{target}") if isinstance(target, int) else Path(target)
    # OpenCV is not asked about a device that is not there: it would try every backend and log about each.
    if sys.platform != "linux" or device.exists():
        capture = cv2.VideoCapture(target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            return capture
        capture.release()
    found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "no camera"
    listing = f" — found {found} in /dev" if sys.platform == "linux" else ""
    raise SourceError(
        f"{name} — cannot be opened{listing} — connect it, close other programs that use it, and check your permissions (Linux: group 'video')"
    )


def _plausible_fps(capture: cv2.VideoCapture) -> float | None:
    """Return the nominal rate; containers without one say 0, NaN or their clock's rate, such as 1000 or 90000."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _MAX_FPS else None


def _not_empty(paths: list[Path], where: Path) -> list[Path]:
    if not paths:
        raise InputError(f"{printable(where)} — no images found — expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems, with "_2", "_3" … where two are the same, also in another case: some disks keep only one."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, count = path.stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{path.stem}_{count}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _all_problems(problems: list[str], total: int) -> str:
    if total == 1:
        return problems[0]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"{len(problems)} of {total} images cannot be used: {'; '.join(problems[:5])}{more}"
