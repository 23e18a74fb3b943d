"""Copy the sound of a video into its overlay, with ffmpeg where the machine has it: OpenCV writes pictures alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edge_runtime.errors import StorageError
from edge_runtime.storage import printable, replace_file, temporary_name

_LIMIT_S = 600.0
_CODECS = ("copy", "aac")
"""First the sound as it is, then encoded again, because MP4 does not hold every kind."""


def add_sound(video: Path, source: Path, seconds: float) -> str:
    """Add the sound of ``source`` to a finished MP4 of this length, in place.

    Returns:
        What became of the sound, as the end of a line about the video. Without ffmpeg, or if it fails, the video stays
        as it is.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        return f"without the sound of {printable(source)}: install ffmpeg to keep it"
    mixed = temporary_name(video)
    # "file:" because a name may look like the address of a protocol.
    inputs = ["-i", f"file:{video.absolute()}", "-i", f"file:{source.absolute()}"]
    try:
        for codec in _CODECS:
            command = [program, "-nostdin", "-y", "-v", "error", *inputs, "-map", "0:v", "-map", "1:a", "-c:v", "copy"]
            command += ["-c:a", codec, "-t", f"{seconds:.6f}", f"file:{mixed.absolute()}"]
            if subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False).returncode == 0:
                replace_file(mixed, video)
                return f"with the sound of {printable(source)}"
    except (OSError, StorageError, subprocess.TimeoutExpired):
        return f"without the sound of {printable(source)}: ffmpeg failed"
    finally:
        mixed.unlink(missing_ok=True)
    return f"without the sound of {printable(source)}: ffmpeg cannot add it"
