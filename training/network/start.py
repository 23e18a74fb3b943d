"""Choose weights of a new network that random numbers choose badly: its first filters and the bias of its answer."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

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
    last = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Conv2D))
    log_shares = np.log(np.maximum(shares / shares.sum(), _LEAST_SHARE))
    logits = log_shares[1:] - log_shares[0] if len(shares) == 2 else log_shares
    kernel, bias = last.get_weights()
    last.set_weights([kernel, np.tile(logits, len(bias) // len(logits))])
