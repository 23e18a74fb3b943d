"""Random variation of image and mask pairs: flip, scale, crop, brightness, contrast."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.labels import IGNORE

SCALE = (0.8, 1.6)
"""Range of the zoom; above 1 a part of the picture fills the frame, below 1 the picture is smaller than the frame."""
BRIGHTNESS = 40.0
"""Largest shift of all pixels, in 0–255."""
CONTRAST = (0.7, 1.4)
"""Range of the factor around mid-grey."""


def augment(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a random variant of a pair at its own size.

    Args:
        image: (H, W, C) uint8.
        mask: (H, W) uint8 class ids.
        rng: Source of randomness; the same state gives the same variant.

    Returns:
        Image and mask; what lies outside the picture is mirrored in the image and ``IGNORE`` in the mask.
    """
    height_px, width_px = mask.shape
    matrix = _random_affine(height_px, width_px, rng)
    size = (width_px, height_px)
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(
        mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE
    )
    lit = cv2.LUT(moved, _random_tones(rng)).reshape(image.shape)
    return np.asarray(lit, np.uint8), np.asarray(labels, np.uint8)


def _random_affine(height_px: int, width_px: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a (2, 3) matrix that flips in half of the cases, scales, and shifts without leaving the picture."""
    scale = float(np.exp(rng.uniform(*np.log(SCALE))))
    shift_x, shift_y = rng.uniform(size=2) * (width_px * (1 - scale), height_px * (1 - scale))
    if rng.random() < 0.5:
        return np.array([[-scale, 0, shift_x + scale * (width_px - 1)], [0, scale, shift_y]])
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]])


def _random_tones(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a (256,) table that changes contrast around mid-grey, then brightness."""
    tones = (np.arange(256) - 127.5) * np.exp(rng.uniform(*np.log(CONTRAST))) + 127.5
    return np.clip(tones + rng.uniform(-BRIGHTNESS, BRIGHTNESS), 0, 255).round().astype(np.uint8)
