"""Where frames come from: image files, video files, cameras and network streams.

Files lose nothing: each frame waits for its turn. Live sources drop what there is no time for; see ``live``.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

from edge_runtime.errors import InputError, UsageError
from edge_runtime.image import IMAGE_SUFFIXES
from edge_runtime.pairs import image_files
from edge_runtime.sources.frame import Frame, Kind, Source
from edge_runtime.sources.images import ImageSource
from edge_runtime.sources.live import LiveSource, Timeouts
from edge_runtime.sources.video import VideoSource
from edge_runtime.storage import printable, translated

__all__ = ["Frame", "ImageSource", "Kind", "LiveSource", "Source", "Timeouts", "VideoSource", "open_source", "redacted"]

URL_SCHEMES = ("rtsp", "rtsps", "http", "https")


def open_source(source: int | str | Path, timeouts: Timeouts | None = None) -> Source:
    """Recognise a source; ``with`` opens it.

    Args:
        source: A camera index (a number, or a string of digits), an rtsp or http address, a camera device, an image, a
            video, a folder of images, or a glob pattern of images.
        timeouts: Patience with live sources.

    Raises:
        InputError: No such file, or nothing usable in it.
        UsageError: An empty name, or an address of an unknown kind.
    """
    timeouts = timeouts or Timeouts()
    if isinstance(source, int) or (isinstance(source, str) and source.isascii() and source.isdigit()):
        return LiveSource(f"camera {int(source)}", int(source), timeouts)
    if isinstance(source, str) and "://" in source:
        scheme = source.partition("://")[0].lower()
        if scheme not in URL_SCHEMES:
            raise UsageError(f"source {redacted(source)} — unknown kind of address — expected {', '.join(URL_SCHEMES)}")
        return LiveSource(redacted(source), source, timeouts)
    if not str(source):
        raise UsageError("source — is empty — expected a camera index, a file, a folder, a glob or an address")
    path = Path(source)
    with translated("read", path, InputError):
        if path.is_dir():
            return ImageSource(_not_empty(image_files(path), path), printable(path))
        if path.is_char_device():
            return LiveSource(f"camera {printable(path)}", str(path), timeouts)
        if path.is_file():
            images = path.suffix.lower() in IMAGE_SUFFIXES
            return ImageSource([path], printable(path)) if images else VideoSource(path)
        if path.exists():
            raise InputError(
                f"{printable(path)} — is no regular file — expected an image, a video, a folder or a camera"
            )
        if glob.has_magic(str(path)):
            found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            matches = [Path(match) for match in sorted(found)]
            images_only = [m for m in matches if m.suffix.lower() in IMAGE_SUFFIXES and m.is_file()]
            return ImageSource(_not_empty(images_only, path), printable(path))
    raise InputError(f"{printable(path)} — no such file or folder — check the path")


def redacted(url: str) -> str:
    """Return an address that can be printed: scheme, host and path, without user, password and parameters.

    Cameras also take credentials as parameters, some inside the path (``/user=admin_password=x``), so everything from
    the first ``?``, ``=``, ``;`` or ``#`` on is left out. A password may hold a "/", so the host begins after the last
    "@".
    """
    scheme, _, rest = url.partition("://")
    shown = re.split(r"[?=;#]", rest.rpartition("@")[2], maxsplit=1)
    return printable(f"{scheme}://{shown[0]}{'…' if len(shown) > 1 else ''}")


def _not_empty(paths: list[Path], where: Path) -> list[Path]:
    if not paths:
        raise InputError(f"{printable(where)} — no images found — expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths
