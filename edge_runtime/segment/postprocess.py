"""What a model answers, turned into probabilities and class ids."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def probabilities_of(logits: NDArray[np.float32], *, binary: bool) -> NDArray[np.float32]:
    """Turn logits, (…, L) float32, into probabilities, (…, L) float32 in 0–1: sigmoid or softmax over the last axis."""
    if binary:
        return (1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def class_ids_of(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn probabilities, (…, L) float32, into class ids, (…) uint8: above one half for L = 1, else the largest."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > 0.5).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.uint8)


def probability_planes(logits: NDArray[np.float32], *, binary: bool) -> NDArray[np.float32]:
    """Turn logits into probabilities, one plane a class: what ``probabilities_of`` gives, many times as fast.

    NumPy is slow along a short last axis; over planes the same sums are a few passes over contiguous memory.

    Args:
        logits: (h, w, L) float32.
        binary: Sigmoid, or else softmax.

    Returns:
        (L, h, w) float32 in 0–1, contiguous; the logits are left as they were.
    """
    height, width, count = logits.shape
    rows = np.asarray(cv2.transpose(logits.reshape(height * width, count)), np.float32)
    planes = rows.reshape(count, height, width)
    if binary:
        np.negative(planes, out=planes)
    else:
        planes -= planes.max(axis=0)
    # OpenCV's exp takes a third of the time; where it overflows, the sigmoid below is 0 as it should be.
    cv2.exp(rows, dst=rows)
    if binary:
        planes += 1
        return np.divide(1, planes, out=planes)
    planes *= np.divide(1, planes.sum(axis=0), dtype=np.float32)
    return planes


def class_ids_of_planes(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn probabilities, (L, h, w) float32, into class ids, (h, w) uint8: what ``class_ids_of`` gives, faster."""
    if len(planes) == 1:
        return np.greater(planes[0], 0.5).view(np.uint8)
    best = planes[0].copy()
    ids = np.zeros(best.shape, np.uint8)
    better = np.empty(best.shape, bool)
    candidate = better.view(np.uint8)
    for class_id in range(1, len(planes)):
        np.greater(planes[class_id], best, out=better)
        np.multiply(candidate, np.uint8(class_id), out=candidate)
        np.maximum(ids, candidate, out=ids)  # ids rise, so that the last better one stays
        np.maximum(best, planes[class_id], out=best)
    return ids
