"""The Keras model, called as the runtime's ``Segmenter`` is."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask
from export.convert import with_logits


class KerasReference:
    """Keras model that is called like the runtime's ``Segmenter``, so that both can be compared.

    Training's ``KerasSegmenter`` preprocesses in the same way; the code is not shared, because training and export meet
    only in files.
    """

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        """Wrap a model and its contract."""
        self._model = with_logits(model)
        self._contract = contract

    @property
    def binary(self) -> bool:
        """Whether the model has one output for two classes."""
        return self._contract.binary

    def outputs(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, (height_px, width_px, L) float32, for (height_px, width_px, channels) uint8."""
        logits, probabilities = self._model.predict_on_batch(image[np.newaxis, ..., ::-1].astype(np.float32))
        return np.asarray(logits)[0], np.asarray(probabilities)[0]

    def mask(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class ids at the frame's size."""
        c = self._contract
        image = model_input(checked_frame(image_bgr), c.height_px, c.width_px, c.channels)
        return resize_mask(class_ids_of(self.outputs(image)[1]), *image_bgr.shape[:2])
