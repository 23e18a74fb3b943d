"""What is wrong with a picture, and what the log hears about a source."""

from __future__ import annotations

import logging
import time

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("edge_runtime")
_LOG_EVERY_S = 60.0
_STEP_PX = 16
# A covered lens is not 0: sensors are noisy, and cameras write the time into the picture.
_DARK = 24
_BRIGHT_SHARE = 0.02


class Events:
    """Lines for the log, at most one a minute of each kind: an outage that lasts for weeks must not fill a disk."""

    def __init__(self, name: str) -> None:
        """Take the printable name of the source, which begins each line."""
        self._name = name
        self._logged_at: dict[str, float] = {}

    def __call__(self, kind: str, text: str, level: int = logging.WARNING) -> None:
        """Log a line, unless one of this kind was logged within the last minute."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[kind] = now
            _LOG.log(level, "%s — %s", self._name, text)


class PictureHealth:
    """Finds a picture that stands still, and one that is black, in a sample of its pixels: some 30 µs a frame."""

    def __init__(self, frozen_s: float, events: Events) -> None:
        """Take how long a picture may stay the same, and where changes are told."""
        self._frozen_s = frozen_s
        self._events = events
        self._sample: NDArray[np.uint8] | None = None
        self._changed_at = 0.0
        self._flags: tuple[str, ...] = ()

    def flags(self, image_bgr: NDArray[np.uint8], now: float) -> tuple[str, ...]:
        """Look at the next picture.

        Args:
            image_bgr: (H, W, 3) uint8.
            now: When it was captured, seconds of ``time.monotonic``.

        Returns:
            "frozen" and "black", as far as they hold.
        """
        sample = image_bgr[::_STEP_PX, ::_STEP_PX].copy()
        if self._sample is None or not np.array_equal(sample, self._sample):
            self._sample, self._changed_at = sample, now
        found = {
            "frozen": now - self._changed_at >= self._frozen_s,
            "black": np.count_nonzero(sample > _DARK) <= _BRIGHT_SHARE * sample.size,
        }
        flags = tuple(flag for flag, holds in found.items() if holds)
        if flags != self._flags:
            self._tell(set(flags) - set(self._flags))
            self._flags = flags
        return flags

    def _tell(self, new: set[str]) -> None:
        if "frozen" in new:
            self._events("frozen", f"frozen: the same picture for {self._frozen_s:g} s — restart the camera")
        if "black" in new:
            self._events("black", "the picture is black — check the light, the lens and its cover")
