"""What a model answers, turned into probabilities and class ids."""

from __future__ import annotations

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
