"""Paint surfaces: noise, colours and their mixtures, in linear light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Tint = tuple[float, float, float]
"""Linear reflectance, BGR, 0–1."""


def noise(rng: np.random.Generator, height: int, width: int, cells_y: int, cells_x: int, octaves: int) -> Floats:
    """Sum smooth random grids, each twice as fine and 0.6 as strong; (H, W), std about 1."""
    total = np.zeros((height, width), np.float32)
    power = 0.0
    for octave in range(octaves):
        rows, columns = (min(c << octave, s) for c, s in ((cells_y, height), (cells_x, width)))
        grid = rng.standard_normal((rows, columns), np.float32)
        weight = 0.6**octave
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        power += weight**2
    return total / np.float32(0.75 * np.sqrt(power))


def mix(low_bgr: Floats, high_bgr: Floats, amount: Floats) -> Floats:
    """Blend two (3,) colours by an (H, W) amount, clipped to 0-1."""
    return low_bgr + (high_bgr - low_bgr) * np.clip(amount, 0, 1)[..., None]


def tint(rng: np.random.Generator, choices: tuple[Tint, ...], spread: float = 0.15) -> Floats:
    """Return one of the linear BGR colours, (3,), each channel varied by up to ``spread`` of itself."""
    base = np.array(choices[int(rng.integers(len(choices)))], np.float32)
    common = rng.uniform(1 - spread, 1 + spread)
    return (base * common * rng.uniform(1 - spread / 2, 1 + spread / 2, 3)).astype(np.float32)


def warp(image: Floats, move: NDArray[np.float64], size: tuple[int, int], border: int) -> Floats:
    """Move an image by a 2 × 3 matrix into a window of (width, height); typed, because cv2 loses the dtype."""
    return np.asarray(cv2.warpAffine(image, move, size, borderMode=border), np.float32)
