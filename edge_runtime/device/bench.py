"""Measure the latency of each variant of a package on this machine: the bare session, a whole frame, the stages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.package import Package
from edge_runtime.model.session import SessionOptions
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.timing import StageTimes
from edge_runtime.storage import translated

FRAME_HEIGHT_PX, FRAME_WIDTH_PX = 480, 640
WARM_UP_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Median and 95th percentile of a latency, in milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantLatency:
    """Latencies of one variant.

    Attributes:
        session_ms: Latency of the bare onnxruntime run to the mask.
        frame_ms: Latency from a 640×480 BGR frame to the mask at the frame's size.
        stages_ms: Latency per stage of a frame: "resize", "inference" and "mask_resize".
    """

    session_ms: Percentiles
    frame_ms: Percentiles
    stages_ms: dict[str, Percentiles]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Result of ``bench``: threads per inference, timed runs per variant, and the variants by name."""

    threads: int
    runs: int
    variants: dict[str, VariantLatency]

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as a JSON object."""
        return {**asdict(self), "frame": {"height": FRAME_HEIGHT_PX, "width": FRAME_WIDTH_PX}}


def bench(path: Path, *, threads: int = 0, runs: int = 50) -> Latency:
    """Measure every variant of a package.

    The variants take turns, run by run, so that a slowdown of the machine affects all of them. Idle threads do not
    spin, as in a camera loop, because spinning sessions would disturb each other.

    Args:
        path: Package folder, or a bare ``.onnx`` file.
        threads: Threads per inference; 0 uses all usable cores.
        runs: Timed runs per variant, after the warm-up.

    Raises:
        UsageError: ``runs`` is below 1, or ``threads`` below 0.
        ModelError: The package is refused.
    """
    options = SessionOptions(threads=threads)
    with translated("read", path, ModelError):
        names = list(Package.open(path).manifest.variants) if path.is_dir() else [None]
    loaded = [Segmenter.load(path, variant=name, options=options) for name in names]
    return bench_segmenters({segmenter.variant: segmenter for segmenter in loaded}, runs=runs)


def bench_segmenters(segmenters: Mapping[str, Segmenter], *, runs: int) -> Latency:
    """Measure loaded models, given by name; see ``bench``.

    Raises:
        UsageError: ``runs`` is below 1.
    """
    if runs < 1:
        raise UsageError(f"runs is {runs} — expected at least 1")
    frame = np.random.default_rng(0).integers(0, 256, (FRAME_HEIGHT_PX, FRAME_WIDTH_PX, 3), dtype=np.uint8)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in segmenters}
    for run in range(WARM_UP_RUNS + runs):
        for name, segmenter in segmenters.items():
            sample = _measure(segmenter, frame)
            if run >= WARM_UP_RUNS:
                samples[name].append(sample)
    return Latency(
        threads=next(iter(segmenters.values())).threads,
        runs=runs,
        variants={name: _summary(rows) for name, rows in samples.items()},
    )


def _measure(segmenter: Segmenter, frame: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one bare run and one whole frame with its stages, in milliseconds."""
    image = segmenter.input_of(frame)
    times = StageTimes()
    start = time.perf_counter()
    segmenter.session.mask(image)
    between = time.perf_counter()
    segmenter(frame, times)
    end = time.perf_counter()
    return {"session": (between - start) * 1e3, "frame": (end - between) * 1e3, **times.stages_ms}


def _summary(rows: list[dict[str, float]]) -> VariantLatency:
    def percentiles(key: str) -> Percentiles:
        p50, p95 = np.percentile([row[key] for row in rows], (50, 95))
        return Percentiles(p50=float(p50), p95=float(p95))

    return VariantLatency(
        session_ms=percentiles("session"),
        frame_ms=percentiles("frame"),
        stages_ms={
            "resize": percentiles("resize"),
            "inference": percentiles("inference"),
            "mask_resize": percentiles("mask"),
        },
    )
