"""Temporal smoothing: masks that hold still where the picture does, and follow at once where it moves."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import to_channels

_LEAST_WEIGHT = 0.2
"""Weight of the new frame where nothing moves: a wrong answer of one frame stays below the margin of the hysteresis."""
_LEAST_MOTION, _FULL_MOTION = 2.0, 8.0
"""Change of a pixel's surroundings, in grey levels beyond the noise, from which the weight rises and at which it is 1."""
_MARGIN = 0.3
"""By how much another class must win where nothing moves."""
_MOST_NOISE = 4.0
"""Change, in grey levels, that may pass for noise; where all moves by more, it is the camera that moves."""
_CUT_SHARE = 0.6
"""Where more of the picture moves it is another scene."""
_REACH_PX = 5
"""Motion is averaged over this many pixels of the model's size, and counts for as many around it."""
_MAX_GAP_S = 2.0
"""After a longer silence the past tells nothing of the present."""


class TemporalSmoother:
    """The average over time of one stream's probabilities, and class ids with hysteresis.

    Each pixel's average moves by a weight towards the new frame, a small one where the picture stands still and 1 where
    it moves, so that moving hands are not smeared. A pixel keeps its class until another one wins by a margin, which
    also shrinks to nothing where the picture moves. Not for several threads.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame is taken as it is."""
        self._frame = np.empty((0, 0), np.uint8)
        self._average = np.empty((0, 0, 0), np.float32)
        self._work = np.empty((0, 0, 0), np.float32)
        self._ids = np.empty((0, 0), np.uint8)
        self._at_s = 0.0

    def __call__(
        self, planes: NDArray[np.float32], frame: NDArray[np.uint8], at_s: float
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Take the probabilities of the next frame.

        After a gap of two seconds, a cut or a change of the size, nothing of the past is used.

        Args:
            planes: (L, h, w) float32 probabilities, one plane a class, or one of class 1 for a binary model.
            frame: (h, w, C) uint8, the frame at the same size.
            at_s: When it was, on any clock that does not jump.

        Returns:
            (L, h, w) float32 smoothed probabilities, which the next call overwrites, and (h, w) uint8 class ids.
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
        """Return (h, w) uint8 class ids; the class that a pixel had before has a margin over the others."""
        scores = self._work
        np.copyto(scores, self._average)
        margin = (1 - weight) * np.float32(_MARGIN)
        if len(scores) == 1:
            # Above one half by half the margin to become 1, below it by as much to become 0.
            margin *= self._ids - np.float32(0.5)
            scores += margin
        else:
            for class_id, score in enumerate(scores):
                cv2.add(score, margin, dst=score, mask=np.equal(self._ids, class_id).view(np.uint8))
        return class_ids_of(scores, axis=0)


def motion_between(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much the picture changed around each pixel from one frame to the next, (h, w) float32 grey levels.

    A change of the mean brightness (a lamp, a camera's exposure) is taken out, and so is the noise: an average over
    neighbours, less the level at which even the stillest quarter of the picture changes.

    Args:
        before: (h, w) uint8 luma.
        now: (h, w) uint8 luma.
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
    """Return (h, w) float32, the weight of the new frame, or None if so much moves that it is another scene."""
    motion -= _LEAST_MOTION
    motion *= (1 - _LEAST_WEIGHT) / (_FULL_MOTION - _LEAST_MOTION)
    motion += _LEAST_WEIGHT
    np.clip(motion, _LEAST_WEIGHT, 1, out=motion)
    if np.count_nonzero(motion == 1) > _CUT_SHARE * motion.size:
        return None
    return np.asarray(cv2.dilate(motion, np.ones((_REACH_PX, _REACH_PX), np.uint8)), np.float32)
