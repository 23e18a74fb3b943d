"""Draw the lamp of a scene, and shade height maps under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.synth.texture import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Lamp: unit direction towards it (x right, y down, z to the camera), colour, share of ambient light."""

    direction: tuple[float, float, float]
    color_bgr: Floats
    ambient: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a lamp somewhere above the bench, from cool to warm."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.95)
    warmth = rng.uniform(-0.12, 0.16)
    return Light(
        direction=(
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        ),
        color_bgr=np.array([1 - warmth, 1, 1 + warmth], np.float32),
        ambient=rng.uniform(0.2, 0.42),
    )


def shade(height: Floats, albedo: Floats, metallic: float, light: Light) -> Floats:
    """Shade a height map: Lambert, Blinn-Phong, and a soft reflection of the room in metal."""
    slope_y, slope_x = (np.clip(s, -2, 2) for s in np.gradient(height))
    nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    nx, ny = -slope_x * nz, -slope_y * nz
    lx, ly, lz = light.direction
    lambert = np.clip(nx * lx + ny * ly + nz * lz, 0, None) / lz
    halfway = float(np.sqrt(2 + 2 * lz))
    facing = np.clip((nx * lx + ny * ly + nz * (lz + 1)) / halfway, 0, 1)
    mirror = np.clip(2 * nz * (nx * lx + ny * ly + nz * lz) - lz, 0, 1)
    room = 0.2 + 1.2 * mirror**3 + 0.16 * np.sin(7 * nx * nz + 4 * ny * nz)
    diffuse = light.ambient + (1 - light.ambient) * lambert
    tone = (1 - metallic) * diffuse + metallic * (0.3 * diffuse + 0.9 * room)
    gleam = (0.06 + 0.5 * metallic) * facing ** (14 + 46 * metallic)
    lit: Floats = (albedo * tone[..., None] + gleam[..., None] * 0.6) * light.color_bgr
    return lit
