"""Measure temporal smoothing of the masks of videos: flicker before and after, and whether masks follow moving objects.

    python bench_smoothing.py PACKAGE [VIDEO ...]

The default videos are ``$EDGE_UNET_DATA/video/intel_asl_*.mkv``: a person, waist-up, before a fixed camera. Flicker is
counted where the image stands still: pixels whose class changes, and pixels whose class changes and changes back
(A-B-A), per 1,000 still pixels. "IoU" compares the smoothed with the plain masks, and "moving" does so where the image
moves; both should be near 1. The last rows are totals over the odd, the even and all videos: parameters are chosen on
the odd ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from flicker import FlickerCounts, FlickerMeter, picture_change
from numpy.typing import NDArray

from edge_runtime.segment.refined import RefinedSegmenter
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.timing import StageTimes
from edge_runtime.sources import open_source

_MOVING_LEVELS = 4.0


@dataclass(frozen=True)
class Row:
    """Figures of one video, or the total of several. Overlaps are intersection and union of pixels above class 0."""

    before: FlickerCounts
    after: FlickerCounts
    overlap: tuple[int, int]
    moving_overlap: tuple[int, int]
    refine_ms: tuple[float, ...]

    def __add__(self, other: Row) -> Row:
        return Row(
            self.before + other.before,
            self.after + other.after,
            _plus(self.overlap, other.overlap),
            _plus(self.moving_overlap, other.moving_overlap),
            self.refine_ms + other.refine_ms,
        )

    def text(self, name: str) -> str:
        b, a = self.before, self.after
        return (
            f"{name:24} {b.changed_per_mille:8.2f} {a.changed_per_mille:8.2f} {b.returned_per_mille:9.3f} "
            f"{a.returned_per_mille:8.3f} {_ratio(self.overlap):8.3f} {_ratio(self.moving_overlap):8.3f} "
            f"{statistics.median(self.refine_ms):8.2f}"
        )


def frames_of(path: Path) -> Iterator[NDArray[np.uint8]]:
    with open_source(path) as source:
        for frame in source:
            yield frame.image_bgr


def measure(segmenter: Segmenter, path: Path) -> Row:
    smoothed = RefinedSegmenter(segmenter, smooth=True)
    before, after = FlickerMeter(), FlickerMeter()
    overlap, moving_overlap, refine_ms, previous = (0, 0), (0, 0), [], None
    for frame in frames_of(path):
        times = StageTimes()
        plain, result = segmenter(frame).mask, smoothed(frame, times)
        before.add(plain, frame)
        after.add(result.mask, frame)
        refine_ms.append(times.stages_ms["refine"])
        overlap = _plus(overlap, _overlap(plain, result.mask))
        if previous is not None:
            moving = picture_change(previous, frame) > _MOVING_LEVELS
            moving_overlap = _plus(moving_overlap, _overlap(plain[moving], result.mask[moving]))
        previous = frame
    return Row(before.counts, after.counts, overlap, moving_overlap, tuple(refine_ms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("videos", nargs="*", type=Path)
    args = parser.parse_args()
    videos = args.videos
    if not videos:
        data = os.environ.get("EDGE_UNET_DATA")
        videos = sorted(Path(data, "video").glob("intel_asl_*.mkv")) if data else []
    if not videos:
        sys.exit("no videos — name some, or set EDGE_UNET_DATA to a folder with video/intel_asl_*.mkv")
    segmenter = Segmenter.load(args.package)
    print(f"{'':24} {'changed per mille':>17} {'A-B-A per mille':>18} {'IoU':>8} {'moving':>8} {'ms':>8}")
    print(f"{'':24} {'before':>8} {'after':>8} {'before':>9} {'after':>8}")
    rows = []
    for path in sorted(videos):
        rows.append(measure(segmenter, path))
        print(rows[-1].text(path.stem), flush=True)
    for name, part in (("odd", rows[::2]), ("even", rows[1::2]), ("all", rows)):
        if part:
            print(reduce(add, part).text(name))


def _overlap(plain: NDArray[np.uint8], held: NDArray[np.uint8]) -> tuple[int, int]:
    """Return intersection and union of the pixels above class 0; only equal classes intersect."""
    return int(((plain == held) & (plain > 0)).sum()), int(((plain > 0) | (held > 0)).sum())


def _plus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def _ratio(overlap: tuple[int, int]) -> float:
    return overlap[0] / overlap[1] if overlap[1] else 1.0


if __name__ == "__main__":
    main()
