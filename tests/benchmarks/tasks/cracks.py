"""Thin cracks: lines of 1–2 pixels on concrete, in half a percent of the pixels.

Joints, drips, pores and scratches are as dark or as thin as a crack, and are none. Every fifth picture has no crack.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks import dataset_folder
from tasks.surfaces import Floats, bgr, photograph, rough_field, smooth_field, uneven_light

SIZE = (192, 256)
IMAGES = {"train": 160, "val": 40, "test": 80}
WITHOUT = 5
"""Of so many pictures, one has no crack."""


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, ["background", "crack"], draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    tint = bgr((1, 1, 1)) + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    tone = rng.uniform(110, 190) + rng.uniform(5, 11) * rough_field(rng, SIZE)
    _draw_stains(rng, tone)
    for distract, most in ((_draw_joint, 2), (_draw_drip, 3), (_draw_scratch, 3)):
        for _ in range(int(rng.integers(0, most))):
            distract(rng, tone)
    _draw_pores(rng, tone)
    ids = np.zeros(SIZE, np.uint8)
    if index % WITHOUT != WITHOUT // 2:
        for _ in range(int(rng.integers(1, 4))):
            _draw_crack(rng, tone, ids)
    light = (tone * uneven_light(rng, SIZE, 0.25))[..., None] * tint
    return photograph(rng, light, (0.4, 0.8), (3, 8)), ids


def _draw_crack(rng: np.random.Generator, tone: Floats, ids: NDArray[np.uint8]) -> None:
    """Draw a line whose direction wanders, whose width is 1 or 2 pixels and whose darkness comes and goes."""
    at = np.array([rng.uniform(0.1, 0.9) * SIZE[1], rng.uniform(0.1, 0.9) * SIZE[0]])
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(35, 70)
    thick = 1
    for _ in range(int(rng.integers(20, 50))):
        angle += rng.normal(0, 0.35)
        end = at + rng.uniform(3, 6) * np.array([np.cos(angle), np.sin(angle)])
        thick = int(rng.integers(1, 3)) if rng.random() < 0.2 else thick
        stroke = np.zeros(SIZE, np.uint8)
        # Two lines side by side, because OpenCV draws lines of thickness 2 up to three pixels wide.
        side = np.array([1, 0]) if abs(np.sin(angle)) > abs(np.cos(angle)) else np.array([0, 1])
        for k in range(thick):
            cv2.line(stroke, *(tuple(np.rint(p + k * side).astype(int).tolist()) for p in (at, end)), 1, 1)
        tone[stroke > 0] -= depth * rng.uniform(0.4, 1) * (ids[stroke > 0] == 0)
        ids |= stroke
        at = end


def _draw_joint(rng: np.random.Generator, tone: Floats) -> None:
    """Draw the straight joint of two slabs: from side to side, 3–5 pixels wide."""
    across = bool(rng.integers(2))
    length, other = SIZE[::-1] if across else SIZE
    start, end = (int(v) for v in rng.uniform(0.1, 0.9) * other + np.array([0, rng.uniform(-15, 15)]))
    line = np.zeros(SIZE, np.float32)
    ends = ((0, start), (length, end)) if across else ((start, 0), (end, length))
    cv2.line(line, *ends, 1.0, int(rng.integers(3, 6)))
    tone -= rng.uniform(25, 55) * cv2.GaussianBlur(line, (0, 0), 0.8)


def _draw_drip(rng: np.random.Generator, tone: Floats) -> None:
    """Draw a soft dark trace of water: downwards, 4–8 pixels wide."""
    left, top = int(rng.uniform(0, SIZE[1])), int(rng.uniform(-30, SIZE[0] / 2))
    line = np.zeros(SIZE, np.float32)
    cv2.line(
        line, (left, top), (left + int(rng.normal(0, 6)), top + int(rng.uniform(40, 150))), 1.0, int(rng.integers(4, 9))
    )
    tone -= rng.uniform(10, 30) * cv2.GaussianBlur(line, (0, 0), 2.5)


def _draw_scratch(rng: np.random.Generator, tone: Floats) -> None:
    """Draw a straight scratch of one pixel, brighter than the concrete."""
    at, angle = rng.uniform(0, 1, 2) * SIZE[::-1], rng.uniform(0, np.pi)
    end = at + rng.uniform(15, 70) * np.array([np.cos(angle), np.sin(angle)])
    line = np.zeros(SIZE, np.uint8)
    cv2.line(line, tuple(at.astype(int)), tuple(end.astype(int)), 1, 1)
    tone[line > 0] += rng.uniform(20, 45)


def _draw_pores(rng: np.random.Generator, tone: Floats) -> None:
    for _ in range(int(rng.integers(10, 60))):
        hole = np.zeros(SIZE, np.float32)
        middle = tuple(int(v) for v in rng.uniform(0, 1, 2) * SIZE[::-1])
        axes = tuple(int(v) for v in rng.integers(1, 3, 2))
        cv2.ellipse(hole, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        tone -= rng.uniform(20, 70) * hole


def _draw_stains(rng: np.random.Generator, tone: Floats) -> None:
    stained = np.clip(smooth_field(rng, SIZE, 18) - rng.uniform(0.8, 1.6), 0, 0.6)
    tone -= rng.uniform(20, 60) * stained
