"""What a model expects of pixels: conventions by name, and the one of which a model's own first layer speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from export.config import PixelRange
from export.keras_model.flat import is_for_training, leaves

PIXEL_RANGES: tuple[PixelRange, ...] = get_args(PixelRange)
_IMAGENET_MEAN, _IMAGENET_DEVIATION = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
_BYTES_FROM = 2.0
"""Smallest mean, or reciprocal of a scale, that speaks of pixels in 0–255 and not in 0–1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What a model expects of pixels.

    Attributes:
        range: Range of the values.
        bgr: Blue comes first, as OpenCV reads images, and not red.
    """

    range: PixelRange
    bgr: bool = False

    def scaling(self, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a factor and a summand per channel that turn 0–255 into the range."""
        one = np.ones(channels)
        if self.range == "0-1":
            return one / 255, 0 * one
        if self.range == "-1-1":
            return one / 127.5, -one
        if self.range == "0-255":
            return one, 0 * one
        mean, deviation = _IMAGENET_MEAN, _IMAGENET_DEVIATION
        if channels == 1:
            mean, deviation = mean.mean(keepdims=True), deviation.mean(keepdims=True)
        elif self.bgr:
            mean, deviation = mean[::-1], deviation[::-1]
        return 1 / (255 * deviation), -mean / deviation

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (H, W, C) uint8 pixels, BGR or grey, as the model expects them."""
        scale, offset = self.scaling(image.shape[-1])
        return (image[..., :: 1 if self.bgr else -1] * scale + offset).astype(np.float32)

    def layered(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Return (N, H, W, C) float32 pixels in 0–255, RGB or grey, as the model expects them."""
        channels = image.shape[-1]
        if self.bgr and channels == 3:
            image = keras.ops.take(image, [2, 1, 0], axis=-1)
        if self.range == "0-255":
            return image
        scale, offset = self.scaling(channels)
        alike = len({*zip(scale, offset, strict=True)}) == 1
        return layers.Rescaling(
            float(scale[0]) if alike else scale.tolist(),
            float(offset[0]) if alike else offset.tolist(),
            name="pixels",
            dtype="float32",
        )(image)


def stated_range(model: keras.Model) -> PixelRange | None:
    """Return the range of pixels of which a model's own first layer speaks; None if it has no such layer."""
    first = next((layer for layer in leaves(model) if not _is_transparent(layer)), None)
    if isinstance(first, layers.Rescaling):
        return "0-255" if np.min(np.abs(first.scale)) <= 1 / _BYTES_FROM else "0-1"
    if isinstance(first, layers.Normalization):
        return "0-255" if np.max(np.abs(np.asarray(first.mean))) >= _BYTES_FROM else "0-1"
    return None


def _is_transparent(layer: keras.Layer) -> bool:
    """Tell whether a layer leaves the values of pixels as they are, at least after training."""
    kinds = layers.InputLayer | layers.ZeroPadding2D | layers.Resizing | layers.Identity
    return isinstance(layer, kinds) or is_for_training(layer)
