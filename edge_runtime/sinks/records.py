"""JSON Lines: one object a frame, to a file or to standard output."""

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
    """One JSON object a line, to a file, a named pipe or standard output, each written at once and whole.

    Lines are ASCII: readable in any locale, and a file name that is no text survives. Safe to use from several threads.
    """

    def __init__(self, target: str, stop: threading.Event | None = None) -> None:
        """Open a file anew, or standard output for "-"; ``stop`` ends the waiting for a reader, see ``ByteStream``.

        Raises:
            StorageError: The file cannot be written.
        """
        self._stream = ByteStream(target, stop or threading.Event())

    def write(self, value: dict[str, Any]) -> None:
        """Write one object.

        Raises:
            StorageError: The disk is full; the line is left out whole, and the next one is tried again.
            BrokenPipeError: The reader of standard output has gone; later lines go nowhere.
        """
        self._stream.write((json.dumps(value, allow_nan=False) + "\n").encode("ascii"))

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()


def frame_record(result: FrameResult, mask_path: Path | None, shapes: Shapes | None = None) -> dict[str, Any]:
    """Return a frame's line of ``run --json``.

    Args:
        result: The frame and its mask.
        mask_path: The file that the mask was written to.
        shapes: Add "polygons" or "rle", the area of each class by name; see ``edge_runtime.sinks.shapes``.

    Returns:
        Its index and source, its size [height, width], what is wrong with the picture, times in milliseconds, the share
        of pixels of each class, and its mask file.
    """
    frame, segmentation = result.frame, result.segmentation
    record = {
        "frame": frame.index,
        "source": frame.source,
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
