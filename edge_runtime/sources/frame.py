"""Define frames and the base class of all sources of frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Kind = Literal["images", "video", "live"]
State = Literal["closed", "opening", "reading", "stalled", "waiting"]
DEFAULT_FPS = 25.0
"""Frames per second that are assumed if neither the container nor the frames say."""
_MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a source.

    Attributes:
        index: Position in the source from 0; gaps in a live source are dropped frames.
        name: Name for files made from the frame, unique in the source: the image file's name without ending, or
            "000017". If the files come from several folders, it begins with these: "day1/0001".
        source: Printable file, device or address of the frame, without control characters and credentials.
        image_bgr: (H, W, 3) uint8 BGR, 0–255.
        captured_at: Time at which the frame was decoded, in seconds of ``time.monotonic``.
        time_s: Time of the frame in a video, in seconds from its first frame; None for other sources.
        decode_ms: Time to decode the frame in milliseconds; 0 if it includes waiting for the frame.
        flags: Faults of the picture, for a live source: "frozen", "black".

    Example:
        >>> from edge_runtime import open_source
        >>> with open_source(folder) as source:
        ...     for frame in source:
        ...         print(frame.index, frame.name, frame.image_bgr.shape)
        0 0 (48, 64, 3)
        1 1 (48, 64, 3)
        2 2 (48, 64, 3)
    """

    index: int
    name: str
    source: str
    image_bgr: NDArray[np.uint8]
    captured_at: float
    time_s: float | None = None
    decode_ms: float = 0.0
    flags: tuple[str, ...] = ()


class Source:
    """Base class of all sources of frames: a context manager that opens and closes the source, and is iterated once.

    Attributes:
        name: Printable name of the source.
        kind: "images" and "video" lose no frame; "live" drops frames for which the consumer has no time. Images can
            also be loaded one by one, in any order.
        fps: Nominal frames per second, if known, after opening.
        total: Number of frames, if known; an estimate for a video. Known for images at once, else after opening.
        captured: Number of frames of the source, including failed and dropped ones.
        dropped: Number of frames that a newer frame replaced before they were taken.
        failed: Number of frames that could not be read.
        reconnects: Number of times that a live source was opened again.
        problems: One line per failure, for the first hundred.
        notes: One line per thing that a person would not expect, for the first hundred: pages that are not read.
        stalls: Number of times that an open live source was silent for longer than its timeout.
        files: Files that are read, over which nothing may be written.
        has_sound: Whether the file holds sound, which is not read.
        stopped: Set by ``stop``.

    Example:
        >>> from edge_runtime import open_source
        >>> with open_source(folder) as source:
        ...     brightest = max(source, key=lambda frame: frame.image_bgr.mean())
        >>> source.kind, source.total, source.captured, source.failed
        ('images', 3, 3, 0)
    """

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.fps: float | None = None
        self.total: int | None = None
        self.captured = self.dropped = self.failed = self.reconnects = 0
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.stalls = 0
        self.files: Sequence[Path] = ()
        self.has_sound = False
        self.stopped = threading.Event()
        self._state: State = "closed"
        self._latest_at: float | None = None

    def stop(self) -> None:
        """End the iteration soon, from any thread, even while it waits for a frame; the source stays open."""
        self.stopped.set()

    @property
    def live(self) -> bool:
        """Whether the kind is "live": frames arrive by themselves and may be dropped."""
        return self.kind == "live"

    @property
    def state(self) -> State:
        """State of the source: "stalled" is open but silent, "waiting" is between two attempts to open it again."""
        return self._state

    @property
    def frame_age_s(self) -> float | None:
        """Seconds since the latest frame was captured; None before the first."""
        latest_at = self._latest_at
        return None if latest_at is None else time.monotonic() - latest_at

    def open(self) -> None:
        """Open the source."""

    def close(self) -> None:
        """Close the source."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order, until the end or ``stop``; each subclass implements it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its frames are read")

    def load(self, index: int) -> Frame | None:
        """Read one frame of a source of kind "images", from any thread.

        Args:
            index: Index of the frame, below ``total``.

        Returns:
            The frame, or None if it cannot be read. Then it is counted as failed, and ``raise_problems`` names it.

        Raises:
            TypeError: The source has another kind, whose frames can only be read in order.
        """
        raise TypeError(f"{self.name} — frames of kind '{self.kind}' are not loaded one by one")

    def raise_problems(self) -> None:
        """Raise an error if images could not be read; other kinds raise while they are iterated.

        Raises:
            InputError: Images could not be read; the message names them.
        """

    def __enter__(self) -> Self:
        self._state = "opening"
        try:
            self.open()
        except BaseException:
            self._state = "closed"
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._state = "closed"

    def _taken(self, frame: Frame) -> Frame:
        """Count a frame that is about to be yielded by a source that drops no frames, and return it."""
        self.captured += 1
        self._state, self._latest_at = "reading", frame.captured_at
        return frame

    def _note(self, text: str) -> None:
        """Keep a note if it is among the first hundred."""
        if len(self.notes) < _MAX_PROBLEMS:
            self.notes.append(text)

    def _failed(self, problem: str) -> None:
        """Count a frame that cannot be read, and keep the problem if it is among the first hundred."""
        self.captured += 1
        self.failed += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


def decoded_frame(index: int, image_bgr: object, source: str, decode_ms: float, time_s: float | None = None) -> Frame:
    """Return a frame, named by its index, of an image that OpenCV has just decoded."""
    return Frame(
        index=index,
        name=f"{index:06d}",
        source=source,
        image_bgr=np.asarray(image_bgr, np.uint8),
        captured_at=time.monotonic(),
        time_s=time_s,
        decode_ms=decode_ms,
    )
