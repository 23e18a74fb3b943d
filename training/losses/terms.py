"""The losses, each a formula over the pixels of a batch; ignored pixels count in none, and nothing counted costs 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from edge_runtime.dataset.label_key import IGNORE
from training.losses.pixels import Pixels

FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7
"""Tversky's alpha and beta: a missed pixel costs more than an invented one, as Salehi et al. found best."""
BORDER_PX = 2
"""Width of the band on either side of a class border, in pixels."""
BORDER_FACTOR = 5.0
"""Weight of a pixel of the band."""
LOVASZ_BINS = 1024
"""Steps of the pixels' errors, 0–1; the value is off by at most one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """Options of the cross-entropies and the focal loss.

    Attributes:
        class_weights: (C,) float32, or None: all count alike.
        label_smoothing: Share of a pixel's label that is spread over all classes, 0 to below 1; the focal loss has none.
    """

    class_weights: tf.Tensor | None
    label_smoothing: float


Term = Callable[[Pixels, LossOptions], tf.Tensor]


def cross_entropy_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Mean over the counted pixels of -log p(true class), each weighed by its class.

    Σ [(1 - ε) w(y) (-log p(y)) + ε/C Σ_c w(c) (-log p(c))] / Σ w(y), as PyTorch's: only ratios of weights matter.

    Reference:
        Label smoothing ε: Szegedy et al., CVPR 2016. https://arxiv.org/abs/1512.00567
    """
    return _cross_entropy(pixels, options, pixels.counted)


def boundary_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Cross-entropy in which a pixel near a class border counts ``BORDER_FACTOR`` times.

    A morphological gradient of the labels stands in for the paper's distances, so that no second input is needed.

    Reference:
        Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, equation 2. https://arxiv.org/abs/1505.04597
    """
    band = tf.reshape(near_border(pixels.labels), (-1,))
    return _cross_entropy(pixels, options, pixels.counted * (1 + (BORDER_FACTOR - 1) * band))


def focal_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Cross-entropy that looks away from easy pixels: the mean of -(1 - p)² log p, p of the true class, γ = 2.

    Class weights take the place of the paper's α.

    Reference:
        Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017. https://arxiv.org/abs/1708.02002
    """
    log_true = pixels.log_true()
    weight = pixels.counted * _true_weight(pixels, options)
    loss = -tf.square(1 - tf.exp(log_true)) * log_true
    return tf.math.divide_no_nan(tf.reduce_sum(weight * loss), tf.reduce_sum(weight))


def dice_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """One minus the soft Dice of each class that occurs in the batch, their mean: (2 Σ p·t + 1) / (Σ p + Σ t + 1).

    The sums run over the whole batch: an image without a class would otherwise be punished for any trace of it. A
    binary model's class is its foreground alone.

    Reference:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016. https://arxiv.org/abs/1606.04797
    """
    truth = pixels.truth()
    dice = (2 * _hits(pixels) + 1) / (pixels.found() + truth + 1)
    return tf.reduce_sum((1 - dice) * _class_shares(truth, pixels))


def tversky_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """Dice with a price each for false positives and negatives: 1 - (TP + 1) / (TP + 0.3 FP + 0.7 FN + 1), all soft.

    Reference:
        Salehi, Erdogmus, Gholipour: Tversky loss function, MLMI 2017. https://arxiv.org/abs/1706.05721
    """
    truth, hits = pixels.truth(), _hits(pixels)
    misses = FALSE_POSITIVES * (pixels.found() - hits) + FALSE_NEGATIVES * (truth - hits)
    tversky = (hits + 1) / (hits + misses + 1)
    return tf.reduce_sum((1 - tversky) * _class_shares(truth, pixels))


def lovasz_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """Lovász-Softmax: the convex extension of 1 - IoU, over the batch, mean of the classes that occur in it.

    The paper sorts the pixels of each class by their error e = |t - p|; here they are counted in ``LOVASZ_BINS`` steps
    of it, and the sum is exact but for the order within a step. On a CPU that is twice or three times the time of
    cross-entropy plus Dice, where TensorFlow's sorting alone takes thirty times.

    Reference:
        Berman, Rannen Triki, Blaschko: The Lovász-Softmax loss, CVPR 2018. https://arxiv.org/abs/1705.08790
    """
    is_class, found = pixels.is_class(), pixels.probabilities()
    errors = tf.stop_gradient(tf.where(is_class, 1 - found, found))
    bins = tf.clip_by_value(tf.cast(errors * LOVASZ_BINS, tf.int32), 0, LOVASZ_BINS - 1)
    # A row of the histogram: class, then background or foreground of it, then the step.
    rows = (tf.range(pixels.classes) * 2 + tf.cast(is_class, tf.int32)) * LOVASZ_BINS + bins
    counted = tf.broadcast_to(pixels.counted[:, None], tf.shape(rows))
    size = pixels.classes * 2 * LOVASZ_BINS
    histogram = tf.math.unsorted_segment_sum(tf.reshape(counted, (-1,)), tf.reshape(rows, (-1,)), size)
    counts = tf.reshape(histogram, (pixels.classes, 2, LOVASZ_BINS))
    prices = _jaccard_prices(counts) * _class_shares(pixels.truth(), pixels)[:, None, None]
    price = tf.gather(tf.reshape(prices, (-1,)), rows) * counted
    # Σ price · error, where the error is p, or 1 - p in the class: linear in p, with prices that p does not change.
    return tf.reduce_sum(tf.where(is_class, -price, price) * found) + tf.reduce_sum(prices[:, 1] * counts[:, 1])


TERMS: dict[str, Term] = {
    "boundary": boundary_loss,
    "cross_entropy": cross_entropy_loss,
    "dice": dice_loss,
    "focal": focal_loss,
    "lovasz": lovasz_loss,
    "tversky": tversky_loss,
}


def near_border(labels: tf.Tensor) -> tf.Tensor:
    """Return (N, H, W) float32, 1 where another class lies within ``BORDER_PX`` rows and columns; ignored is no class."""
    ids = tf.cast(labels, tf.float32)[..., None]
    ignored = ids == IGNORE
    size = 2 * BORDER_PX + 1
    highest = tf.nn.max_pool2d(tf.where(ignored, -1.0, ids), size, 1, "SAME")
    lowest = -tf.nn.max_pool2d(tf.where(ignored, -float(IGNORE), -ids), size, 1, "SAME")
    return tf.cast(highest > lowest, tf.float32)[..., 0]


def _cross_entropy(pixels: Pixels, options: LossOptions, pixel_weight: tf.Tensor) -> tf.Tensor:
    weight = pixel_weight * _true_weight(pixels, options)
    share = options.label_smoothing
    total = (1 - share) * tf.reduce_sum(weight * pixels.log_true())
    if share:
        weights = tf.ones(pixels.classes) if options.class_weights is None else options.class_weights
        total += share / pixels.classes * tf.reduce_sum(pixel_weight * pixels.log_sum(weights))
    return -tf.math.divide_no_nan(total, tf.reduce_sum(weight))


def _true_weight(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Return the weight of each pixel's true class, (P,) or a 1 for all."""
    return tf.constant(1.0) if options.class_weights is None else tf.gather(options.class_weights, pixels.true)


def _hits(pixels: Pixels) -> tf.Tensor:
    """Return (C,), the summed probability of each class over its own pixels."""
    return tf.math.unsorted_segment_sum(tf.exp(pixels.log_true()) * pixels.counted, pixels.true, pixels.classes)


def _class_shares(truth: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """Return (C,), the share of each class in a mean over those that occur: 0, or 1 over their number."""
    present = tf.cast((truth > 0) & (tf.range(pixels.classes) >= pixels.first_region), tf.float32)
    return tf.math.divide_no_nan(present, tf.reduce_sum(present))


def _jaccard_prices(counts: tf.Tensor) -> tf.Tensor:
    """Return what one more wrong pixel of each step adds to 1 - IoU, (C, 2, bins), from counts of the same shape.

    With F foreground and B background pixels at least as wrong, of G in the foreground, 1 - IoU is (F + B) / (G + B).
    A step's foreground taken before its background, and after: the mean of both, so that neither is favoured. Either
    way the prices of a step add up to the exact difference.
    """
    through = tf.cumsum(counts, axis=2, reverse=True)
    before = through - counts
    foreground = tf.reduce_sum(counts[:, 1:], 2)
    # An absent class and no wrong pixel: 0 / 0, which no pixel pays.
    union_before = tf.maximum(foreground + before[:, 0], 1.0)
    union_through = tf.maximum(foreground + through[:, 0], 1.0)
    hits = foreground - (before[:, 1] + through[:, 1]) / 2
    return tf.stack([hits / union_before / union_through, (1 / union_before + 1 / union_through) / 2], 1)
