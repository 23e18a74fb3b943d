"""Compute soft edges: an opacity at the frame's size from probabilities at the model's size, guided by the frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_RADIUS_PX = 2
"""Radius of the filter's window in pixels at the model's size; a larger one follows the frame more, but rounds more."""
_EPSILON = 10.0**2
"""Variance of the frame, in grey levels squared, below which its edges are not followed."""
_NONE, _SOLID = 0.3, 0.7
"""Probabilities below which a pixel is fully transparent and above which it is fully opaque."""


def soft_alpha(foreground: NDArray[np.float32], frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute the opacity of the foreground at the frame's size.

    This is a fast guided filter: around each pixel of the small picture, the probability is fitted as ``a · luma + b``.
    ``a`` and ``b`` are scaled up and applied to the luma of the full frame, so that the edge follows that of the frame.
    ``b`` is the mean of the fitted offset and of the offset that would not change the probability. A plain guided
    filter uses the fitted offset, which rounds off objects thinner than the window.

    Args:
        foreground: (h, w) float32 probability, 0–1, of all classes but 0, at the model's size.
        frame: (H, W) or (H, W, 3) uint8, grey or BGR.

    Returns:
        (H, W) uint8, 0 transparent to 255 opaque.

    Reference:
        He and Sun, Fast Guided Filter, 2015, https://arxiv.org/abs/1505.00996.
    """
    luma = frame if frame.ndim == 2 else np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
    height, width = foreground.shape
    guide = cv2.resize(luma, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    slope, offset = _fit(guide, foreground)
    offset += foreground
    offset -= slope * guide
    # From here, values are opacities, scaled from _NONE … _SOLID to 0 … 255.
    gain = 255 / (_SOLID - _NONE)
    slope *= gain
    offset -= 2 * _NONE
    offset *= gain / 2
    size = luma.shape[1], luma.shape[0]
    alpha = np.asarray(cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR), np.float32)
    alpha *= luma
    offset = np.asarray(cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR), np.float32)
    # Adding as uint8 rounds and clips to 0 … 255.
    return np.asarray(cv2.add(alpha, offset, dtype=cv2.CV_8U), np.uint8)


def _fit(guide: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit ``values`` as slope · guide + offset, (h, w) float32 each, averaged over all windows that contain a pixel."""
    mean_guide, mean_values = _mean(guide), _mean(values)
    slope = _mean(guide * values)
    slope -= mean_guide * mean_values
    variance = _mean(guide * guide)
    variance -= mean_guide * mean_guide
    variance += np.float32(_EPSILON)
    slope /= variance
    mean_guide *= slope
    mean_values -= mean_guide
    return _mean(slope), _mean(mean_values)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * _RADIUS_PX + 1
    return np.asarray(cv2.boxFilter(values, -1, (side, side)), np.float32)
