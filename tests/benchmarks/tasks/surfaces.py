"""Paint what all drawn tasks share: fields of noise, uneven light, and what a camera adds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Size = tuple[int, int]
"""(height, width) in pixels."""


def smooth_field(rng: np.random.Generator, size: Size, sigma_px: float, sigma_y_px: float | None = None) -> Floats:
    """Return white noise blurred by so many pixels, with mean 0 and standard deviation 1, (H, W)."""
    # The margin is cut off again, because the blur mirrors the noise at its borders.
    margin = int(3 * max(sigma_px, sigma_y_px or 0)) + 1
    white = rng.standard_normal((size[0] + 2 * margin, size[1] + 2 * margin), np.float32)
    field = cv2.GaussianBlur(white, (0, 0), sigma_px, sigmaY=sigma_y_px or sigma_px)[margin:-margin, margin:-margin]
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def rough_field(rng: np.random.Generator, size: Size, sigmas_px: tuple[float, ...] = (1, 3, 9, 27)) -> Floats:
    """Return a sum of smooth fields from fine to coarse, with mean 0 and standard deviation 1, (H, W)."""
    total = sum(smooth_field(rng, size, sigma) for sigma in sigmas_px)
    return np.asarray(total / np.sqrt(len(sigmas_px)), np.float32)


def uneven_light(rng: np.random.Generator, size: Size, strength: float) -> Floats:
    """Return factors around 1 that change slowly over the picture, (H, W): a slope and a broad cloud."""
    rows, columns = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rows * np.sin(angle) + columns * np.cos(angle)
    return np.asarray(
        np.exp(strength * (rng.uniform(-1, 1) * slope + 0.4 * smooth_field(rng, size, size[0] / 4))), np.float32
    )


def photograph(
    rng: np.random.Generator, light: Floats, blur_px: tuple[float, float], noise: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return what a camera makes of light on the scale 0–255: blurred, with sensor noise, rounded to uint8."""
    seen = cv2.GaussianBlur(light, (0, 0), rng.uniform(*blur_px))
    seen = seen + rng.uniform(*noise) * rng.standard_normal(light.shape, np.float32)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def bgr(color: tuple[float, float, float]) -> Floats:
    return np.array(color, np.float32)


def paint(canvas: Floats, region: Floats, color: Floats) -> None:
    """Blend a colour, (3,) or (H, W, 3), into a canvas by the region's coverage, (H, W) 0–1; in place."""
    canvas += region[..., None] * (color - canvas)
