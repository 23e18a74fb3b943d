"""Shift a network's answer: add a number to the logit of each class."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray


def shift_answer(model: keras.Model, logits: NDArray[np.floating]) -> None:
    """Add to the logits of a network, at every pixel, by the bias of its last convolution.

    Args:
        model: Network as ``Shape.build`` returns it.
        logits: (C,) floats, one per class; of a binary model, whose only logit is the foreground's, the difference counts.
    """
    last = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Conv2D))
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias + _per_output(logits, len(bias))])


def _per_output(logits: NDArray[np.floating], outputs: int) -> NDArray[np.floating]:
    """Return one number for each output of the last convolution, which may give the logits of several pixels."""
    values = logits[1:] - logits[0] if len(logits) == 2 else logits
    return np.tile(values, outputs // len(values))
