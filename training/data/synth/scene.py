"""Render light, bench and objects to a picture and its mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.synth.backgrounds import draw_background
from training.data.synth.light import Light, draw_light, shade
from training.data.synth.objects import CLASS_NAMES, Sprite, draw_sprite
from training.data.synth.texture import Bytes, Floats, warp

SUPERSAMPLE = 2
"""Factor by which scenes are drawn larger than the picture."""
REFERENCE_HEIGHT_PX = 350
"""Height of a supersampled scene, in pixels, at which objects have their nominal size."""


def render_scene(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    *,
    object_count: int | None = None,
    first_class: int = 1,
) -> tuple[Bytes, Bytes]:
    """Draw one picture and its mask.

    Args:
        rng: the only source of randomness.
        height_px: height of the picture; objects scale with it.
        width_px: width of the picture.
        object_count: objects to try to place; None draws 2 to 5.
        first_class: class of the first object, so that a caller can balance the classes.

    Returns:
        image_bgr: (H, W, 3) uint8, BGR, 0-255.
        mask: (H, W) uint8, index into ``CLASS_NAMES``; where objects overlap the upper one wins.
    """
    height, width = height_px * SUPERSAMPLE, width_px * SUPERSAMPLE
    light = draw_light(rng)
    canvas = draw_background(rng, height, width, light)
    labels = np.zeros((height, width), np.uint8)
    count = int(rng.integers(2, 6)) if object_count is None else object_count
    placed: list[tuple[float, float, float]] = []
    for number in range(count):
        class_id = first_class if number == 0 else int(rng.integers(1, len(CLASS_NAMES)))
        sprite = draw_sprite(rng, class_id, height / REFERENCE_HEIGHT_PX)
        reach = sprite.shape.shape[0] / 2
        for _ in range(10):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            # Objects may overlap, but none may hide another almost entirely.
            if all(np.hypot(x - px, y - py) > 0.5 * (reach + r) for px, py, r in placed):
                pose = Pose(x_px=x, y_px=y, angle_rad=rng.uniform(0, 2 * np.pi))
                composite(canvas, labels, sprite, pose, light)
                placed.append((x, y, reach))
                break
    return expose(rng, canvas, draw_camera(rng, height, width)), majority(labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Centre of a sprite (supersampled pixels) and its rotation (radians)."""

    x_px: float
    y_px: float
    angle_rad: float


def composite(canvas: Floats, labels: Bytes, sprite: Sprite, pose: Pose, light: Light) -> None:
    """Lay one sprite and its shadow over the canvas (H, W, 3) and the labels (H, W), in place."""
    half = sprite.shape.shape[0] // 2
    lx, ly, lz = light.direction
    reach = half + int(3 * sprite.thickness_px) + 4
    left, top = max(int(pose.x_px) - reach, 0), max(int(pose.y_px) - reach, 0)
    right = min(int(pose.x_px) + reach, canvas.shape[1])
    bottom = min(int(pose.y_px) + reach, canvas.shape[0])
    if right - left < 2 or bottom - top < 2:
        return
    cos, sin = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
    move = np.array(
        [
            [cos, -sin, pose.x_px - left - (cos - sin) * half],
            [sin, cos, pose.y_px - top - (sin + cos) * half],
        ]
    )
    size = (right - left, bottom - top)
    shape = warp(sprite.shape, move, size, cv2.BORDER_CONSTANT)
    alpha = np.ascontiguousarray(shape[..., 0])
    albedo = warp(sprite.albedo_bgr, move, size, cv2.BORDER_REPLICATE)
    window = canvas[top:bottom, left:right]
    cast = np.array([[1, 0, -lx / lz], [0, 1, -ly / lz]]) * [1, 1, sprite.thickness_px]
    contact = cv2.GaussianBlur(alpha, (0, 0), 2.0 + 0.15 * sprite.thickness_px)
    umbra = warp(alpha, cast, size, cv2.BORDER_CONSTANT)
    shadow = cv2.GaussianBlur(umbra, (0, 0), 1.5 + 0.35 * sprite.thickness_px)
    window *= ((1 - (1 - light.ambient) * shadow) * (1 - 0.35 * contact))[..., None]
    x, y, across, down = cv2.boundingRect((alpha > 0).view(np.uint8))
    if across > 1 and down > 1:
        seen = np.s_[y : y + down, x : x + across]
        lit = shade(shape[seen][..., 1], albedo[seen], sprite.metallic, light)
        window[seen] += (lit - window[seen]) * alpha[seen][..., None]
    labels[top:bottom, left:right][alpha >= 0.5] = sprite.class_id


def majority(labels: Bytes) -> Bytes:
    """Return the most frequent class of each supersampled block, (H, W) uint8; the lower class wins a tie."""
    height, width = (side // SUPERSAMPLE for side in labels.shape)
    blocks = labels.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE)
    votes = np.stack([(blocks == class_id).sum(axis=(1, 3)) for class_id in range(len(CLASS_NAMES))])
    return np.asarray(votes.argmax(axis=0), np.uint8)


def draw_camera(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, float, float]:
    """Draw a random camera: exposure over the final picture (H, W), blur sigma in pixels, and noise strength."""
    shape = (height // SUPERSAMPLE, width // SUPERSAMPLE)
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    gradient = 1 + slope * (x * np.cos(angle) + y * np.sin(angle))
    vignette = 1 / (1 + rng.uniform(0.1, 0.3) * (x**2 + y**2)) ** 2
    gain = rng.uniform(0.95, 1.7)
    exposure: Floats = (gain * gradient * vignette).astype(np.float32)
    return exposure, float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.006, 0.02))


def expose(rng: np.random.Generator, canvas: Floats, camera: tuple[Floats, float, float]) -> Bytes:
    """Simulate the camera: shrink, expose, blur, add shot and read noise, encode as sRGB-like."""
    exposure, blur_px, noise = camera
    size = (exposure.shape[1], exposure.shape[0])
    linear = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA) * exposure[..., None]
    linear = np.maximum(cv2.GaussianBlur(linear, (0, 0), blur_px), 0)
    # A film-like shoulder: highlights on metal roll off instead of clipping to flat white.
    linear = 1.25 * linear * (1 + linear / 2.5) / (1 + 0.9 * linear) - 0.006
    grain = rng.standard_normal(linear.shape, np.float32)
    linear += noise * np.sqrt(0.6 * np.maximum(linear, 0) + 0.008) * grain
    encoded: Floats = np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2))
    return encoded.astype(np.uint8)
