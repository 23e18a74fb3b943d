"""Measure how thick the areas of each class are, from which the input size follows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_STAIRCASE = 4 / np.pi
"""Length of a boundary along the pixels' edges relative to its own, the mean over all directions."""


def thickness(masks: Iterable[NDArray[np.uint8]], classes: int) -> NDArray[np.float64]:
    """Return the mean thickness of each class: twice its area per length of its boundary.

    For strips it is the width, for discs the radius; of a class with both, the thinner areas count more, because they
    have more boundary.

    Args:
        masks: (H, W) uint8 class ids, of any sizes; other values than class ids belong to no class.
        classes: Number of classes.

    Returns:
        (classes,) float64, relative to the square root of an image's pixels; NaN for a class that no mask shows, and
        infinite for one that always covers the whole image.

    Example:
        >>> from training.data.thickness import thickness
        >>> bar = np.zeros((100, 100), np.uint8)
        >>> bar[:, 40:44] = 1
        >>> round(float(thickness([bar], 2)[1]), 3)
        0.051
    """
    areas, boundaries = np.zeros(classes), np.zeros(classes)
    for ids in masks:
        areas += np.bincount(ids.ravel(), minlength=256)[:classes] / ids.size
        for here, there in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
            differ = here != there
            both = np.concatenate([here[differ], there[differ]])
            boundaries += np.bincount(both, minlength=256)[:classes] / _STAIRCASE / np.sqrt(ids.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * areas / boundaries
