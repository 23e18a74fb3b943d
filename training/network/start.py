"""Choose values of a new network that chance chooses badly: first filters, bias of the answer, statistics."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.network.answer import shift_answer

_LEAST_SHARE = 1e-3
"""Smallest share that is assumed of a class: a rarer one would need many steps to be answered at all."""


def see_differences(model: keras.Model) -> None:
    """Make the first convolution answer to differences between neighbours instead of brightness.

    Each filter loses its mean over the kernel. A random filter passes the brightness on, and pictures differ in it far
    more than in a faint defect: the batch normalisation behind the filter then leaves nearly nothing of the defect.
    Training may add the brightness back.

    Args:
        model: Network with random weights, as ``Shape.build`` returns it.
    """
    first = next((layer for layer in model.layers if isinstance(layer, layers.Conv2D)), None)
    if first is not None and max(first.kernel_size) > 1:
        kernel, *rest = first.get_weights()
        first.set_weights([kernel - kernel.mean(axis=(0, 1), keepdims=True), *rest])


def answer_with_shares(model: keras.Model, shares: NDArray[np.floating]) -> None:
    """Make the network answer each pixel with the shares of the classes, up to what its random weights add.

    Without it, the first steps teach the network only that most pixels are background, and do so through all its
    layers.

    Args:
        model: Network with random weights, as ``Shape.build`` returns it.
        shares: (C,) floats, the probability of each class, in any unit.

    Reference:
        Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, section 3.3. https://arxiv.org/abs/1708.02002
    """
    shift_answer(model, np.log(np.maximum(shares / shares.sum(), _LEAST_SHARE)))


def measure_statistics(model: keras.Model, images: NDArray[np.uint8]) -> None:
    """Set the moving mean and variance of each batch normalisation to those of a batch.

    A new layer has 0 and 1. The responses of the first filters have a variance of a thousandth, and a moving variance
    needs two hundred steps to get there: until then the validated network answers as if its images were nearly flat,
    whatever it has learnt.

    Args:
        model: Network with random weights, built for training.
        images: (N, H, W, C) uint8, a batch of training images.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images.astype(np.float32), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def bilinear_kernel(width: int) -> NDArray[np.float32]:
    """Return the kernel, (4, 4, width, width), of a transposed convolution of stride 2 that interpolates each channel."""
    taps = np.array([0.25, 0.75, 0.75, 0.25])
    return (np.outer(taps, taps)[..., np.newaxis, np.newaxis] * np.eye(width)).astype(np.float32)
