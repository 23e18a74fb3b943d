"""Compute class weights for a loss from the pixels of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def class_weights_of(pixels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return higher weights for rarer classes: w = 1 / √ln(1.02 + share of the pixels), scaled to a mean of 1.

    They are the square roots of ENet's weights. With ENet's own, a class may weigh 36 times another and is then found
    together with much of its surroundings. With the roots the factor is at most √(ln 2.02 / ln 1.02) = 6, and the mean
    IoU is better: see docs/decisions.md.

    Args:
        pixels: (C,) int64, training pixels of each class that are not ignored.

    Returns:
        (C,) float32, mean 1 over the classes that occur; 1 for a class that does not occur.

    Reference:
        Paszke et al.: ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation, 2016, section 5.2.
        https://arxiv.org/abs/1606.02147
    """
    present = pixels > 0
    weights = np.log(1.02 + pixels / max(1, int(pixels.sum()))) ** -0.5
    scale = float(weights[present].mean()) if present.any() else 1.0
    return np.where(present, weights / scale, 1.0).astype(np.float32)
