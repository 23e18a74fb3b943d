"""Segment the frames of a source: one result per frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.timing import StageTimes
from edge_runtime.sources import Frame, ReadAhead, Source, open_source


class Segment(Protocol):
    """Callable that segments one frame: ``Segmenter``, ``RefinedSegmenter``, ``TiledSegmenter`` or your own.

    It is called as ``segmenter(image_bgr, times)``.
    """

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment (H, W, 3) uint8 BGR; ``times`` collects the time of each stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Frame with its segmentation and times.

    Attributes:
        frame: The frame as captured.
        segmentation: Segmentation of the frame.
        age_ms: Milliseconds from capture to mask, including waiting, which a viewer perceives as lag.
        latency_ms: Milliseconds from the frame in memory to its mask.
        stages_ms: Milliseconds per stage of the latency: "resize", "inference", "mask", and "refine" if refined.

    Example:
        >>> from edge_runtime import Segmenter
        >>> for result in Segmenter.load(package).stream(folder):
        ...     share = result.segmentation.fractions()["red"]
        ...     print(f"{result.frame.name}: {share:.0%} red, {result.latency_ms:.1f} ms")
        0: 8% red, ... ms
        1: 9% red, ... ms
        2: 8% red, ... ms
    """

    frame: Frame
    segmentation: Segmentation
    age_ms: float
    latency_ms: float
    stages_ms: Mapping[str, float] = field(default_factory=dict)


def stream(segmenter: Segment, source: int | str | Path | Sequence[str | Path] | Source) -> Iterator[FrameResult]:
    """Segment a source frame by frame.

    Files are read a few frames ahead while the model runs. Of a live source, the newest frame is taken.

    Args:
        segmenter: A ``Segmenter``, or a callable with the same signature.
        source: Source as for ``open_source``, which is opened before the first frame and closed after the last; or an
            open source, which stays open.

    Yields:
        The result of each frame, in order.

    Raises:
        UsageError: The source is a ``Source`` that is not open.
        SourceError: The camera or stream is not available.
        InputError: A file cannot be read; for one image of many, or a video that ends early, after all other frames.

    Example:
        >>> from edge_runtime import Segmenter, TiledSegmenter, stream
        >>> tiled = TiledSegmenter(Segmenter.load(package))
        >>> [result.segmentation.mask.shape for result in stream(tiled, folder)]
        [(48, 64), (48, 64), (48, 64)]
    """
    if not isinstance(source, Source):
        with open_source(source) as opened:
            yield from stream(segmenter, opened)
        return
    if source.state == "closed":  # reading it would give nothing, or wait for ever
        raise UsageError(
            f"source {source.name} — is not open — use it inside `with open_source(…) as source:`, or pass its name here"
        )
    if source.live:
        for frame in source:
            yield segment_frame(segmenter, frame)
        return
    with ReadAhead(source) as frames:
        for frame in frames:
            yield segment_frame(segmenter, frame)


def segment_frame(segmenter: Segment, frame: Frame) -> FrameResult:
    """Segment one frame and measure its latency, in total and per stage, and its age."""
    times = StageTimes()
    start = time.perf_counter()
    segmentation = segmenter(frame.image_bgr, times)
    latency_ms = (time.perf_counter() - start) * 1e3
    age_ms = (time.monotonic() - frame.captured_at) * 1e3
    return FrameResult(
        frame=frame, segmentation=segmentation, age_ms=age_ms, latency_ms=latency_ms, stages_ms=times.stages_ms
    )
