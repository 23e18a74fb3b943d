"""Find out what a model's output is, and turn it into logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from export.config import Output

_REARRANGE = (layers.Cropping2D, layers.Identity, layers.Permute, layers.Reshape, layers.ZeroPadding2D)
_MIX = (layers.Resizing, layers.UpSampling2D)
"""Layers that may stand behind the activation; a bilinear one gives other values if the activation follows it."""
_LEAST = 1e-7
"""Smallest probability, and smallest distance from 1, whose logarithm is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model's output is, as far as its layers tell.

    Attributes:
        output: Kind of the output; None if the last layers do not tell.
        activation: The layer or operation whose activation makes probabilities of logits, if leaving it out gives
            the logits; None if there is none, or if what follows it cannot change places with it.
    """

    output: Output | None
    activation: Any = None


def find_answer(model: keras.Model) -> Answer:
    """Look at the last layers of a model; behind the activation, they may move or resize."""
    last, mixed = _last_of(model), False
    while last is not None and isinstance(last, (*_REARRANGE, *_MIX)):
        mixed |= isinstance(last, _MIX) and getattr(last, "interpolation", "nearest") != "nearest"
        last = _before(last)
    name = _activation_name(last)
    if name in ("linear", "logsoftmax", "log_softmax"):
        return Answer(output="logits")
    kinds: tuple[Output, ...] = ("sigmoid", "softmax")
    for kind in kinds:
        if name == kind:
            return Answer(output=kind, activation=None if mixed else last)
    return Answer(output=None)


def to_logits(values: keras.KerasTensor, output: Output) -> keras.KerasTensor:
    """Return logits of a model's output, (N, H, W, L), from which its own function gives the same probabilities."""
    if output == "logits":
        return values
    logits = ops.log(ops.maximum(values, _LEAST))
    return logits - ops.log(ops.maximum(1 - values, _LEAST)) if output == "sigmoid" else logits


def _last_of(model: Any) -> Any:
    """Return the layer or operation that gives a model's output, also inside a nested model; None if unknown."""
    while isinstance(model, keras.Model):
        if isinstance(model, keras.Sequential):
            model = model.layers[-1]
        elif hasattr(model, "operations"):
            model = model.output._keras_history.operation
        else:
            return None
    return model


def _before(layer: Any) -> Any:
    """Return the layer or operation whose output a layer takes."""
    try:
        return _last_of(layer.input._keras_history.operation)
    except (AttributeError, ValueError):  # it is called several times, or stands in a model that is not a graph
        return None


def _activation_name(layer: Any) -> str:
    """Return the name of the function that a layer applies last; empty if it has none of its own."""
    if layer is None:
        return ""
    if isinstance(layer, layers.Softmax) or not isinstance(layer, keras.Layer):
        return type(layer).__name__.lower()
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", type(activation).__name__.lower()) if activation is not None else ""
