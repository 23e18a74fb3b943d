"""Draw the outlines of the tasks whose objects differ in shape."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks.surfaces import Floats, Size

SUBPIXELS = 4
"""An outline is drawn so many times larger, so that its border pixels are mixtures."""
Outline = NDArray[np.float64]
"""(N, 2) points x, y around (0, 0), at a distance of about 1."""


def regular(corners: int) -> Outline:
    """Return a regular polygon; 40 corners look like a disc."""
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def star(points: int, inner: float) -> Outline:
    """Return a star whose inner corners are at the distance ``inner``."""
    outline = regular(2 * points)
    outline[1::2] *= inner
    return outline


def cross(arm: float) -> Outline:
    """Return a cross whose arms are ``arm`` wide on each side of their middle."""
    quarter = np.array([(1, -arm), (1, arm), (arm, arm)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def wavy(rng: np.random.Generator, waves: int = 4, height: float = 0.12) -> Outline:
    """Return a disc whose radius varies at random."""
    angles = 2 * np.pi * np.arange(40) / 40
    radius = 1 + sum(rng.normal(0, height / k) * np.cos(k * angles + rng.uniform(0, 7)) for k in range(1, waves + 1))
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def place(
    outline: Outline, center_px: tuple[float, float], radius_px: float, angle: float, aspect: float = 1
) -> Outline:
    """Return the outline in pixels of the picture: its second axis shortened by ``aspect``, then turned and moved."""
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return radius_px * (outline * (1, aspect)) @ turn + center_px


def fill(outline_px: Outline, size: Size) -> Floats:
    """Return the coverage of an outline, (H, W) 0–1."""
    fine = np.zeros((size[0] * SUBPIXELS, size[1] * SUBPIXELS), np.uint8)
    cv2.fillPoly(fine, [np.rint(outline_px * SUBPIXELS).astype(np.int32)], 255)
    return np.asarray(cv2.resize(fine, size[::-1], interpolation=cv2.INTER_AREA), np.float32) / 255
