"""Draw grey pictures of magnetic tiles with rare defects: each tile at several exposures, most without a defect.

The traits are those of the public set of magnetic tiles (Huang, Qiu, Yuan: Surface defect saliency of magnetic tile, The
Visual Computer 2020): some 1,344 grey pictures of about 324×270, 71 % of them without a defect, 2.9 % of the pixels
defects of five kinds, and no group in the names. No picture or figure of the set itself is used.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tasks.dataset_folder import write_classes, write_pair

TILES = {"train": 285, "val": 60, "test": 100}
"""Number of tiles per split; each is photographed ``EXPOSURES`` times, so that near copies stay in one split."""
EXPOSURES = 4
WITHOUT_DEFECT = 0.71

Grey = NDArray[np.float32]
"""(H, W) float32, light from 0 to 1."""
Mask = NDArray[np.uint8]
"""(H, W) uint8, 1 where the tile has a defect."""


def write(folder: Path, seed: int) -> None:
    for part, (split, tiles) in enumerate(TILES.items()):
        for place in range(tiles):
            rng = np.random.default_rng([seed, part, place])
            light, mask = draw_tile(place, rng)
            number = rng.integers(10**5, 10**6)
            for exposure in range(1, EXPOSURES + 1):
                write_pair(folder / split, f"exp{exposure}_num_{number}_{place}.png", photograph(light, rng), mask)
    write_classes(folder, ["background", "defect"])


def draw_tile(place: int, rng: np.random.Generator) -> tuple[Grey, Mask]:
    """Return a tile's light and its mask; most tiles have no defect.

    The place of the tile in its split says whether it has a defect and which, so that every split has the same shares.
    """
    height, width = int(rng.integers(230, 330)), int(rng.integers(260, 380))
    light = _surface(height, width, rng)
    mask = np.zeros((height, width), np.uint8)
    before, after = (int(count * (1 - WITHOUT_DEFECT)) for count in (place, place + 1))
    if after > before:
        _KINDS[before % len(_KINDS)](light, mask, rng)
    return light, mask


def photograph(light: Grey, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a photograph of a tile, (H, W) uint8, at a random exposure, a little shifted light, and with noise."""
    height, width = light.shape
    down, across = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width) - 0.5
    slope = rng.normal(0, 0.25, 2)
    lamp = 1 + slope[0] * down + slope[1] * across
    picture = 255 * (rng.uniform(0.55, 1.45) * lamp * light) + rng.normal(0, 2.5, light.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _noise(height: int, width: int, scale: tuple[float, float], rng: np.random.Generator) -> Grey:
    """Return smooth noise of mean 0 and deviation 1; ``scale`` is the blur down and across in pixels."""
    raw = rng.normal(0, 1, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(raw, (0, 0), sigmaX=max(scale[1], 0.3), sigmaY=max(scale[0], 0.3))
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-6), np.float32)


def _surface(height: int, width: int, rng: np.random.Generator) -> Grey:
    """Return a ground surface: grain, streaks of the grinding, slow changes, stains and scratches that are no defects."""
    light = np.full((height, width), rng.uniform(0.35, 0.55), np.float32)
    light += 0.035 * _noise(height, width, (1, 1), rng)
    light += rng.uniform(0.01, 0.03) * _noise(height, width, (25, 0.8), rng)
    light += rng.uniform(0.01, 0.05) * _noise(height, width, (50, 50), rng)
    for _ in range(rng.integers(0, 5)):  # stains without a sharp border
        spot = np.zeros((height, width), np.float32)
        middle = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.ellipse(
            spot, middle, (int(rng.integers(8, 40)), int(rng.integers(8, 40))), rng.uniform(0, 180), 0, 360, 1, -1
        )
        light += rng.uniform(-0.09, 0.07) * cv2.GaussianBlur(spot, (0, 0), rng.uniform(4, 15))
    for _ in range(rng.integers(0, 4)):  # straight scratches along the grinding, which are no cracks
        across = int(rng.integers(0, width))
        top, length = int(rng.integers(0, height)), int(rng.integers(30, 150))
        scratch = np.zeros((height, width), np.float32)
        cv2.line(scratch, (across, top), (across + int(rng.integers(-2, 3)), top + length), 1, 1, cv2.LINE_AA)
        light += rng.uniform(-0.08, 0.12) * scratch
    for side in range(4):  # the tile's border is rounded and lit differently
        if rng.random() < 0.4:
            depth = int(rng.integers(4, 22))
            edge = [light[:depth], light[-depth:], light[:, :depth], light[:, -depth:]][side]
            edge *= rng.uniform(0.5, 1.3)
    return light


