"""JSON Lines: one object a frame, to a file or to standard output."""

from __future__ import annotations

import json
import sys
from io import FileIO
from pathlib import Path
from typing import Any

from edge_runtime.errors import StorageError
from edge_runtime.pipeline import FrameResult
from edge_runtime.storage import translated


class JsonLines:
    """One JSON object a line, to a file or to standard output, each written at once and whole.

    Lines are ASCII: readable in any locale, and a file name that is no text survives.
    """

    def __init__(self, target: str) -> None:
        """Open a file anew, or standard output for "-".

        Raises:
            StorageError: The file cannot be written.
        """
        self._where = Path("standard output" if target == "-" else target)
        self._broken = False
        with translated("write", self._where):
            # Unbuffered: nothing is left to fail, or to be lost, later.
            self._file = FileIO(sys.stdout.fileno(), "w", closefd=False) if target == "-" else FileIO(target, "w")

    def write(self, value: dict[str, Any]) -> None:
        """Write one object.

        Raises:
            StorageError: The disk is full.
            BrokenPipeError: The reader of standard output has gone.
        """
        if self._broken:  # the first failure said it all
            return
        rest = memoryview((json.dumps(value, allow_nan=False) + "\n").encode("ascii"))
        try:
            with translated("write", self._where):
                while rest:
                    rest = rest[self._file.write(rest) :]
        except StorageError as error:
            self._broken = True
            if isinstance(error.__cause__, BrokenPipeError):
                raise error.__cause__ from None
            raise

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def frame_record(result: FrameResult, mask_path: Path | None) -> dict[str, Any]:
    """Return a frame's line of ``run --json``: its index, source, times in milliseconds, shares of pixels, mask file."""
    return {
        "frame": result.frame.index,
        "source": result.frame.source,
        "age_ms": round(result.age_ms, 3),
        "latency_ms": round(result.segmentation.latency_ms, 3),
        "classes": {name: round(share, 6) for name, share in result.segmentation.fractions().items()},
        "mask": str(mask_path) if mask_path is not None else None,
    }
