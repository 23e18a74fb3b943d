"""Source and segmenter joined: one result a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.sources import Frame, ReadAhead, Source, open_source

Segment = Callable[[NDArray[np.uint8]], Segmentation]
"""``image_bgr -> segmentation``: a ``Segmenter``, or one of those that refine or tile it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """What one frame came to.

    Attributes:
        frame: The frame as it was captured.
        segmentation: Its mask.
        age_ms: Time from capture to mask, waiting included: what a viewer perceives as lag.
    """

    frame: Frame
    segmentation: Segmentation
    age_ms: float


def stream(segmenter: Segment, source: int | str | Path | Source) -> Iterator[FrameResult]:
    """Segment a source frame by frame.

    Files are read ahead by a few frames while the model works; of a live source the newest frame is taken.

    Args:
        segmenter: Takes (H, W, 3) uint8 BGR; a ``Segmenter``.
        source: What ``open_source`` takes, opened at the first frame and closed after the last; or a source that is
            open already, which stays open.

    Raises:
        SourceError: The camera or stream is not available.
        InputError: A file cannot be read; for one image of many, or a video that ends early, after all other frames.
    """
    if isinstance(source, (int, str, Path)):
        with open_source(source) as opened:
            yield from stream(segmenter, opened)
        return
    if source.live:
        for frame in source:
            yield segment_frame(segmenter, frame)
        return
    with ReadAhead(source) as frames:
        for frame in frames:
            yield segment_frame(segmenter, frame)


def segment_frame(segmenter: Segment, frame: Frame) -> FrameResult:
    """Segment one frame and measure its age."""
    segmentation = segmenter(frame.image_bgr)
    age_ms = (time.monotonic() - frame.captured_at) * 1e3
    return FrameResult(frame=frame, segmentation=segmentation, age_ms=age_ms)
