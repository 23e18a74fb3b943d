"""Label pictures of people by the public weights, looked through several times: the teacher of the person model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.config import DEFAULT_OPSET
from export.convert import trace
from training import PRESETS

ASPECTS = (1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0)
"""Ratios of width to height at which the network is built; a picture is looked at in the nearest one."""
SQUARE = (256, 256)
"""Height and width of the pictures that the public weights were trained on."""
WHOLE_AREAS_PX = (65_536, 98_304, 131_072)
"""Sizes of the first look. Small persons need a large picture, large ones are found better in a small one."""
PERSON_AREAS_PX = (65_536, 98_304)
MARGIN = 0.4
"""What the second look shows around the persons, as a share of their bounding box."""
SEEN, FEWEST = 0.3, 1 / 800
"""Least probability of a pixel, and least share of such pixels, for a second look."""
NARROWEST = 48
"""Least width in pixels of a part beside the persons that is worth a look."""
FILLED = 0.8
"""Share of the picture above which the persons fill it, so that a second look would show nothing else."""


class Teacher:
    """The network of the preset "selfie" with the public weights: at several sizes, mirrored, at the aspect of the picture."""

    def __init__(self, weights: Path) -> None:
        """Take the weights from MediaPipe's .tflite file."""
        self._shape = PRESETS["selfie"].shape.for_public_weights()
        self._weights = weights
        self._network = cache(self._built)

    def probability(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (H, W) float32, the probability of a person, of an (H, W, 3) uint8 picture.

        The picture is looked at whole, then what is around the persons in it; the second look counts twice.
        """
        first = self._looks(rgb, WHOLE_AREAS_PX)
        box = around_persons(first)
        if box is None:
            return first
        top, bottom, left, right = box
        second = np.zeros_like(first)
        part = np.ascontiguousarray(rgb[top:bottom, left:right])
        second[top:bottom, left:right] = self._looks(part, PERSON_AREAS_PX)
        return (first + 2 * second) / 3

    def beside(self, rgb: NDArray[np.uint8], probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (H, W), what a look at the parts left and right of the persons shows there; 0 elsewhere.

        Passers-by far behind the persons are found only in these.
        """
        found = np.zeros_like(probability)
        columns = np.flatnonzero((probability > SEEN).any(0))
        if not len(columns):
            return found
        for part in (np.s_[:, : columns[0]], np.s_[:, columns[-1] + 1 :]):
            if rgb[part].shape[1] >= NARROWEST:
                found[part] = self._look(np.ascontiguousarray(rgb[part]), WHOLE_AREAS_PX[-1])
        return found

    def _looks(self, rgb: NDArray[np.uint8], areas_px: tuple[int, ...]) -> NDArray[np.float32]:
        """Return (H, W), the mean over sizes of the picture, and the picture squeezed to the square of the training."""
        height, width = rgb.shape[:2]
        square = self._look(resized(rgb, *SQUARE), SQUARE[0] * SQUARE[1])
        return np.mean([*(self._look(rgb, area) for area in areas_px), cv2.resize(square, (width, height))], axis=0)

    def _look(self, rgb: NDArray[np.uint8], area_px: int) -> NDArray[np.float32]:
        """Return (H, W), the mean of what the network answers to the picture and to its mirror image."""
        height, width = rgb.shape[:2]
        aspect = min(ASPECTS, key=lambda a: abs(np.log(a * height / width)))
        rows, columns = (16 * max(4, round((area_px * ratio) ** 0.5 / 16)) for ratio in (1 / aspect, aspect))
        seen = resized(rgb, rows, columns)
        network = self._network(rows, columns)
        return cv2.resize((network(seen) + network(seen[:, ::-1])[:, ::-1]) / 2, (width, height))

    def _built(self, rows: int, columns: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Return the network for one size as a function from (rows, columns, 3) to (rows, columns)."""
        model = self._shape.build(height_px=rows, width_px=columns, channels=3, logit_channels=1)
        self._shape.load_public_weights(model, self._weights)
        # onnxruntime takes a quarter of Keras' time.
        session = onnxruntime.InferenceSession(trace(model, DEFAULT_OPSET).SerializeToString())
        return lambda rgb: session.run(["probabilities"], {"image": rgb[np.newaxis].astype(np.float32)})[0][0, ..., 0]


def resized(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an (H, W, 3) picture at another size, without aliasing where it is made smaller."""
    smaller = height * width < rgb.shape[0] * rgb.shape[1]
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def around_persons(probability: NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """Return (top, bottom, left, right) of the persons with a margin; None if nobody is seen, or they fill the picture."""
    height, width = probability.shape
    rows, columns = np.where(probability > SEEN)
    if len(rows) < FEWEST * probability.size:
        return None
    box_height, box_width = np.ptp(rows) + 1, np.ptp(columns) + 1
    longer = max(box_height, box_width)
    above, beside = (round(MARGIN * max(side, 0.6 * longer)) for side in (box_height, box_width))
    top, bottom = max(0, rows.min() - above), min(height, rows.max() + 1 + above)
    left, right = max(0, columns.min() - beside), min(width, columns.max() + 1 + beside)
    return None if (bottom - top) * (right - left) > FILLED * height * width else (top, bottom, left, right)
