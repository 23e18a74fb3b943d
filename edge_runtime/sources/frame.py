"""A frame, and what every source of frames has in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Kind = Literal["images", "video", "live"]
State = Literal["closed", "opening", "reading", "stalled", "waiting"]
_MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a source.

    Attributes:
        index: Position in the source from 0; in a live source gaps are dropped frames.
        name: A name for files made from it, unique in the source: the image file's stem, or "000017".
        source: The file, device or address it came from, fit to print: without control characters or credentials.
        image_bgr: (H, W, 3) uint8 BGR, 0–255.
        captured_at: When it was decoded, seconds of ``time.monotonic``.
        decode_ms: Time that decoding it took; 0 where it cannot be told from waiting for it.
        flags: What is wrong with the picture of a live source: "frozen", "black".

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
    decode_ms: float = 0.0
    flags: tuple[str, ...] = ()


class Source:
    """A context manager that opens a source and closes it; between, it is iterated once. The base of every kind of source.

    Attributes:
        name: What it is, fit to print.
        kind: Images and videos lose no frame; a live source drops what the consumer has no time for. Images are also
            loaded one by one, in any order.
        fps: Nominal frames per second, where known; after opening.
        total: Number of frames, where known; for a video an estimate; after opening, for images at once.
        captured: Frames that the source had, also those that failed or were dropped.
        dropped: Frames that a newer one replaced before anyone took them.
        failed: Files that could not be read.
        reconnects: Times that a live source was opened again.
        problems: One line for each failure, of the first hundred.
        stalls: Times that an open live source fell silent for longer than its timeout.
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
        self.stalls = 0
        self.stopped = threading.Event()
        self._state: State = "closed"
        self._latest_at: float | None = None

    def stop(self) -> None:
        """End the iteration soon, from any thread, also while it waits for a frame; gives nothing back yet."""
        self.stopped.set()

    @property
    def live(self) -> bool:
        """Whether frames come by themselves and may be dropped."""
        return self.kind == "live"

    @property
    def state(self) -> State:
        """What it is doing: "stalled" is open but silent, "waiting" is between two attempts to open it again."""
        return self._state

    @property
    def frame_age_s(self) -> float | None:
        """Seconds since the latest frame was captured; None before the first."""
        latest_at = self._latest_at
        return None if latest_at is None else time.monotonic() - latest_at

    def open(self) -> None:
        """Open what needs opening."""

    def close(self) -> None:
        """Give back what was opened."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, in order, until the end or ``stop``; every kind of source has its own."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its frames are read")

    def load(self, index: int) -> Frame | None:
        """Read one frame of a source of kind "images", from any thread.

        Args:
            index: Below ``total``.

        Returns:
            The frame, or None where it cannot be read: it is counted as failed, and ``raise_problems`` names it.

        Raises:
            TypeError: It is of another kind, whose frames come in their order only.
        """
        raise TypeError(f"{self.name} — frames of kind '{self.kind}' are not loaded one by one")

    def raise_problems(self) -> None:
        """Say which images could not be read; other kinds say so while they are iterated.

        Raises:
            InputError: There are some: it names them.
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
        """Count a frame that is about to be handed out by a source that drops none."""
        self.captured += 1
        self._state, self._latest_at = "reading", frame.captured_at
        return frame

    def _failed(self, problem: str) -> None:
        """Count a frame that cannot be used; a source that runs for weeks does not remember every one."""
        self.captured += 1
        self.failed += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


def decoded_frame(index: int, image_bgr: object, source: str, decode_ms: float) -> Frame:
    """Return what OpenCV just decoded as a frame named by its index."""
    return Frame(
        index=index,
        name=f"{index:06d}",
        source=source,
        image_bgr=np.asarray(image_bgr, np.uint8),
        captured_at=time.monotonic(),
        decode_ms=decode_ms,
    )
