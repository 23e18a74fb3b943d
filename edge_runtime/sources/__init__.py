"""Where frames come from: image files, video files, cameras, network streams and standard input.

Files lose nothing: each frame waits for its turn. Live sources drop what there is no time for; see ``live``.
"""

from __future__ import annotations

import glob
from pathlib import Path

from edge_runtime.errors import InputError, UsageError
from edge_runtime.image import IMAGE_SUFFIXES, MAX_PIXELS, image_files
from edge_runtime.sources.capture import URL_SCHEMES, Patience, is_camera, is_remote_video, redacted
from edge_runtime.sources.frame import Frame, Kind, Source
from edge_runtime.sources.images import ImageSource
from edge_runtime.sources.live import LiveSource
from edge_runtime.sources.read_ahead import ReadAhead
from edge_runtime.sources.stdin import StdinSource
from edge_runtime.sources.video import RemoteVideoSource, VideoSource
from edge_runtime.storage import printable, translated

__all__ = [
    "Frame",
    "ImageSource",
    "Kind",
    "LiveSource",
    "Patience",
    "ReadAhead",
    "RemoteVideoSource",
    "Source",
    "StdinSource",
    "VideoSource",
    "open_source",
    "redacted",
]


def open_source(
    source: int | str | Path,
    patience: Patience | None = None,
    *,
    camera_size: tuple[int, int] | None = None,
    raw_size: tuple[int, int] | None = None,
    live: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Source:
    """Recognise a source; ``with`` opens it.

    Args:
        source: A camera index (a number, or a string of digits), a camera device, an rtsp or http address, an image, a
            video, a folder of images, a glob pattern of images, or "-" for standard input.
        patience: With live sources and the network.
        camera_size: (height, width) to ask a camera for.
        raw_size: (height, width) of raw BGR frames on standard input, which otherwise are JPEGs.
        live: Of standard input take the newest frame, and not every one.
        max_pixels: How large an image file may be.

    Raises:
        InputError: No such file, or nothing usable in it.
        UsageError: An empty name, an address of an unknown kind, or an option that does not go with the source.
    """
    name = str(source)
    if not name:
        raise UsageError("source — is empty — expected a camera index, a file, a folder, a glob, an address or -")
    if (raw_size is not None or live) and name != "-":
        raise UsageError("raw size and live — are for frames on standard input — leave them out, or read from -")
    camera = _camera(source)
    if camera is not None:
        return LiveSource(f"camera {printable(str(camera))}", camera, patience, camera_size=camera_size)
    if camera_size is not None:
        raise UsageError("camera size — is for a camera, and the source is none — leave it out")
    if name == "-":
        return StdinSource(raw_size=raw_size, live=live)
    if isinstance(source, str) and "://" in source:
        if source.partition("://")[0].lower() not in URL_SCHEMES:
            raise UsageError(f"source {redacted(source)} — unknown kind of address — expected {', '.join(URL_SCHEMES)}")
        if is_remote_video(source):
            return RemoteVideoSource(source, patience)
        return LiveSource(redacted(source), source, patience)
    return _files(Path(name), max_pixels)


def _camera(source: int | str | Path) -> int | str | None:
    """Return the index or the path of a camera."""
    if isinstance(source, int) or (isinstance(source, str) and source.isascii() and source.isdigit()):
        return int(source)
    if isinstance(source, str) and "://" in source:
        return None
    with translated("read", Path(source), InputError):
        return str(source) if is_camera(Path(source)) else None


def _files(path: Path, max_pixels: int) -> Source:
    with translated("read", path, InputError):
        if path.is_dir():
            return ImageSource(_not_empty(image_files(path), path), printable(path), max_pixels)
        if path.is_file():
            images = path.suffix.lower() in IMAGE_SUFFIXES
            return ImageSource([path], printable(path), max_pixels) if images else VideoSource(path)
        if path.exists():
            raise InputError(
                f"{printable(path)} — is no regular file — expected an image, a video, a folder or a camera"
            )
        if glob.has_magic(str(path)):
            found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            matches = [Path(match) for match in sorted(found)]
            images_only = [m for m in matches if m.suffix.lower() in IMAGE_SUFFIXES and m.is_file()]
            return ImageSource(_not_empty(images_only, path), printable(path), max_pixels)
    raise InputError(f"{printable(path)} — no such file or folder — check the path")


def _not_empty(paths: list[Path], where: Path) -> list[Path]:
    if not paths:
        raise InputError(f"{printable(where)} — no images found — expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths
