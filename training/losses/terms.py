"""Terms of a loss, each a formula over the pixels of a batch that are not ignored; 0 if all pixels are ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from edge_runtime.dataset.label_key import IGNORE
from training.losses.pixels import Pixels

FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7
"""Tversky's alpha and beta, the best values of Salehi et al.: a false negative costs more than a false positive."""
BORDER_PX = 2
"""Width of the band on either side of a class border, in pixels."""
BORDER_FACTOR = 5.0
"""Weight of a pixel in the band; all others weigh 1."""
LOVASZ_BINS = 1024
"""Number of bins for the pixels' errors, 0–1; the loss is off by at most the width of a bin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """Options of the cross-entropies and the focal loss.

    Attributes:
        class_weights: (C,) float32, or None for equal weights.
        label_smoothing: Share of a pixel's label that is spread over all classes, 0 to below 1; the focal loss ignores
            it.
    """

    class_weights: tf.Tensor | None
    label_smoothing: float


Term = Callable[[Pixels, LossOptions], tf.Tensor]


def cross_entropy_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Return the mean of -log p(true class) over the counted pixels, weighted by class.

    Σ [(1 - ε) w(y) (-log p(y)) + ε/C Σ_c w(c) (-log p(c))] / Σ w(y), as in PyTorch: only ratios of weights matter.

    Reference:
        Label smoothing ε: Szegedy et al., CVPR 2016. https://arxiv.org/abs/1512.00567
    """
    return _cross_entropy(pixels, options, pixels.counted)


def boundary_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Return the cross-entropy in which a pixel near a class border weighs ``BORDER_FACTOR``.

    A morphological gradient of the labels replaces the paper's distance map, so that no second input is needed.

    Reference:
        Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, equation 2. https://arxiv.org/abs/1505.04597
    """
    band = tf.reshape(near_border(pixels.labels), (-1,))
    return _cross_entropy(pixels, options, pixels.counted * (1 + (BORDER_FACTOR - 1) * band))


def focal_loss(pixels: Pixels, options: LossOptions) -> tf.Tensor:
    """Return a cross-entropy with less weight on easy pixels: mean of -(1 - p)² log p, p of the true class, γ = 2.

    Class weights replace the paper's α.

    Reference:
        Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017. https://arxiv.org/abs/1708.02002
    """
    log_true = pixels.log_true()
    weight = pixels.counted * _true_weight(pixels, options)
    loss = -tf.square(1 - tf.exp(log_true)) * log_true
    return tf.math.divide_no_nan(tf.reduce_sum(weight * loss), tf.reduce_sum(weight))


def dice_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """Return 1 - soft Dice, mean over the classes in the batch; Dice is (2 Σ p·t + 1) / (Σ p + Σ t + 1).

    The sums run over the whole batch, because sums per image would punish any trace of a class that an image lacks. The
    only class of a binary model is its foreground.

    Reference:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016. https://arxiv.org/abs/1606.04797
    """
    truth = pixels.truth()
    dice = (2 * _hits(pixels) + 1) / (pixels.found() + truth + 1)
    return tf.reduce_sum((1 - dice) * _class_shares(truth, pixels))


def tversky_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """Return the soft 1 - (TP + 1) / (TP + 0.3 FP + 0.7 FN + 1): Dice with weights for false positives and negatives.

    Reference:
        Salehi, Erdogmus, Gholipour: Tversky loss function, MLMI 2017. https://arxiv.org/abs/1706.05721
    """
    truth, hits = pixels.truth(), _hits(pixels)
    misses = FALSE_POSITIVES * (pixels.found() - hits) + FALSE_NEGATIVES * (truth - hits)
    tversky = (hits + 1) / (hits + misses + 1)
    return tf.reduce_sum((1 - tversky) * _class_shares(truth, pixels))


def lovasz_loss(pixels: Pixels, _: LossOptions) -> tf.Tensor:
    """Return the Lovász-Softmax loss: the convex extension of 1 - IoU over the batch, mean over the classes in it.

    The paper sorts the pixels of each class by their error e = |t - p|. Here they are counted in ``LOVASZ_BINS`` bins
    of the error, and the sum is exact except for the order within a bin. On a CPU this takes two to three times as long
    as cross-entropy plus Dice; TensorFlow's sort alone would take thirty times as long.

    Reference:
        Berman, Rannen Triki, Blaschko: The Lovász-Softmax loss, CVPR 2018. https://arxiv.org/abs/1705.08790
    """
    is_class, found = pixels.is_class(), pixels.probabilities()
    errors = tf.stop_gradient(tf.where(is_class, 1 - found, found))
    bins = tf.clip_by_value(tf.cast(errors * LOVASZ_BINS, tf.int32), 0, LOVASZ_BINS - 1)
    # Order of the histogram's rows: class, then background or foreground of the class, then bin.
    rows = (tf.range(pixels.classes) * 2 + tf.cast(is_class, tf.int32)) * LOVASZ_BINS + bins
    counted = tf.broadcast_to(pixels.counted[:, None], tf.shape(rows))
    size = pixels.classes * 2 * LOVASZ_BINS
    histogram = tf.math.unsorted_segment_sum(tf.reshape(counted, (-1,)), tf.reshape(rows, (-1,)), size)
    counts = tf.reshape(histogram, (pixels.classes, 2, LOVASZ_BINS))
    prices = _jaccard_prices(counts) * _class_shares(pixels.truth(), pixels)[:, None, None]
    price = tf.gather(tf.reshape(prices, (-1,)), rows) * counted
    # Σ price · error, with error 1 - p inside the class and p outside: linear in p, because prices are constants.
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
    """Return (N, H, W) float32, 1 within ``BORDER_PX`` rows and columns of another class, ``IGNORE`` not included."""
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
    """Return the weight of each pixel's true class, (P,), or the scalar 1 without class weights."""
    return tf.constant(1.0) if options.class_weights is None else tf.gather(options.class_weights, pixels.true)


def _hits(pixels: Pixels) -> tf.Tensor:
    """Return (C,), the summed probability of each class over its own pixels."""
    return tf.math.unsorted_segment_sum(tf.exp(pixels.log_true()) * pixels.counted, pixels.true, pixels.classes)


def _class_shares(truth: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """Return (C,) weights for the mean over the classes that occur: 1 / their number, 0 for the other classes."""
    present = tf.cast((truth > 0) & (tf.range(pixels.classes) >= pixels.first_region), tf.float32)
    return tf.math.divide_no_nan(present, tf.reduce_sum(present))


def _jaccard_prices(counts: tf.Tensor) -> tf.Tensor:
    """Return the increase of 1 - IoU per wrong pixel of each bin, (C, 2, bins), from counts of the same shape.

    With F foreground and B background pixels that are at least as wrong, and G foreground pixels in all, 1 - IoU is
    (F + B) / (G + B). A price is the mean of two orders within its bin, foreground first and background first. In
    either order the prices of a bin add up to the exact difference.
    """
    through = tf.cumsum(counts, axis=2, reverse=True)
    before = through - counts
    foreground = tf.reduce_sum(counts[:, 1:], 2)
    # Avoids 0 / 0 for an absent class without wrong pixels, where no pixel has the price.
    union_before = tf.maximum(foreground + before[:, 0], 1.0)
    union_through = tf.maximum(foreground + through[:, 0], 1.0)
    hits = foreground - (before[:, 1] + through[:, 1]) / 2
    return tf.stack([hits / union_before / union_through, (1 / union_before + 1 / union_through) / 2], 1)
