"""Rebuild a Keras model on one level: nested models opened, float32, one fixed input size, no layers for training alone.

Passes and the comparison by layers find a layer by its name, so that every layer needs a name of its own, also if two
nested models have one of the same name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
from keras import layers

from export.keras_model.convertible import convertible

_TRAINING_ONLY = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout2D,
)
_AUGMENTATION = "Random"
"""Beginning of the names of Keras' layers that change images in training alone."""


def flatten(
    model: keras.Model, image: keras.KerasTensor, *, linear: Any = None, reserved: Collection[str] = ()
) -> keras.KerasTensor:
    """Apply the layers of a model, with its weights, to an image, and return the output.

    Layers of Keras are copied; layers of other classes, which only a live model can have, are called as they are.

    Args:
        model: A model with one input and one output.
        image: (N, H, W, C), the input.
        linear: Layer or operation whose activation is left out.
        reserved: Names that no layer gets.

    Raises:
        ValueError: The layers do not fit the input's size; the message is Keras' own.
    """
    (output,) = keras.tree.flatten(_Flattening(linear, reserved).apply(model, image))
    return output


def leaves(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model and of the models inside it, in order."""
    return [leaf for layer in model.layers for leaf in (leaves(layer) if isinstance(layer, keras.Model) else [layer])]


def is_for_training(layer: Any) -> bool:
    """Tell whether a layer does something in training alone, such as dropping values or augmenting images."""
    augments = type(layer).__name__.startswith(_AUGMENTATION) and type(layer).__module__.startswith("keras.")
    return augments or isinstance(layer, _TRAINING_ONLY)


class _Flattening:
    def __init__(self, linear: Any, reserved: Collection[str]) -> None:
        self._linear = linear
        self._names = set(reserved)
        self._copies: dict[int, keras.Layer] = {}
        self._originals: dict[int, Any] = {}
        self._unfilled: dict[int, keras.Layer] = {}

    def apply(self, model: Any, *inputs: Any, **options: Any) -> Any:
        """Apply a layer, an operation or a model of layers to its inputs."""
        if isinstance(model, keras.Sequential):
            (x,) = inputs
            for layer in model.layers:
                x = self._call(self._copied(layer), x)
            return x
        if _is_graph(model):
            # What clone_model does; it would also make a model, whose output is no longer connected to the image.
            return model._run_through_graph(*inputs, operation_fn=self._copied, call_fn=self._call)
        return model(*inputs, **options)

    def _copied(self, layer: Any) -> Any:
        """Return the copy of a layer, always the same one; a nested model and what is not of Keras stay as they are."""
        opened = isinstance(layer, keras.Sequential) or _is_graph(layer)
        if opened or not isinstance(layer, keras.Layer) or not type(layer).__module__.startswith("keras."):
            return layer
        if id(layer) not in self._copies:
            config = {**layer.get_config(), "dtype": "float32", "name": self._new_name(layer.name)}
            if layer is self._linear and "activation" in config:
                config["activation"] = "linear"
            copy = convertible(layer, config)
            self._copies[id(layer)], self._originals[id(copy)] = copy, layer
            self._unfilled[id(copy)] = layer
        return self._copies[id(layer)]

    def _call(self, layer: Any, *args: Any, **options: Any) -> Any:
        options.pop("training", None)
        original = self._originals.get(id(layer), layer)
        without_activation = original is self._linear and not getattr(original, "activation", None)
        if without_activation or is_for_training(layer):
            return args[0]
        result = self.apply(layer, *args, **options)
        unfilled = self._unfilled.pop(id(layer), None)
        if unfilled is not None and layer.weights:
            layer.set_weights(unfilled.get_weights())  # only now, because the call has made the copy's weights
        return result

    def _new_name(self, name: str) -> str:
        """Return a name that no other layer has and that is one part of a path in TensorFlow's graph."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in name)
        new, number = plain, 1
        while new in self._names:
            number += 1
            new = f"{plain}_{number}"
        self._names.add(new)
        return new


def _is_graph(layer: object) -> bool:
    """Tell whether a layer is a model whose graph of layers is known."""
    of_keras = type(layer).call.__module__.startswith("keras.") if isinstance(layer, keras.Model) else False
    return of_keras and hasattr(layer, "operations")
