"""Layers in place of those of Keras that do not convert, or that lose digits: the same functions with the same weights.

TensorFlow and onnxruntime add up a map value by value in float32, which loses three digits over 20,000 values. A gate or
a normalisation behind such a mean then scales a whole channel by a wrong factor, and both differ from the exact result
and from each other by up to 5e-4 in the probabilities. Two sums of a hundred values each lose one digit.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops


class _MeanInTwoSteps(layers.GlobalAveragePooling2D):  # type: ignore[misc]
    """The same mean of (N, H, W, C): along the rows, then along the columns."""

    def call(self, inputs: Any) -> Any:
        """Return (N, C), or (N, 1, 1, C) with ``keepdims``."""
        rows = ops.mean(inputs, axis=2, keepdims=True)
        return ops.mean(rows, axis=(1, 2), keepdims=self.keepdims)


class _GroupsInTwoSteps(layers.GroupNormalization):  # type: ignore[misc]
    """The same normalisation of the channels of (N, H, W, C) in groups, whose means are taken in two steps."""

    def call(self, inputs: Any) -> Any:
        """Return (N, H, W, C)."""
        _, height, width, channels = inputs.shape
        groups = channels if self.groups == -1 else self.groups
        x = ops.reshape(inputs, (-1, height, width, groups, channels // groups))
        centred = x - _group_means(x)
        x = centred / ops.sqrt(_group_means(ops.square(centred)) + self.epsilon)
        x = ops.reshape(x, (-1, height, width, channels))
        x = x * self.gamma if self.scale else x
        return x + self.beta if self.center else x


class ConvolutionByGroups(layers.Conv2D):  # type: ignore[misc]
    """The same convolution in groups: of the parts, one by one, because tf2onnx does not convert TensorFlow's own.

    Groups of few channels are computed together, with zeros in the kernel between them, which takes less time than
    many small convolutions and the moves around them.
    """

    def call(self, inputs: Any) -> Any:
        """Return (N, H, W, C)."""
        channels, filters = self.kernel.shape[2], self.filters // self.groups
        together = max(n for n in range(1, self.groups + 1) if self.groups % n == 0 and (n == 1 or n * channels <= 16))
        inside = np.kron(np.eye(together), np.ones((channels, filters)))
        kernels = ops.split(ops.tile(self.kernel, (1, 1, together, 1)), self.groups // together, axis=-1)
        options = {"strides": list(self.strides), "padding": self.padding, "dilation_rate": self.dilation_rate}
        parts = ops.split(inputs, self.groups // together, axis=-1)
        results = [
            ops.conv(part, kernel * ops.cast(inside, kernel.dtype), **options)
            for part, kernel in zip(parts, kernels, strict=True)
        ]
        x = ops.concatenate(results, axis=-1)
        x = ops.add(x, self.bias) if self.use_bias else x
        return x if self.activation is None else self.activation(x)


def convertible(layer: keras.Layer, config: dict[str, Any]) -> keras.Layer:
    """Return a copy of a layer that converts, without its weights.

    Args:
        layer: A layer of Keras' own.
        config: Its configuration, changed as wanted.
    """
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return _MeanInTwoSteps.from_config(config)
    if isinstance(layer, layers.GroupNormalization) and layer.axis in (-1, 3) and layer.input_spec.ndim == 4:
        return _GroupsInTwoSteps.from_config(config)
    if type(layer) is layers.Conv2D and layer.groups > 1:
        return ConvolutionByGroups.from_config(config)
    if isinstance(layer, layers.Normalization) and layer.axis in ((-1,), (3,), ()):
        # Its mean and variance are no constants of the graph that TensorFlow traces.
        mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in (layer.mean, layer.variance))
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
        return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name=config["name"])
    return type(layer).from_config(config)


def with_precise_means(model: keras.Model) -> keras.Model:
    """Return a copy of a model with the same weights and precise global means; the model itself if it has none."""
    if not any(type(layer) is layers.GlobalAveragePooling2D for layer in model.layers):
        return model
    copy = keras.models.clone_model(model, clone_function=lambda layer: convertible(layer, layer.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _group_means(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the mean of each group of (N, H, W, G, C / G) as (N, 1, 1, G, 1)."""
    return ops.mean(ops.mean(x, axis=2, keepdims=True), axis=(1, 4), keepdims=True)
