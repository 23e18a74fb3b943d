"""Build the loss that the trainer minimises, and compute the pixel accuracy of a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import UsageError
from training.losses.pixels import Pixels
from training.losses.spec import parse_loss
from training.losses.terms import TERMS, LossOptions

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Function of (N, H, W) int32 class ids or ``IGNORE`` and (N, H, W, L) logits, L = 1 if binary; returns a scalar."""


def make_loss(
    spec: str, *, classes: int, class_weights: NDArray[np.float32] | None = None, label_smoothing: float = 0.0
) -> Loss:
    """Build a loss function from its text.

    The function may be called inside another ``tf.function`` and with logits of any float precision; it computes in
    float32. XLA compiles it once per batch shape.

    Args:
        spec: Text of the loss, see ``parse_loss``: ``cross_entropy+0.5*dice``.
        classes: C, the number of classes, 2 for a binary model.
        class_weights: (C,) above 0, used by cross_entropy, boundary and focal; None weighs all classes equally. The
            region losses dice, tversky and lovasz always weigh classes equally.
        label_smoothing: Share of each label that is spread over all classes, 0 to below 1; used by cross_entropy and
            boundary.

    Returns:
        A function of (labels, logits) that returns a float32 scalar, 0 for a batch whose pixels are all ignored.

    Raises:
        UsageError: ``spec`` is not a sum of losses, or weights or smoothing are out of range.

    Example:
        >>> import numpy as np
        >>> from training import make_loss
        >>> loss = make_loss("cross_entropy+0.5*dice", classes=3)
        >>> labels = np.zeros((1, 4, 4), np.int32)
        >>> logits = np.zeros((1, 4, 4, 3), np.float32)
        >>> round(float(loss(labels, logits)), 2)
        1.34
    """
    terms = parse_loss(spec)
    if not 0 <= label_smoothing < 1:
        raise UsageError(
            f"label smoothing — {label_smoothing:g} — expected 0 to below 1 — a usual value is 0.05, and 0 is off"
        )
    weights = None if class_weights is None else np.asarray(class_weights, np.float32)
    if weights is not None and (weights.shape != (classes,) or not (np.isfinite(weights) & (weights > 0)).all()):
        raise UsageError(
            f"class weights — {weights.tolist()} — expected {classes} numbers above 0 — give one for each class"
        )

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        pixels = Pixels(labels, logits)
        # The weights become a constant of each graph that the loss is traced into.
        options = LossOptions(
            class_weights=None if weights is None else tf.constant(weights), label_smoothing=label_smoothing
        )
        return tf.add_n([term.factor * TERMS[term.name](pixels, options) for term in terms])

    return _compiled(loss)


def accuracy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the pixel accuracy over the pixels that are not ignored, a float32 scalar; 0 if all are ignored.

    Args:
        labels: (N, H, W) int32 class ids or ``IGNORE``.
        logits: (N, H, W, L) of any float type; with L = 1 a logit above 0 is class 1.
    """
    return _compiled_accuracy()(labels, logits)


def _accuracy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    found = tf.cast(logits[..., 0] > 0, tf.int32) if logits.shape[-1] == 1 else tf.argmax(logits, -1, tf.int32)
    labels = tf.cast(labels, tf.int32)
    right = tf.reduce_sum(tf.cast(found == labels, tf.float32))  # no class has the id of IGNORE
    return tf.math.divide_no_nan(right, tf.reduce_sum(tf.cast(labels != IGNORE, tf.float32)))


def _compiled(function: Loss) -> Loss:
    # XLA fuses these memory-bound sums, though on a CPU it is slower at convolutions. Apple's GPU plugin has no XLA.
    xla = not (sys.platform == "darwin" and tf.config.list_physical_devices("GPU"))
    return tf.function(function, jit_compile=xla)


@cache
def _compiled_accuracy() -> Loss:
    return _compiled(_accuracy)
