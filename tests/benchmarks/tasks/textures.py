"""Regions without edges: four textures of the same brightness, contrast and coarseness, which fade into each other.

Only the statistics of a neighbourhood tell them apart: plain noise, strokes of one direction, bright drops, and a net
of dark lines. The direction of the strokes differs per picture, so a picture may be turned and mirrored.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks import dataset_folder
from tasks.surfaces import Floats, photograph, smooth_field, uneven_light

SIZE = (192, 192)
IMAGES = {"train": 120, "val": 30, "test": 60}
CLASSES = ["plain", "strokes", "drops", "net"]


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, CLASSES, draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    # The class of a pixel is the highest of four smooth fields; where two are nearly as high, their textures mix.
    fields = np.stack([smooth_field(rng, SIZE, 26) for _ in CLASSES])
    ids = fields.argmax(0).astype(np.uint8)
    weights = np.exp(12 * (fields - fields.max(0)))
    weights /= np.sqrt((weights**2).sum(0))
    coarse_px = rng.uniform(1.6, 2.2)
    mixed = sum(weight * texture for weight, texture in zip(weights, _textures(rng, coarse_px), strict=True))
    light = (rng.uniform(100, 150) + rng.uniform(28, 42) * mixed) * uneven_light(rng, SIZE, 0.3)
    tint = 1 + rng.uniform(-0.1, 0.1, 3).astype(np.float32)
    return photograph(rng, np.asarray(light, np.float32)[..., None] * tint, (0.4, 0.7), (4, 8)), ids


def _textures(rng: np.random.Generator, coarse_px: float) -> list[Floats]:
    """Return the four textures in the order of their classes, (H, W) each, mean 0 and standard deviation 1."""
    plain = smooth_field(rng, SIZE, coarse_px)
    long = smooth_field(rng, (2 * SIZE[0], 2 * SIZE[1]), 2.5 * coarse_px, 0.7 * coarse_px)
    turn = cv2.getRotationMatrix2D((SIZE[1], SIZE[0]), rng.uniform(0, 180), 1)
    turned = cv2.warpAffine(long, turn, (2 * SIZE[1], 2 * SIZE[0]), borderMode=cv2.BORDER_REFLECT)
    strokes = turned[SIZE[0] // 2 : -SIZE[0] // 2, SIZE[1] // 2 : -SIZE[1] // 2]
    drops = np.exp(0.8 * smooth_field(rng, SIZE, coarse_px))
    net = np.minimum(np.abs(smooth_field(rng, SIZE, 1.5 * coarse_px)), 1.2)
    return [np.asarray((t - t.mean()) / t.std(), np.float32) for t in (plain, strokes, drops, net)]
