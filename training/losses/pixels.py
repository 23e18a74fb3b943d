"""Compute one softmax for all terms of a loss, with gradients in closed form.

A loss spends most of its time in passes over (pixels, classes) values, and TensorFlow's own gradients need many of
them: the gradient of a gather is a scatter. The terms need little of a pixel: the log-probability of its true class,
and its share of sums over the batch. Each of these is a function here whose gradient with respect to the logits is one
product with the probabilities. XLA fuses them into one pass, however many terms the loss has.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from edge_runtime.dataset.label_key import IGNORE


class Pixels:
    """Labels and predicted probabilities of a batch, one row per pixel: P = N·H·W.

    The logit z of a binary model is treated as the two logits 0 and z, whose softmax is 1 - sigmoid(z) and sigmoid(z).

    Attributes:
        labels: (N, H, W) int32 class ids, ``IGNORE`` for ignored pixels.
        classes: C, the number of classes, at least 2.
        first_region: First class of the region losses: 1 for a binary model, which leaves out the background, else 0.
        true: (P,) int32 class ids, 0 in place of ``IGNORE``.
        counted: (P,) float32, 1 where a pixel counts, 0 where it is ignored.
    """

    def __init__(self, labels: tf.Tensor, logits: tf.Tensor) -> None:
        """Take (N, H, W) class ids and (N, H, W, L) logits of any float type, L = 1 for a binary model."""
        channels = logits.shape[-1]
        logits = tf.reshape(tf.cast(logits, tf.float32), (-1, channels))
        self.labels = tf.cast(labels, tf.int32)
        self.classes = max(2, channels)
        self.first_region = 1 if channels == 1 else 0
        flat = tf.reshape(self.labels, (-1,))
        counted = flat != IGNORE
        self.true = tf.where(counted, flat, 0)
        self.counted = tf.cast(counted, tf.float32)
        self._logits = tf.concat([tf.zeros_like(logits), logits], 1) if channels == 1 else logits
        fixed = tf.stop_gradient(self._logits)
        self._shifted = fixed - tf.reduce_max(fixed, 1, keepdims=True)  # so that exp cannot overflow
        exponentials = tf.exp(self._shifted)
        total = tf.reduce_sum(exponentials, 1)
        self._log_total = tf.math.log(total)
        self._probabilities = exponentials / total[:, None]

    def is_class(self) -> tf.Tensor:
        """Return (P, C) bool, True for the true class of a pixel; ignored pixels have class 0.

        It is computed at each use, because keeping it between forward and backward pass takes much memory.
        """
        return self.true[:, None] == tf.range(self.classes)

    def truth(self) -> tf.Tensor:
        """Return (C,) float32, the number of counted pixels per class."""
        return tf.math.unsorted_segment_sum(self.counted, self.true, self.classes)

    def log_true(self) -> tf.Tensor:
        """Return (P,) float32, the log-probability of each pixel's true class (of class 0 where ignored)."""

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return upstream[:, None] * (tf.cast(self.is_class(), tf.float32) - self._probabilities)

        return self._with_gradient(tf.gather(self._shifted, self.true, batch_dims=1) - self._log_total, gradient)

    def log_sum(self, weights: tf.Tensor) -> tf.Tensor:
        """Return (P,) float32, each pixel's Σ over the classes of weight · log-probability; weights: (C,) float32."""
        total = tf.reduce_sum(weights)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return upstream[:, None] * (weights - total * self._probabilities)

        return self._with_gradient(tf.linalg.matvec(self._shifted, weights) - total * self._log_total, gradient)

    def found(self) -> tf.Tensor:
        """Return (C,) float32, the summed probability of each class over the counted pixels."""

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            mean = tf.linalg.matvec(self._probabilities, upstream)
            return self._probabilities * (self.counted[:, None] * (upstream - mean[:, None]))

        return self._with_gradient(tf.linalg.matvec(self._probabilities, self.counted, transpose_a=True), gradient)

    def probabilities(self) -> tf.Tensor:
        """Return (P, C) float32, the softmax of the logits."""

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            mean = tf.reduce_sum(upstream * self._probabilities, 1, keepdims=True)
            return self._probabilities * (upstream - mean)

        return self._with_gradient(self._probabilities, gradient)

    def _with_gradient(self, value: tf.Tensor, gradient: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Return ``value`` with its gradient by the logits: ``gradient`` of the upstream gradient."""

        def function(_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            return tf.identity(value), gradient

        return tf.custom_gradient(function)(self._logits)
