"""Copy the sound of a video into its overlay, with ffmpeg where the machine has it: OpenCV writes pictures alone."""

from __future__ import annotations

import re
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
    sound = f"file:{source.absolute()}"
    try:
        # The video begins with the first picture, which may come later than the sound.
        inputs = ["-i", f"file:{video.absolute()}", "-ss", f"{_first_picture_s(program, sound):.6f}", "-i", sound]
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


def _first_picture_s(program: str, source: str) -> float:
    """Return the time of the first picture after the beginning of a file; 0 if ffmpeg does not tell it.

    Reference: ffmpeg-formats(1), framecrc: "#tb 0: 1/1000" is the unit, and the third column the time in it.
    """
    command = [program, "-nostdin", "-v", "error", "-i", source, "-map", "0:v:0", "-c", "copy", "-frames:v", "1"]
    done = subprocess.run(
        [*command, "-f", "framecrc", "-"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
    )
    found = re.search(r"^#tb 0: (\d+)/(\d+)$.*^0, *-?\d+, *(\d+),", done.stdout, re.MULTILINE | re.DOTALL)
    return int(found[3]) * int(found[1]) / int(found[2]) if found else 0.0
