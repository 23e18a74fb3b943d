"""Draw the objects on the bench, coins, leaves and bolts, each at random in a frame of its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.synth.texture import Floats, mix, noise, tint

CLASS_NAMES = ("background", "coin", "leaf", "bolt")
CLASS_COLORS_RGB = ((0, 0, 0), (255, 176, 0), (0, 158, 115), (86, 120, 233))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """Object in the centre of a square frame, in supersampled pixels.

    Attributes:
        class_id: index into ``CLASS_NAMES``.
        shape: (S, S, 2) coverage 0-1 and height above the bench in pixels.
        albedo_bgr: (S, S, 3) linear reflectance 0-1.
        metallic: 0 for a leaf, 1 for bare metal.
        thickness_px: height above the bench, which sets the length of the shadow.
    """

    class_id: int
    shape: Floats
    albedo_bgr: Floats
    metallic: float
    thickness_px: float


def draw_sprite(rng: np.random.Generator, class_id: int, scale: float) -> Sprite:
    """Draw one object of a class, 1 to 3, ``scale`` times its usual size."""
    return (_coin, _leaf, _bolt)[class_id - 1](rng, scale)


def _local_grid(reach: float) -> tuple[Floats, Floats]:
    """Return the coordinates (x, y) of a square frame around a circle of radius ``reach``."""
    half = int(np.ceil(reach)) + 2
    axis = np.arange(-half, half + 1, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _coin(rng: np.random.Generator, scale: float) -> Sprite:
    radius = scale * rng.uniform(48, 74)
    x, y = _local_grid(radius)
    side = x.size
    distance = np.hypot(x, y)
    rim = np.clip(1 - np.abs(distance - 0.91 * radius) / (0.07 * radius), 0, 1)
    beads = (np.cos(np.arctan2(y, x) * int(rng.integers(24, 44))) > 0) & (
        np.abs(distance - 0.77 * radius) < 0.045 * radius
    )
    stamp = beads.astype(np.uint8) * 255
    text = str(rng.choice(["1", "2", "5", "10", "20", "50"]))
    font, size, pen = cv2.FONT_HERSHEY_DUPLEX, radius / (15 + 6 * len(text)), int(radius / 9)
    (text_width, text_height), _ = cv2.getTextSize(text, font, size, pen)
    corner = ((side - text_width) // 2, (side + text_height) // 2)
    cv2.putText(stamp, text, corner, font, size, (255,), pen, cv2.LINE_AA)  # bytes only since OpenCV 5
    relief = stamp.astype(np.float32) / 255
    wear = noise(rng, side, side, 3, 3, 5)
    height = 1.6 * rim + 1.4 * cv2.GaussianBlur(relief, (0, 0), 1.1) + 0.35 * wear
    height -= 1.5 * np.clip((distance - 0.96 * radius) / (0.04 * radius), 0, 1)
    metal = ((0.18, 0.42, 0.6), (0.1, 0.24, 0.48), (0.32, 0.47, 0.56), (0.06, 0.12, 0.22))
    bright = tint(rng, metal)
    # Dirt collects in the recesses, which is what makes a worn coin legible.
    grime = np.clip(0.75 + 0.3 * cv2.GaussianBlur(relief + rim, (0, 0), 1.5) - 0.13 * wear, 0.3, 1)
    return Sprite(
        class_id=1,
        shape=np.dstack([np.clip(radius - distance + 0.5, 0, 1), height]).astype(np.float32),
        albedo_bgr=bright * grime[..., None],
        metallic=rng.uniform(0.7, 1.0),
        thickness_px=0.11 * radius + 2 * scale,
    )


def _leaf(rng: np.random.Generator, scale: float) -> Sprite:
    half = scale * rng.uniform(74, 106)
    width = half * rng.uniform(0.45, 0.62)
    x, y = _local_grid(half)
    side = x.size
    along = np.clip(0.5 + 0.5 * x / half, 0, 1)
    y = y - rng.uniform(-0.25, 0.25) * half * (1 - (x / half) ** 2)
    profile = np.abs(np.sin(np.pi * along ** rng.uniform(0.65, 0.95))) ** rng.uniform(0.7, 0.95)
    teeth = np.abs(np.sin(np.pi * int(rng.integers(8, 14)) * along))
    border = width * profile * (1 + rng.uniform(0, 0.09) * (teeth - 0.5))
    across = np.abs(y)
    alpha = np.clip(border - across + 0.5, 0, 1)
    spacing = half / rng.uniform(4, 6)
    phase = (x - 0.75 * across) / spacing
    veins = np.exp(-(((phase - np.round(phase)) * spacing / 1.7) ** 2)) * (across < 0.93 * border)
    veins = np.maximum(0.6 * veins, np.exp(-((across / 2.2) ** 2)))
    blotch = noise(rng, side, side, 3, 3, 5)
    quilt = np.cos(2 * np.pi * phase) * np.clip(across / (width + 1), 0, 1)
    curl = rng.uniform(-0.35, 0.5) * across**2 / width
    height = 0.35 * across + curl - 1.6 * veins + 1.1 * blotch - 1.4 * quilt
    greens = ((0.03, 0.2, 0.06), (0.05, 0.3, 0.17), (0.03, 0.22, 0.3))
    browns = ((0.03, 0.11, 0.25), (0.03, 0.05, 0.3), (0.05, 0.3, 0.5))
    fresh, faded = tint(rng, greens, 0.25), tint(rng, greens + browns, 0.25)
    edge = np.clip(across / (border + 1), 0, 1)
    albedo = mix(fresh, faded, 0.2 + 0.35 * blotch + 0.5 * edge**2)
    albedo *= (1 + 0.5 * veins)[..., None]
    albedo *= (1 - 0.6 * np.clip(noise(rng, side, side, 8, 8, 3) - 1.7, 0, 1))[..., None]
    return Sprite(
        class_id=2,
        shape=np.dstack([alpha, height]).astype(np.float32),
        albedo_bgr=albedo.astype(np.float32),
        metallic=0.0,
        thickness_px=scale * rng.uniform(5, 11),
    )


def _bolt(rng: np.random.Generator, scale: float) -> Sprite:
    shaft = scale * rng.uniform(22, 29)
    head = shaft * rng.uniform(1.55, 1.8)
    half = shaft * rng.uniform(3.1, 4.2)
    x, y = _local_grid(float(np.hypot(half, head)))
    side = x.size
    neck = -half + shaft * rng.uniform(1.2, 1.5)
    across = np.abs(y)
    # A turn is slanted because the far side of the helix is half a pitch ahead.
    pitch = shaft * rng.uniform(0.42, 0.55)
    thread = 0.5 + 0.5 * np.cos(2 * np.pi * (x / pitch + 0.25 * y / shaft))
    threaded = np.clip((x - neck - shaft * rng.uniform(0.3, 2.5)) / 3, 0, 1)
    tip = np.clip((half - x) / (0.35 * shaft), 0.7, 1)
    shaft_border = tip * shaft * (1 - 0.07 * threaded * (1 - thread))
    chamfer = np.clip((x + half) / (0.3 * shaft), 0, 1) * 0.12 + 0.88
    in_head = np.clip(neck - x + 0.5, 0, 1)
    border = np.where(in_head > 0.5, head * chamfer, shaft_border)
    alpha = np.clip(border - across + 0.5, 0, 1) * np.clip(half - np.abs(x) + 0.5, 0, 1)
    round_shaft = np.sqrt(np.clip(shaft**2 - y**2, 0.02 * shaft**2, None))
    facets = 1.1 * shaft - np.clip(across - 0.5 * head, 0, None) * 1.2
    height = np.where(in_head > 0.5, facets + 0.5 * shaft, round_shaft)
    height = height + 0.16 * pitch * threaded * (1 - in_head) * thread
    wear = noise(rng, side, side, 4, 4, 5)
    metal = ((0.42, 0.43, 0.43), (0.36, 0.42, 0.45), (0.48, 0.44, 0.4), (0.2, 0.2, 0.2))
    rust = 0.7 * np.clip(wear - rng.uniform(0.8, 3.0), 0, 1)
    albedo = tint(rng, metal) * (1 - 0.4 * threaded * (1 - in_head) * (1 - thread))[..., None]
    albedo += (np.array([0.03, 0.08, 0.22], np.float32) - albedo) * rust[..., None]
    return Sprite(
        class_id=3,
        shape=np.dstack([alpha, cv2.GaussianBlur(height + 0.25 * wear, (0, 0), 0.7)]).astype(np.float32),
        albedo_bgr=albedo.astype(np.float32),
        metallic=rng.uniform(0.75, 1.0),
        thickness_px=shaft,
    )
