"""Tell rounding from a fault where two classes, or two places inside a network, are alike up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.segment.postprocess import class_ids_of

TIE = 1e-6
"""Difference of the probabilities of two classes between which rounding decides."""
COPIES = 3
"""Copies of an image, with other pixels by a level, on which networks that decide inside are compared as well."""
_Result = TypeVar("_Result")
_DECISIONS = frozenset({"ArgMax", "OneHot", "MaxUnpool", "TopK"})


def decides_inside(raw: onnx.ModelProto) -> bool:
    """Tell whether a network chooses between places on its way to the logits, as SegNet's unpooling does.

    Where two values of a window are alike up to rounding, Keras and onnxruntime may then take different ones, so that
    their logits differ by more than rounding on a few pixels of some images.

    Args:
        raw: Graph from ``trace``, which ends with the logits and the probabilities.
    """
    return any(node.op_type in _DECISIONS for node in raw.graph.node)


def settled(
    image: NDArray[np.uint8], compare: Callable[[NDArray[np.uint8]], tuple[float, _Result]], tie_limit: float | None
) -> _Result:
    """Return what comparing an image gives, or comparing a copy of it where the image is at a tie.

    A fault of the conversion stays if pixels change by one level, and a tie goes away.

    Args:
        image: (height_px, width_px, channels) uint8.
        compare: Returns the largest difference on an image, and the result.
        tie_limit: Largest difference that is no tie; None if there can be none.
    """
    difference, result = compare(image)
    rng = np.random.default_rng(0)
    for _ in range(COPIES):
        if tie_limit is None or difference <= tie_limit:
            break
        step = rng.integers(-1, 2, image.shape)
        difference, result = compare(np.clip(image + step, 0, 255).astype(np.uint8))
    return result


def by_class(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (…, C) of probabilities, (…, L): those of both classes for a binary model."""
    return np.concatenate([1 - probabilities, probabilities], -1) if probabilities.shape[-1] == 1 else probabilities


def agreement(probabilities: NDArray[np.float32], mask: NDArray[np.uint8]) -> float:
    """Return the share of pixels of a mask that have the class of Keras, or one that is as probable up to rounding.

    Args:
        probabilities: (H, W, L), of Keras.
        mask: (H, W) class ids, of the other model.
    """
    chosen, probabilities = class_ids_of(probabilities), by_class(probabilities)
    ours, theirs = (np.take_along_axis(probabilities, ids[..., np.newaxis], -1)[..., 0] for ids in (chosen, mask))
    return float(np.mean((chosen == mask) | (ours - theirs < TIE)))
