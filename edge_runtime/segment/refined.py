"""Segment one stream with temporal smoothing and soft edges, both computed from the model's probabilities."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.segment.postprocess import class_ids_of, probability_planes
from edge_runtime.segment.preprocess import checked_frame, resize_mask
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.smoothing import TemporalSmoother
from edge_runtime.segment.soft_edges import soft_alpha
from edge_runtime.segment.timing import StageTimes


class RefinedSegmenter:
    """Segmenter with temporal smoothing, soft edges, or both.

    With smoothing it keeps earlier frames, so it serves one stream and one thread: make one per stream, around a shared
    ``Segmenter``. After a gap of two seconds, a cut, or a change of the frame's size, smoothing starts again.

    Example:
        >>> from edge_runtime import RefinedSegmenter, Segmenter, parse_effect
        >>> calm = RefinedSegmenter(Segmenter.load(package), smooth=True, soft_edges=True)
        >>> result = calm(image_bgr)
        >>> blurred = parse_effect("blur")(image_bgr, result)  # blends along result.alpha
        >>> result.alpha.shape, blurred.shape
        ((48, 64), (48, 64, 3))
    """

    def __init__(self, segmenter: Segmenter, *, smooth: bool = False, soft_edges: bool = False) -> None:
        """Wrap a segmenter.

        Args:
            segmenter: Segmenter that runs the model.
            smooth: Average the probabilities over time where the picture does not move.
            soft_edges: Fill ``Segmentation.alpha`` with an opacity whose edges follow those of the frame.
        """
        self._segmenter = segmenter
        self._smoother = TemporalSmoother() if smooth else None
        self._soft_edges = soft_edges
        self._frame_shape: tuple[int, ...] = ()

    @property
    def contract(self) -> Contract:
        """Input size and classes of the model."""
        return self._segmenter.contract

    def reset(self) -> None:
        """Forget all earlier frames: the next one starts a new stream."""
        if self._smoother is not None:
            self._smoother.reset()

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment one frame of the stream.

        Args:
            image_bgr: As for a ``Segmenter``.
            times: Collects the times of the stages "resize", "inference", "mask" (probabilities and class ids) and
                "refine" (smoothing and soft edges).

        Returns:
            The mask at the frame's size, and with soft edges its alpha.

        Raises:
            InputError, ModelError, UsageError: As for a ``Segmenter``.
        """
        times = StageTimes() if times is None else times
        c = self.contract
        with times.stage("resize"):
            frame = checked_frame(image_bgr)
            if frame.shape[:2] != self._frame_shape:
                self.reset()
                self._frame_shape = frame.shape[:2]
            small = self._segmenter.input_of(frame)
        with times.stage("inference"):
            logits = self._segmenter.logits_of(small)
        with times.stage("mask"):
            planes = probability_planes(logits, binary=c.binary)
        held_ids = alpha = None
        with times.stage("refine"):
            if self._smoother is not None:
                planes, held_ids = self._smoother(planes, small, time.monotonic())
            if self._soft_edges:
                alpha = soft_alpha(planes[0] if c.binary else 1 - planes[0], frame)
        with times.stage("mask"):
            ids = class_ids_of(planes, axis=0) if held_ids is None else held_ids
            mask = resize_mask(ids, *frame.shape[:2])
        return Segmentation(mask=mask, classes=c.classes, alpha=alpha)
