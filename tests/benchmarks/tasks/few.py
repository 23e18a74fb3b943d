"""Thirty pictures in all to learn from: leaves and stones on the ground, whose colours overlap.

24 images train and 6 validate. Each picture has another ground and light, so that the 60 of the test split show what
was learned beyond them.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks import dataset_folder, shapes
from tasks.surfaces import Floats, bgr, paint, photograph, rough_field, smooth_field, uneven_light

SIZE = (192, 192)
IMAGES = {"train": 24, "val": 6, "test": 60}
LEAF, STONE = 1, 2


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, ["background", "leaf", "stone"], draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    canvas = _ground(rng)
    ids = np.zeros(SIZE, np.uint8)
    for number in range(int(rng.integers(4, 9))):
        # The first two are a leaf and a stone, so that every picture has both.
        kind = (LEAF, STONE)[number] if number < 2 else int(rng.integers(LEAF, STONE + 1))
        region, surface = (_leaf if kind == LEAF else _stone)(rng)
        shadow = cv2.GaussianBlur(region, (0, 0), 3)
        canvas *= 1 - 0.45 * (shadow * (1 - region))[..., None]
        paint(canvas, region, surface)
        ids[region >= 0.5] = kind
    light = canvas * uneven_light(rng, SIZE, 0.5)[..., None]
    return photograph(rng, light, (0.5, 1.2), (4, 10)), ids


def _ground(rng: np.random.Generator) -> Floats:
    """Return soil, sand, moss or gravel."""
    tones = ((55, 80, 105), (130, 165, 185), (60, 110, 85), (125, 125, 125))
    color = bgr(tones[int(rng.integers(len(tones)))]) * rng.uniform(0.8, 1.2)
    coarse = rough_field(rng, SIZE, (0.8, 2, rng.uniform(4, 12)))
    return color * (1 + rng.uniform(0.15, 0.3) * coarse)[..., None] + 8 * smooth_field(rng, SIZE, 2)[..., None]


def _leaf(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a pointed leaf, green to brown, with a midrib and side veins."""
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(17, 30)
    center = _somewhere(rng)
    along = np.linspace(-1, 1, 30)
    width = rng.uniform(0.3, 0.5) * (1 - along**2) ** 0.8 * (1 - 0.3 * along)
    outline = np.concatenate([np.stack([along, width], 1), np.stack([along, -width], 1)[::-1]])
    region = shapes.fill(shapes.place(outline, center, radius, angle), SIZE)
    tones = ((60, 140, 90), (50, 130, 150), (45, 85, 130))
    color = bgr(tones[int(rng.integers(len(tones)))]) * rng.uniform(0.75, 1.2)
    x, y = _own_axes(center, angle)
    veins = np.exp(-((y / 1.2) ** 2)) + 0.6 * np.exp(-(((x - np.abs(y)) % 7 - 3.5) ** 2))
    tone = 1 + 0.2 * veins + 0.08 * smooth_field(rng, SIZE, 3)
    return region, color * tone[..., None]


def _stone(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a stone with round corners, grey to brown, darker on one side and speckled."""
    angle, radius, aspect = rng.uniform(0, 2 * np.pi), rng.uniform(10, 22), rng.uniform(0.5, 1)
    center = _somewhere(rng)
    region = shapes.fill(shapes.place(shapes.wavy(rng), center, radius, angle, aspect), SIZE)
    tones = ((120, 120, 120), (100, 125, 145), (75, 95, 120), (95, 120, 105))
    color = bgr(tones[int(rng.integers(len(tones)))]) * rng.uniform(0.7, 1.3)
    x, y = _own_axes(center, rng.uniform(0, 2 * np.pi))
    tone = 1 + 0.25 * np.tanh(x / radius) - 0.1 * (y / radius) ** 2 + 0.12 * smooth_field(rng, SIZE, 0.8)
    return region, color * tone[..., None]


def _somewhere(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(15, SIZE[1] - 15)), float(rng.uniform(15, SIZE[0] - 15))


def _own_axes(center_px: tuple[float, float], angle: float) -> tuple[Floats, Floats]:
    """Return each pixel's distance along and across an object's axis, (H, W) each."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    dx, dy = columns - center_px[0], rows - center_px[1]
    return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