def _blowhole(light: Grey, mask: Mask, rng: np.random.Generator) -> None:
    height, width = mask.shape
    for _ in range(rng.integers(1, 4)):
        middle = int(rng.integers(10, width - 10)), int(rng.integers(10, height - 10))
        axes = int(rng.integers(3, 10)), int(rng.integers(3, 10))
        hole = np.zeros(mask.shape, np.uint8)
        cv2.ellipse(hole, middle, axes, rng.uniform(0, 180), 0, 360, 1, -1)
        _shade(light, hole, rng.uniform(0.35, 0.8), 1.4)
        mask |= hole


def _crack(light: Grey, mask: Mask, rng: np.random.Generator) -> None:
    height, width = mask.shape
    place, angle = rng.uniform(0.2, 0.8, 2) * (width, height), rng.uniform(0, 2 * np.pi)
    line = np.zeros(mask.shape, np.uint8)
    for _ in range(rng.integers(12, 45)):
        angle += rng.normal(0, 0.35)
        there = place + 6 * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(line, (int(place[0]), int(place[1])), (int(there[0]), int(there[1])), 1, int(rng.integers(1, 4)))
        place = there
    _shade(light, line, rng.uniform(0.6, 0.85), 0.8)
    mask |= cv2.dilate(line, np.ones((3, 3), np.uint8))


def _break(light: Grey, mask: Mask, rng: np.random.Generator) -> None:
    """Draw a piece that broke off: an irregular dark region, often at the border."""
    height, width = mask.shape
    middle = rng.uniform(0, 1, 2) * (width, height)
    if rng.random() < 0.6:
        middle[rng.integers(0, 2)] = 0 if rng.random() < 0.5 else width
    piece = _blob(mask.shape, middle, rng.uniform(18, 60), 0.35, rng)
    light[:] = np.where(piece > 0, light * (0.85 + 0.1 * _noise(height, width, (3, 3), rng)), light)
    _shade(light, piece, rng.uniform(0.6, 1.1), 2.5)
    mask |= piece


def _fray(light: Grey, mask: Mask, rng: np.random.Generator) -> None:
    """Draw a rough band along the border."""
    height, width = mask.shape
    depth = rng.uniform(15, 45) + 6 * _noise(1, width, (1, 12), rng)[0]
    band = (np.arange(height)[:, np.newaxis] < depth).astype(np.uint8)
    if rng.random() < 0.5:
        band = np.ascontiguousarray(band[::-1])
    rough = light * (1 + 0.12 * _noise(height, width, (2, 2), rng))
    light[:] = np.where(band > 0, rough * rng.uniform(0.85, 1.25), light)
    mask |= band


def _uneven(light: Grey, mask: Mask, rng: np.random.Generator) -> None:
    """Draw a large region that was ground unevenly: a faint change of light and grain."""
    height, width = mask.shape
    middle = rng.uniform(0.2, 0.8, 2) * (width, height)
    region = _blob(mask.shape, middle, rng.uniform(35, 100), 0.25, rng)
    grain = 0.015 * _noise(height, width, (2.5, 2.5), rng)
    change = rng.choice([-1, 1]) * rng.uniform(0.03, 0.09)
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), 6)
    light += soft * (change + grain)
    mask |= region


def _blob(
    shape: tuple[int, ...], middle: NDArray[np.float64], radius: float, rough: float, rng: np.random.Generator
) -> Mask:
    """Return a region with a wavy outline around a point."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = sum(rng.normal(0, rough / k) * np.sin(k * angles + rng.uniform(0, 6.3)) for k in range(1, 7))
    outline = middle + (radius * np.maximum(0.2, 1 + waves))[:, np.newaxis] * np.stack(
        [np.cos(angles), np.sin(angles)], 1
    )
    region = np.zeros(shape, np.uint8)
    cv2.fillPoly(region, [outline.astype(np.int32)], 1)
    return region


def _shade(light: Grey, region: Mask, factor: float, blur_px: float) -> None:
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), blur_px)
    light *= 1 - soft * (1 - factor)


_KINDS = (_blowhole, _uneven, _break, _crack, _blowhole, _uneven, _break, _crack, _blowhole, _uneven, _break, _fray)
"""Kinds of defects in turn, in about the shares of the public set."""
