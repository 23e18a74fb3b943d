"""A segmenter for one stream: masks that hold still, and soft edges, made of the model's probabilities."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.segment.postprocess import class_ids_of_planes, probability_planes
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.smoothing import TemporalSmoother
from edge_runtime.segment.soft_edges import soft_alpha


class RefinedSegmenter:
    """A ``Segmenter`` with temporal smoothing, soft edges, or both.

    With smoothing it keeps what it has seen, so that it is for one stream and one thread; give each stream its own, all
    around the same ``Segmenter``. After a gap, or when the frames change their size, it starts afresh.
    """

    def __init__(self, segmenter: Segmenter, *, smooth: bool = False, soft_edges: bool = False) -> None:
        """Wrap a segmenter.

        Args:
            segmenter: The model.
            smooth: Average the probabilities over time where the picture stands still.
            soft_edges: Fill ``Segmentation.alpha``, with edges that follow the frame.
        """
        self._segmenter = segmenter
        self._smoother = TemporalSmoother() if smooth else None
        self._soft_edges = soft_edges
        self._frame_shape: tuple[int, ...] = ()

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self._segmenter.contract

    def reset(self) -> None:
        """Forget the frames so far, as before a new stream."""
        if self._smoother is not None:
            self._smoother.reset()

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Segmentation:
        """Segment one frame of the stream.

        Args:
            image_bgr: What ``Segmenter`` takes.

        Returns:
            Mask at the frame's size, and alpha where soft edges were asked for. The stages are "resize", "inference",
            "mask" (probabilities and class ids) and "refine" (smoothing and soft edges).

        Raises:
            InputError: The frame is none that ``Segmenter`` takes.
        """
        started = time.perf_counter()
        c = self.contract
        frame = checked_frame(image_bgr)
        if frame.shape[:2] != self._frame_shape:
            self.reset()
            self._frame_shape = frame.shape[:2]
        small = model_input(frame, c.height_px, c.width_px, c.channels)
        resized = time.perf_counter()
        logits = self._segmenter.session.logits(small)
        inferred = time.perf_counter()
        planes = probability_planes(logits, binary=c.binary)
        if self._smoother is None:
            ids = class_ids_of_planes(planes)
            decided = time.perf_counter()
        else:
            decided = time.perf_counter()
            planes, ids = self._smoother(planes, small, time.monotonic())
        alpha = None
        if self._soft_edges:
            alpha = soft_alpha(planes[0] if c.binary else 1 - planes[0], frame)
        refined = time.perf_counter()
        mask = resize_mask(ids, *frame.shape[:2])
        done = time.perf_counter()
        return Segmentation(
            mask=mask,
            classes=c.classes,
            latency_ms=(done - started) * 1e3,
            stages_ms={
                "resize": (resized - started) * 1e3,
                "inference": (inferred - resized) * 1e3,
                "mask": (decided - inferred + done - refined) * 1e3,
                "refine": (refined - decided) * 1e3,
            },
            alpha=alpha,
        )
