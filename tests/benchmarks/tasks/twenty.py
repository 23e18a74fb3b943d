"""Twenty classes: five shapes, each with four surfaces, and the background.

A class is a shape and a surface, so neither alone tells it. Each picture has seven classes, drawn at random.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tasks import dataset_folder, shapes
from tasks.surfaces import Floats, bgr, paint, photograph, rough_field, smooth_field, uneven_light

SIZE = (224, 224)
IMAGES = {"train": 300, "val": 60, "test": 100}
OBJECTS = 7
OUTLINES = {
    "disc": shapes.regular(40),
    "square": shapes.regular(4),
    "triangle": shapes.regular(3),
    "star": shapes.star(5, 0.45),
    "cross": shapes.cross(0.3),
}
SURFACES = ("red", "blue", "striped", "dotted")
CLASSES = ["background", *(f"{surface}_{shape}" for shape in OUTLINES for surface in SURFACES)]


def write(folder: Path, seed: int) -> None:
    dataset_folder.write_drawn(folder, seed, IMAGES, CLASSES, draw)


def draw(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    tone = rng.uniform(80, 170) + rng.uniform(10, 22) * rough_field(rng, SIZE)
    canvas = tone[..., None] * (1 + rng.uniform(-0.15, 0.15, 3).astype(np.float32))
    _draw_scribbles(rng, canvas)
    ids = np.zeros(SIZE, np.uint8)
    for class_id in 1 + rng.permutation(len(CLASSES) - 1)[:OBJECTS]:
        outline = list(OUTLINES.values())[(class_id - 1) // len(SURFACES)]
        surface = SURFACES[(class_id - 1) % len(SURFACES)]
        region = _place(rng, outline, ids)
        paint(canvas, region * rng.uniform(0.85, 1), _surface(rng, surface))
        ids[region >= 0.5] = class_id
    light = canvas * uneven_light(rng, SIZE, 0.35)[..., None]
    return photograph(rng, light, (0.4, 0.9), (4, 9)), ids


def _place(rng: np.random.Generator, outline: shapes.Outline, ids: NDArray[np.uint8]) -> Floats:
    """Return the coverage of the outline where it hides least of the objects so far, of eight places."""
    best, least = np.zeros(SIZE, np.float32), np.inf
    radius, aspect = rng.uniform(17, 30), rng.uniform(0.8, 1)
    for _ in range(8):
        center = (float(rng.uniform(20, SIZE[1] - 20)), float(rng.uniform(20, SIZE[0] - 20)))
        region = shapes.fill(shapes.place(outline, center, radius, rng.uniform(0, 2 * np.pi), aspect), SIZE)
        hidden = np.count_nonzero(ids[region > 0.5])
        if hidden < least:
            best, least = region, hidden
    return best


def _surface(rng: np.random.Generator, name: str) -> Floats:
    """Return the colours of a surface, (H, W, 3): plain red or blue, or two of four colours in stripes or dots."""
    grain = 1 + 0.1 * smooth_field(rng, SIZE, 1.5)[..., None]
    if name in ("red", "blue"):
        color = bgr((60, 60, 190) if name == "red" else (185, 95, 60)) * rng.uniform(0.7, 1.2)
        return (color + rng.uniform(-15, 15, 3).astype(np.float32)) * grain
    choices = ((60, 60, 190), (185, 95, 60), (80, 170, 170), (215, 215, 215))
    first, second = (bgr(choices[k]) * rng.uniform(0.75, 1.15) for k in rng.permutation(len(choices))[:2])
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 10)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    waves = np.sin(2 * np.pi * along / period)
    if name == "dotted":
        waves = 2 * np.minimum(waves, np.sin(2 * np.pi * across / period))
    share = 1 / (1 + np.exp(-4 * waves))
    return (first + (second - first) * share[..., None]) * grain


def _draw_scribbles(rng: np.random.Generator, canvas: Floats) -> None:
    """Draw shapeless spots of the objects' colours, which belong to the background."""
    for _ in range(int(rng.integers(3, 7))):
        outline = shapes.wavy(rng, 6, 0.3)
        center = (float(rng.uniform(0, SIZE[1])), float(rng.uniform(0, SIZE[0])))
        region = shapes.fill(shapes.place(outline, center, rng.uniform(5, 14), 0, rng.uniform(0.3, 1)), SIZE)
        paint(canvas, region, _surface(rng, SURFACES[int(rng.integers(len(SURFACES)))]))
