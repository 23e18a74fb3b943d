"""Draw bench tops: wood, concrete, fabric and steel, with stains and crumbs."""

from __future__ import annotations

import cv2
import numpy as np

from training.data.synth.light import Light
from training.data.synth.texture import Floats, mix, noise, tint, warp


def draw_background(rng: np.random.Generator, height: int, width: int, light: Light) -> Floats:
    """Draw a lit bench top with stains and crumbs; (H, W, 3) linear BGR."""
    kinds = (_wood, _concrete, _fabric, _steel)
    albedo, relief = kinds[int(rng.integers(len(kinds)))](rng, height, width)
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), 1.15), np.float64)
    albedo = warp(albedo, turn, (width, height), cv2.BORDER_REFLECT_101)
    relief = warp(relief, turn, (width, height), cv2.BORDER_REFLECT_101)
    crumbs = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 30))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(1, 5)), int(rng.integers(1, 3)))
        cv2.ellipse(crumbs, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
    crumb_bgr = tint(rng, ((0.03, 0.08, 0.14), (0.03, 0.1, 0.06), (0.35, 0.4, 0.42)))
    albedo += (crumb_bgr - albedo) * cv2.GaussianBlur(crumbs, (0, 0), 0.8)[..., None]
    stains = np.clip(noise(rng, height, width, 3, 4, 4) - rng.uniform(0.9, 2.0), 0, 0.6)
    relief += 1.5 * crumbs
    lx, ly, lz = light.direction
    slope = np.gradient(relief)
    shading = np.clip(1 - (lx * slope[1] + ly * slope[0]) / lz, 0.4, 1.8) * (1 - 0.7 * stains)
    lit: Floats = (albedo * shading[..., None] * light.color_bgr).astype(np.float32)
    return lit


def _wood(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    flow = noise(rng, height, width, 3, 2, 2)
    fibre = noise(rng, height, width, 96, 5, 3)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    rings = np.sin(2 * np.pi * (rng.uniform(5, 11) * y + 0.7 * flow)) ** 3
    dark = tint(rng, ((0.03, 0.08, 0.17), (0.05, 0.12, 0.22), (0.03, 0.05, 0.09)))
    albedo = mix(dark, dark * rng.uniform(1.7, 2.4), 0.5 + 0.2 * rings + 0.2 * fibre)
    plank = y * rng.uniform(1.5, 4) + rng.uniform()
    tone = rng.uniform(0.75, 1.2, 8).astype(np.float32)[np.floor(plank).astype(np.int64)]
    seam = np.clip(1 - np.abs(plank - np.round(plank)) * 60, 0, 1)
    albedo *= (tone * (1 - 0.75 * seam))[..., None]
    return albedo, (0.25 * fibre).astype(np.float32)


def _concrete(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    rough = noise(rng, height, width, 6, 8, 7)
    cloud = noise(rng, height, width, 2, 3, 3)
    pits = np.clip(noise(rng, height, width, 60, 80, 2) - 1.9, 0, 1)
    dark = tint(rng, ((0.1, 0.11, 0.12), (0.16, 0.19, 0.21), (0.08, 0.14, 0.18)))
    albedo = mix(dark, dark * 2.4, 0.45 + 0.14 * rough + 0.12 * cloud)
    albedo *= (1 - 0.7 * pits)[..., None]
    return albedo, 0.35 * rough - 3 * pits


def _fabric(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    wobble = 1.5 * noise(rng, height, width, 5, 6, 3)
    pitch = 2 * np.pi / rng.uniform(6, 10)
    skew = int(rng.integers(2))
    weave = np.sin(pitch * (x + skew * y + wobble)) * np.sin(pitch * (y - wobble))
    yarn = noise(rng, height, width, 60, 12, 2) + noise(rng, height, width, 9, 80, 2)
    cloth = ((0.2, 0.12, 0.06), (0.06, 0.13, 0.08), (0.04, 0.05, 0.2), (0.22, 0.32, 0.38))
    dark = tint(rng, cloth, 0.25)
    albedo = mix(dark * 0.6, dark * 1.6, 0.5 + 0.22 * weave + 0.09 * yarn)
    folds = noise(rng, height, width, 2, 2, 2)
    return albedo, (0.5 * weave + 0.15 * yarn + 7 * folds).astype(np.float32)


def _steel(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    brushed = noise(rng, height, width, 192, 2, 2)
    cloud = noise(rng, height, width, 2, 3, 4)
    rust = np.clip(noise(rng, height, width, 4, 5, 6) - rng.uniform(0.6, 2.0), 0, 1)
    dark = tint(rng, ((0.13, 0.13, 0.13), (0.2, 0.16, 0.12), (0.06, 0.12, 0.08)))
    albedo = mix(dark, dark * 2.2, 0.45 + 0.12 * brushed + 0.16 * cloud)
    rust_bgr = np.array([0.03, 0.08, 0.2], np.float32)
    albedo += (rust_bgr - albedo) * (0.8 * rust)[..., None]
    return albedo, (0.12 * brushed).astype(np.float32)
