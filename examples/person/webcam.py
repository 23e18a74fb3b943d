"""Make photographs look as if a webcam had taken them: weak light, noise, motion, compression, a window behind."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CLEAN = 0.4
"""Share of the pictures that stay as they are."""


def as_by_webcam(rgb: NDArray[np.uint8], person: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an (H, W, 3) uint8 picture with some of the faults of a webcam; ``person``, (H, W), is where somebody is."""
    if rng.random() < CLEAN:
        return rgb
    light = rgb.astype(np.float32) / 255
    if rng.random() < 0.25:
        light = backlit(light, person, rng)
    if rng.random() < 0.35:
        light = dim(light, rng)
    if rng.random() < 0.3:
        light = light * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if rng.random() < 0.2:
        light = moved(light, rng)
    if rng.random() < 0.25:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.5, 1.8))
    picture = np.clip(255 * light, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        picture = np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return picture


def backlit(light: NDArray[np.float32], person: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the picture, (H, W, 3) in 0–1, with the persons darker and the rest brighter."""
    soft = cv2.GaussianBlur(person.astype(np.float32), (0, 0), 2)[..., np.newaxis]
    return light * (soft * rng.uniform(0.45, 0.8) + (1 - soft) * rng.uniform(1, 1.5))


def dim(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the picture as in weak light: darker, less contrast, with noise that a sensor adds."""
    dark = np.clip(light, 0, 1) ** rng.uniform(1, 1.8) * rng.uniform(0.35, 0.8)
    strength = rng.uniform(0.01, 0.05)
    return dark + rng.normal(0, strength, light.shape).astype(np.float32) * np.sqrt(np.clip(dark, 0.05, 1))


def moved(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the picture blurred along a line of 3 to 9 pixels."""
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return np.asarray(cv2.filter2D(light, -1, kernel / max(float(kernel.sum()), 1e-3)), np.float32)
