"""Run a trained Keras model on frames as the runtime does."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask


class KerasSegmenter:
    """Keras model that is called like the runtime's ``Segmenter``: frame in, mask at frame size out.

    Export's ``KerasReference`` preprocesses in the same way; the code is not shared, because training and export meet
    only in files.
    """

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        """Wrap a model that fits a contract."""
        self._model = model
        self._contract = contract

    def __call__(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment (H, W, 3) uint8 BGR into (H, W) uint8 class ids."""
        c = self._contract
        frame = checked_frame(image_bgr)
        pixels = model_input(frame, c.height_px, c.width_px, c.channels)[np.newaxis, ..., ::-1]
        ids = class_ids_of(np.asarray(self._model.predict_on_batch(pixels.astype(np.float32))))[0]
        return resize_mask(ids, *frame.shape[:2])
