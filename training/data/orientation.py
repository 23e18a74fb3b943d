"""Measure whether pictures have an up and a down, from which it follows whether they may be flipped upside down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

BANDS = 16
"""Horizontal bands of a picture whose classes and brightness are compared, the first with the last and so on."""


class UpAndDown(NamedTuple):
    """How much all pictures agree on what is above and what is below, from 0 to 1: 1 if all have the same difference.

    Of N pictures that have no up, about 1 / √N.
    """

    classes: float
    brightness: float


def up_and_down(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], classes: int) -> UpAndDown:
    """Return how much all pictures agree on what is above and what is below, in classes or in brightness.

    Each picture has a difference between its bands and the same bands upside down. If the pictures have no up, the
    differences point anywhere, and their mean is small beside them.

    Args:
        pairs: (H, W, C) uint8 image and (H, W) uint8 class ids, of any sizes.
        classes: Number of classes; other ids are not counted.

    Example:
        >>> from training.data.orientation import up_and_down
        >>> sky = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 32, axis=1)
        >>> up_and_down([(sky[..., None], sky // 16)] * 4, classes=2)
        UpAndDown(classes=1.0, brightness=1.0)
    """
    labels, brightness = [], []
    for image, ids in pairs:
        rows = np.array([np.bincount(row, minlength=256)[:classes] for row in ids]) / ids.shape[1]
        labels.append(cv2.resize(rows, (classes, BANDS), interpolation=cv2.INTER_AREA))
        bands = cv2.resize(image, (1, BANDS), interpolation=cv2.INTER_AREA)
        brightness.append(bands.reshape(BANDS, -1).mean(axis=1))
    return UpAndDown(classes=_agreement(np.array(labels)), brightness=_agreement(np.array(brightness)))


def _agreement(profiles: NDArray[np.floating]) -> float:
    """Return the length of the mean difference between (N, BANDS, …) and their reverse relative to the typical length."""
    differences = (profiles - profiles[:, ::-1]).astype(np.float64)
    typical = np.sum(np.square(differences)) / len(differences)
    return float(np.sqrt(np.sum(np.square(differences.mean(axis=0))) / typical)) if typical > 1e-6 else 0.0
