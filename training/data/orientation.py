"""Measure whether pictures have an up and a down, from which it follows whether they may be flipped upside down."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

BANDS = 16
"""Horizontal bands of a picture that are compared, the first with the last and so on."""
_NOTHING = 1e-10
"""Sum of squared differences up to which the upper and the lower half of a picture are the same, up to rounding."""


class Agreement(NamedTuple):
    """How much pictures agree on the difference between above and below.

    Attributes:
        share: 1 if all have the same difference; about 1 / √N if N pictures have no up.
        pictures: Number of pictures in which above and below differ at all.
    """

    share: float
    pictures: int

    def tells_an_up(self, least: float) -> bool:
        """Whether the share is above ``least``, and twice as high as that of chance."""
        return self.share > max(least, 2 / math.sqrt(max(1, self.pictures)))


def up_and_down(
    pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], classes: int
) -> tuple[tuple[Agreement, ...], Agreement]:
    """Return how much pictures agree on where each class is, above or below, and on which half is brighter.

    Each picture has a difference between its bands and the same bands upside down. If the pictures have no up, the
    differences point anywhere, and their mean is small beside them.

    Args:
        pairs: (H, W, C) uint8 image and (H, W) uint8 class ids, of any sizes.
        classes: Number of classes; other ids are not counted.

    Example:
        >>> from training.data.orientation import up_and_down
        >>> sky = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 32, axis=1)
        >>> up_and_down([(sky[..., None], sky // 16)] * 4, classes=2)[1]
        Agreement(share=1.0, pictures=4)
    """
    labels, brightness = [], []
    for image, ids in pairs:
        rows = np.array([np.bincount(row, minlength=256)[:classes] for row in ids]) / ids.shape[1]
        labels.append(cv2.resize(rows, (classes, BANDS), interpolation=cv2.INTER_AREA))
        bands = cv2.resize(image, (1, BANDS), interpolation=cv2.INTER_AREA)
        brightness.append(bands.reshape(BANDS, -1).mean(axis=1))
    if not labels:
        return (Agreement(0.0, 0),) * classes, Agreement(0.0, 0)
    by_class = np.moveaxis(np.array(labels), 2, 0)
    return tuple(_agreement(profiles) for profiles in by_class), _agreement(np.array(brightness))


def _agreement(profiles: NDArray[np.floating]) -> Agreement:
    """Return the length of the mean difference between (N, BANDS) and their reverse relative to the typical length."""
    differences = (profiles - profiles[:, ::-1]).astype(np.float64)
    squares = np.sum(np.square(differences), axis=1)
    differences, squares = differences[squares > _NOTHING], squares[squares > _NOTHING]
    if not len(squares):
        return Agreement(0.0, 0)
    share = np.sqrt(np.sum(np.square(differences.mean(axis=0))) / squares.mean())
    return Agreement(min(1.0, float(share)), len(squares))
