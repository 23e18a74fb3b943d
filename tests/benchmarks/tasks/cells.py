"""Cells that touch: grey pictures as of a fluorescence microscope, with gaps of 1–2 pixels between the cells.

The gaps are background. They decide whether cells can be counted, so the boundary score says more than IoU.
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


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, ["background", "cell"], draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    spacing = rng.uniform(14, 22)
    nearest, second, owner, centers = _distances(rng, spacing)
    colony = smooth_field(rng, SIZE, 24) > rng.uniform(-0.9, 0.1)
    alive = rng.random(len(centers)) < 0.93
    inside = colony[_rows(centers), _columns(centers)] & alive
    # Between two centres, the distance to the nearest changes half as fast as the difference of the two.
    gap_px = rng.uniform(1.2, 2.4)
    cell = inside[owner] & (second - nearest > gap_px) & (nearest < 0.72 * spacing)
    cell = cv2.morphologyEx(cell.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # Each cell has its own brightness, a nucleus that is brighter or not, and granules; the gap is only a little darker.
    brightness = rng.uniform(70, 150) * rng.uniform(0.7, 1.3, len(centers)).astype(np.float32)
    nucleus = (
        np.exp(-((nearest / (0.28 * spacing)) ** 2)) * rng.uniform(-0.25, 0.5, len(centers)).astype(np.float32)[owner]
    )
    tone = brightness[owner] * (1 + nucleus + 0.12 * smooth_field(rng, SIZE, 1.2))
    dim = rng.uniform(15, 40)
    light = np.where(cell > 0, tone, dim + 5 * smooth_field(rng, SIZE, 8)).astype(np.float32)
    # Light scattered by the cells fills the gaps.
    light += rng.uniform(0.15, 0.35) * cv2.GaussianBlur(light, (0, 0), 4)
    _draw_debris(rng, light)
    light *= uneven_light(rng, SIZE, 0.3)
    return photograph(rng, light, (1.0, 1.6), (6, 14)), cell


def _distances(rng: np.random.Generator, spacing: float) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Return each pixel's distances to the nearest centre of a cell and to the next, the nearest one, and all centres."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    # Cells are no polygons: the pixels' places are bent before they are measured.
    rows += rng.uniform(1, 2) * smooth_field(rng, SIZE, 7)
    columns += rng.uniform(1, 2) * smooth_field(rng, SIZE, 7)
    grid = np.mgrid[-1 : SIZE[0] // spacing + 2, -1 : SIZE[1] // spacing + 2].reshape(2, -1).T
    grid[:, 1] += 0.5 * (grid[:, 0] % 2)
    centers = (spacing * (grid + rng.uniform(-0.28, 0.28, grid.shape))).astype(np.float32)
    distances = np.hypot(rows[..., None] - centers[:, 0], columns[..., None] - centers[:, 1])
    two = np.partition(distances, 1, axis=-1)[..., :2]
    return two[..., 0], two[..., 1], distances.argmin(-1), centers


def _rows(centers: Floats) -> NDArray[np.int64]:
    return np.clip(centers[:, 0], 0, SIZE[0] - 1).astype(np.int64)


def _columns(centers: Floats) -> NDArray[np.int64]:
    return np.clip(centers[:, 1], 0, SIZE[1] - 1).astype(np.int64)


def _draw_debris(rng: np.random.Generator, light: Floats) -> None:
    """Draw bright specks and threads, which are no cells."""
    for _ in range(int(rng.integers(2, 10))):
        speck = np.zeros(SIZE, np.float32)
        middle = tuple(int(v) for v in rng.uniform(0, 1, 2) * SIZE[::-1])
        axes = (int(rng.integers(1, 8)), int(rng.integers(1, 3)))
        cv2.ellipse(speck, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        light += rng.uniform(30, 110) * cv2.GaussianBlur(speck, (0, 0), 0.8)
