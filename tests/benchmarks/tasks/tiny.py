"""Tiny objects: orange buoys of 3–6 pixels on the sea, in a thousandth of the pixels.

Foam, gulls, boats and floating wood are of the same size or the same colour, and are none. Every fourth picture has no
buoy.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks import dataset_folder
from tasks.surfaces import Floats, bgr, paint, photograph, smooth_field, uneven_light

SIZE = (256, 256)
IMAGES = {"train": 160, "val": 40, "test": 80}
WITHOUT = 4
"""Of so many pictures, one has no buoy."""
SUBPIXELS = 8
"""An object is drawn so many times larger, so that its border pixels are mixtures."""


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, ["background", "buoy"], draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    canvas = _sea(rng)
    for _ in range(int(rng.integers(15, 60))):
        white = bgr((225, 225, 220)) * rng.uniform(0.7, 1)
        paint(canvas, _spot(rng, rng.uniform(0.6, 2.5), rng.uniform(0.3, 1)), white)
    for _ in range(int(rng.integers(0, 8))):
        brown = bgr((50, 75, 105)) * rng.uniform(0.6, 1.2)
        paint(canvas, _spot(rng, rng.uniform(1, 2.5), rng.uniform(0.2, 0.5)), brown)
    for _ in range(int(rng.integers(0, 3))):
        # The hull has the buoys' colour, and is too long for one.
        paint(canvas, _spot(rng, rng.uniform(6, 11), rng.uniform(0.25, 0.4)), _orange(rng))
    ids = np.zeros(SIZE, np.uint8)
    if index % WITHOUT != WITHOUT // 2:
        for _ in range(int(rng.integers(3, 11))):
            region = _spot(rng, rng.uniform(1.5, 3), rng.uniform(0.8, 1))
            paint(canvas, region * rng.uniform(0.65, 1), _orange(rng))
            ids[region >= 0.5] = 1
    light = canvas * uneven_light(rng, SIZE, 0.3)[..., None]
    return photograph(rng, light, (0.4, 0.8), (4, 9)), ids


def _sea(rng: np.random.Generator) -> Floats:
    """Return waves of one direction in blue, green or grey, with some glitter."""
    deep = bgr((120, 85, 45)) + rng.uniform(-20, 20, 3).astype(np.float32)
    bright = deep + rng.uniform(35, 75)
    waves = smooth_field(rng, SIZE, rng.uniform(4, 9), rng.uniform(1, 2.5)) + 0.6 * smooth_field(rng, SIZE, 2, 1)
    turned = cv2.getRotationMatrix2D((SIZE[1] / 2, SIZE[0] / 2), rng.uniform(-25, 25), 1.3)
    waves = np.asarray(cv2.warpAffine(waves, turned, SIZE[::-1], borderMode=cv2.BORDER_REFLECT), np.float32)
    canvas = deep + (bright - deep) * np.clip(0.35 + 0.25 * waves, 0, 1)[..., None]
    glitter = np.clip(waves - 2.2, 0, 1) * (smooth_field(rng, SIZE, 30) > 0)
    paint(canvas, glitter, bgr((235, 240, 240)))
    return canvas


def _orange(rng: np.random.Generator) -> Floats:
    return bgr((45, 95, 205)) * rng.uniform(0.65, 1.15) + rng.uniform(-15, 15, 3).astype(np.float32)


def _spot(rng: np.random.Generator, radius_px: float, roundness: float) -> Floats:
    """Return the coverage of an ellipse somewhere in the picture, (H, W) 0–1; ``roundness`` is its aspect ratio."""
    region = np.zeros(SIZE, np.float32)
    half = int(np.ceil(radius_px)) + 2
    row, column = (int(rng.integers(half, side - half)) for side in SIZE)
    fine = np.zeros((2 * half * SUBPIXELS, 2 * half * SUBPIXELS), np.float32)
    middle = tuple(int(v) for v in half * SUBPIXELS + rng.uniform(-0.5, 0.5, 2) * SUBPIXELS)
    axes = (int(radius_px * SUBPIXELS), max(1, int(radius_px * roundness * SUBPIXELS)))
    cv2.ellipse(fine, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    window = cv2.resize(fine, (2 * half, 2 * half), interpolation=cv2.INTER_AREA)
    region[row - half : row + half, column - half : column + half] = window
    return region
