"""Take a Keras model's global means in two steps, along the rows and then along the columns.

TensorFlow and onnxruntime add up a map value by value in float32, which loses three digits over 20,000 values. A gate
behind such a mean then scales a whole channel by a wrong factor, and both differ from the exact result and from each
other by up to 5e-4 in the probabilities. Two sums of a hundred values each lose one digit.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class _MeanInTwoSteps(layers.GlobalAveragePooling2D):  # type: ignore[misc]
    """The same mean of (N, H, W, C), more precisely."""

    def call(self, inputs: Any) -> Any:
        """Return (N, C), or (N, 1, 1, C) with ``keepdims``."""
        rows = ops.mean(inputs, axis=2, keepdims=True)
        return ops.mean(rows, axis=(1, 2), keepdims=self.keepdims)


def with_precise_means(model: keras.Model) -> keras.Model:
    """Return a copy of a model with the same weights and precise global means; the model itself if it has none."""
    if not any(isinstance(layer, layers.GlobalAveragePooling2D) for layer in model.layers):
        return model

    def clone(layer: keras.Layer) -> keras.Layer:
        kind = _MeanInTwoSteps if isinstance(layer, layers.GlobalAveragePooling2D) else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
