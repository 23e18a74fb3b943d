"""Write JSON Lines, one object per frame, to a file or standard output."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks.bytestream import ByteStream
from edge_runtime.sinks.shapes import polygons, run_lengths

Shapes = Literal["polygons", "rle"]


class JsonLines:
    """Writer of one JSON object per line to a file, a named pipe or standard output; each line is written at once.

    Lines are ASCII, so that they can be read in any locale and file names that are not valid text are preserved.
    Thread-safe.
    """

    def __init__(self, target: str, stop: threading.Event | None = None) -> None:
        """Open a file, whose content the first line replaces, or standard output for "-"; see ``ByteStream``.

        Raises:
            StorageError: The file cannot be written.
        """
        self._stream = ByteStream(target, stop or threading.Event(), follow=True)

    def write(self, value: dict[str, Any]) -> None:
        """Write one object.

        Raises:
            StorageError: The disk is full; the whole line is left out, and the next one is tried again.
            BrokenPipeError: The reader has closed the pipe; later lines are discarded.
        """
        self._stream.write((json.dumps(value, allow_nan=False) + "\n").encode("ascii"))

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()


def frame_record(result: FrameResult, mask_path: Path | None, shapes: Shapes | None = None) -> dict[str, Any]:
    """Return the object of a frame for ``run --json``.

    Args:
        result: Frame, segmentation and times.
        mask_path: File of the mask; None if it was not saved.
        shapes: Add "polygons" or "rle", the area of each class by name; see ``edge_runtime.sinks.shapes``.

    Returns:
        Index and source of the frame, its time in the video in seconds, its size [height, width], flags, times in milliseconds, share of pixels per
        class, and mask file.
    """
    frame, segmentation = result.frame, result.segmentation
    record = {
        "frame": frame.index,
        "source": frame.source,
        "time_s": None if frame.time_s is None else round(frame.time_s, 6),
        "size": list(segmentation.mask.shape),
        "flags": list(frame.flags),
        "age_ms": round(result.age_ms, 3),
        "latency_ms": round(result.latency_ms, 3),
        "classes": {name: round(share, 6) for name, share in segmentation.fractions().items()},
        "mask": str(mask_path) if mask_path is not None else None,
    }
    if shapes == "polygons":
        record["polygons"] = polygons(segmentation.mask, segmentation.classes)
    elif shapes == "rle":
        record["rle"] = run_lengths(segmentation.mask, segmentation.classes)
    return record
