"""Smooth masks over time: keep them stable where the picture does not move, and follow at once where it does."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import to_channels

_LEAST_WEIGHT = 0.2
"""Weight of the new frame where nothing moves, small enough that one wrong frame stays below ``_MARGIN``."""
_LEAST_MOTION, _FULL_MOTION = 2.0, 8.0
"""Motion around a pixel, in grey levels above the noise, from which the weight rises and at which it reaches 1."""
_MARGIN = 0.3
"""Difference of probability by which another class must win where nothing moves."""
_MOST_NOISE = 4.0
"""Upper limit of the estimated noise, in grey levels; if everything changes by more, the camera moves."""
_CUT_SHARE = 0.6
"""Share of moving pixels above which the frame counts as a new scene."""
_REACH_PX = 5
"""Side in pixels, at the model's size, of the windows that average motion and then spread it."""
_MAX_GAP_S = 2.0
"""Seconds between two frames after which the earlier one is ignored."""


class TemporalSmoother:
    """Temporal filter of one stream that averages probabilities and applies hysteresis to class ids.

    Each pixel's average moves towards the new frame by a weight: small where the picture does not move, 1 where it
    moves, so that moving objects are not smeared. A pixel keeps its class until another class wins by a margin, which
    shrinks to 0 where the picture moves. Not thread-safe; use one smoother per stream.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all earlier frames: the next one is not smoothed."""
        self._frame = np.empty((0, 0), np.uint8)
        self._average = np.empty((0, 0, 0), np.float32)
        self._work = np.empty((0, 0, 0), np.float32)
        self._ids = np.empty((0, 0), np.uint8)
        self._at_s = 0.0

    def __call__(
        self, planes: NDArray[np.float32], frame: NDArray[np.uint8], at_s: float
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Smooth the probabilities of the next frame.

        After a gap of two seconds, a cut or a change of size, earlier frames are forgotten.

        Args:
            planes: (L, h, w) float32 probabilities, one plane per class; for a binary model the one of class 1.
            frame: (h, w, C) uint8 frame at the same size, grey (C = 1) or BGR (C = 3).
            at_s: Time of the frame in seconds, on a monotonic clock.

        Returns:
            (L, h, w) float32 smoothed probabilities, in memory that the next call overwrites, and (h, w) uint8 class
            ids, which belong to the caller.
        """
        grey = frame[:, :, 0].copy() if frame.shape[2] == 1 else to_channels(frame, 1)
        weight = None
        if self._average.shape == planes.shape and at_s - self._at_s <= _MAX_GAP_S:
            weight = _weight_of(motion_between(self._frame, grey))
        if weight is None:
            self._average = planes.copy()
            self._work = np.empty_like(planes)
            self._ids = class_ids_of(planes, axis=0)
        else:
            np.subtract(planes, self._average, out=self._work)
            self._work *= weight
            self._average += self._work
            self._ids = self._held_ids(weight)
        self._frame, self._at_s = grey, at_s
        return self._average, self._ids.copy()

    def _held_ids(self, weight: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return (h, w) uint8 class ids, in which the previous class of a pixel has a margin over the others."""
        scores = self._work
        np.copyto(scores, self._average)
        margin = (1 - weight) * np.float32(_MARGIN)
        if len(scores) == 1:
            # To change its class, a pixel must be above or below one half by half the margin.
            margin *= self._ids - np.float32(0.5)
            scores += margin
        else:
            for class_id, score in enumerate(scores):
                cv2.add(score, margin, dst=score, mask=np.equal(self._ids, class_id).view(np.uint8))
        return class_ids_of(scores, axis=0)


def motion_between(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure how much the picture changed around each pixel from one frame to the next.

    A change of the mean brightness (a lamp, a camera's exposure) is subtracted. So is the noise: change is averaged
    over neighbours, and the level that the stillest quarter of the pixels stays below is subtracted.

    Args:
        before: (h, w) uint8 luma of the earlier frame.
        now: (h, w) uint8 luma of the later frame.

    Returns:
        (h, w) float32 in grey levels, at least 0.
    """
    brighter = cv2.mean(now)[0] - cv2.mean(before)[0]
    change = np.asarray(cv2.addWeighted(now, 1, before, -1, -brighter, dtype=cv2.CV_32F), np.float32)
    np.abs(change, out=change)
    cv2.blur(change, (_REACH_PX, _REACH_PX), dst=change)
    sample = change[::4, ::4].reshape(-1)
    noise = np.partition(sample, len(sample) // 4)[len(sample) // 4]
    change -= min(_MOST_NOISE, float(noise))
    return np.maximum(change, 0, out=change)


def _weight_of(motion: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the weight of the new frame, (h, w) float32; None if it counts as a new scene."""
    motion -= _LEAST_MOTION
    motion *= (1 - _LEAST_WEIGHT) / (_FULL_MOTION - _LEAST_MOTION)
    motion += _LEAST_WEIGHT
    np.clip(motion, _LEAST_WEIGHT, 1, out=motion)
    if np.count_nonzero(motion == 1) > _CUT_SHARE * motion.size:
        return None
    return np.asarray(cv2.dilate(motion, np.ones((_REACH_PX, _REACH_PX), np.uint8)), np.float32)
