"""Heads on the decoder's coarser maps, for training alone: each learns the masks at its own size.

They reach the deeper layers with gradients that have not passed the whole decoder (deep supervision).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

FADING = 0.5
"""Factor of a map's loss relative to that of the next finer one, as in nnU-Net."""


def with_sides(model: keras.Model, maps: Sequence[str]) -> keras.Model:
    """Return a model from the image to the logits and to those of a new head on each map.

    The new heads begin with the answer that the network's own head begins with, for every pixel.

    Args:
        model: Network with a layer ``logits``, (N, H, W, L).
        maps: Names of the layers that give the decoder's maps, the finest first.

    Returns:
        A model whose outputs are a list: (N, H, W, L), and (N, H / s, W / s, L) float32 for each map of stride s.

    Reference:
        Lee et al.: Deeply-Supervised Nets, AISTATS 2015. https://arxiv.org/abs/1409.5185
    """
    logits = model.get_layer("logits").output
    head = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Conv2D))
    outputs = [logits]
    for name in maps:
        side = layers.Conv2D(logits.shape[-1], 1, kernel_initializer="zeros", dtype="float32", name=f"{name}_logits")
        outputs.append(side(model.get_layer(name).output))
        side.bias.assign(head.bias.numpy()[: logits.shape[-1]])  # the head may give several pixels, one after another
    return keras.Model(model.input, outputs)


def labels_at(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return (N, H / s, W / s) of the (N, H, W) labels: those in the middle of the positions of (N, H / s, W / s, L)."""
    stride = labels.shape[1] // logits.shape[1]
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]
