"""Losses on probabilities; pixels labelled ``IGNORE`` (255) count in none of them.

Each takes ``y_true``, (N, H, W, 1) class ids, and ``y_pred``, (N, H, W, L) probabilities with L = 1 for a binary model, and
returns one loss an image, (N,). They are stable although they take probabilities: under TensorFlow Keras looks up the
logits behind a sigmoid or softmax and computes from those.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

from edge_runtime.labels import IGNORE

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


def cross_entropy_loss(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
    """Mean over the counted pixels of -log p(true class); without ignored pixels equal to Keras' own cross-entropies."""
    labels, counted = _labels(y_true)
    if y_pred.shape[-1] == 1:
        pixel_loss = ops.squeeze(ops.binary_crossentropy(ops.cast(labels, y_pred.dtype)[..., None], y_pred), -1)
    else:
        pixel_loss = ops.sparse_categorical_crossentropy(labels, y_pred)
    return ops.sum(pixel_loss * counted, (1, 2)) / ops.maximum(ops.sum(counted, (1, 2)), 1.0)


def dice_loss(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
    """One minus the mean soft Dice of the classes that occur in the batch: 1 - (2 Σ p·t + 1) / (Σ p + Σ t + 1).

    The sums run over the whole batch: an image without a class would otherwise be punished for any trace of it.

    Reference:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016. https://arxiv.org/abs/1606.04797
    """
    labels, counted = _labels(y_true)
    if y_pred.shape[-1] == 1:
        truth = ops.cast(labels, y_pred.dtype)[..., None]
    else:
        truth = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
    truth, found = truth * counted[..., None], y_pred * counted[..., None]
    axes = (0, 1, 2)
    dice = (2 * ops.sum(truth * found, axes) + 1) / (ops.sum(truth, axes) + ops.sum(found, axes) + 1)
    present = ops.cast(ops.sum(truth, axes) > 0, y_pred.dtype)
    mean_dice = ops.sum(dice * present) / ops.maximum(ops.sum(present), 1.0)
    # One value an image, as Keras expects; it is the same for all of the batch. No class at all: nothing to learn.
    loss = ops.where(ops.sum(present) > 0, 1 - mean_dice, 0.0)
    return ops.ones_like(y_pred[:, 0, 0, 0]) * loss


def cross_entropy_dice_loss(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
    """Cross-entropy plus Dice: the first for well-behaved gradients, the second for small classes."""
    return cross_entropy_loss(y_true, y_pred) + dice_loss(y_true, y_pred)


def accuracy(y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
    """Share of the counted pixels whose class is right, one value an image."""
    labels, counted = _labels(y_true)
    if y_pred.shape[-1] == 1:
        found = ops.cast(y_pred[..., 0] > 0.5, "int32")
    else:
        found = ops.cast(ops.argmax(y_pred, -1), "int32")
    right = ops.cast(found == labels, y_pred.dtype) * counted
    return ops.sum(right, (1, 2)) / ops.maximum(ops.sum(counted, (1, 2)), 1.0)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy_loss,
    "cross_entropy+dice": cross_entropy_dice_loss,
}


def _labels(y_true: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the ids with 0 in place of ``IGNORE``, (N, H, W) int32, and 1.0 where a pixel counts, (N, H, W) float32."""
    labels = ops.cast(y_true[..., 0], "int32")
    counted = ops.cast(labels != IGNORE, "float32")
    return ops.where(labels == IGNORE, 0, labels), counted
