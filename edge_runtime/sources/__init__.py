"""Read frames from image files, video files, cameras, network streams and standard input.

Files lose no frame. Live sources drop frames for which there is no time; see ``live``.

Each kind of source is a module with a subclass of ``Source`` and a function ``recognise``, which is listed in
``SOURCES``. Its options are fields of ``SourceOptions``.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import SupportsIndex

from edge_runtime.errors import InputError, UsageError
from edge_runtime.sources import images, live, stdin, video
from edge_runtime.sources.capture import is_address, redacted
from edge_runtime.sources.frame import Frame, Kind, Source
from edge_runtime.sources.images import ImageSource
from edge_runtime.sources.live import LiveSource
from edge_runtime.sources.options import Patience, SourceOptions
from edge_runtime.sources.read_ahead import ReadAhead
from edge_runtime.sources.stdin import StdinSource
from edge_runtime.sources.video import RemoteVideoSource, VideoSource
from edge_runtime.storage import printable

__all__ = [
    "SOURCES",
    "Frame",
    "ImageSource",
    "Kind",
    "LiveSource",
    "Patience",
    "ReadAhead",
    "RemoteVideoSource",
    "Source",
    "SourceOptions",
    "StdinSource",
    "VideoSource",
    "open_source",
    "redacted",
]

Recognise = Callable[[int | str | Path, SourceOptions], Source | None]
"""``(source, options) -> Source``, or None for another kind of source; errors are raised for this kind only."""


def _recognise_remote(source: int | str | Path, options: SourceOptions) -> Source | None:
    if not is_address(source):
        return None
    from edge_runtime.sources import remote  # the client for http takes 11 ms to load

    return remote.recognise(source, options)


SOURCES: tuple[Recognise, ...] = (
    _recognise_remote,
    live.recognise,
    stdin.recognise,
    images.recognise,
    video.recognise,
)
"""All kinds of sources, in the order of recognition: "0" to "9" are cameras even if a file has this name."""


def open_source(source: int | str | Path | Sequence[str | Path], options: SourceOptions | None = None) -> Source:
    """Return a source, which a ``with`` block opens.

    Args:
        source: A camera index (a number, or a string of digits), a camera device, an rtsp or http address, an image, a
            video, a folder of images, a pattern of images (``*.png``, ``img_%03d.png``), "-" for standard input, or a
            sequence of images, folders and patterns of images.
        options: Options of the source.

    Raises:
        InputError: The file does not exist, or has nothing usable in it.
        UsageError: An empty name, an address of an unknown kind, or an option that does not apply to the source.

    Example:
        >>> from edge_runtime import open_source
        >>> with open_source(folder / "*.png") as source:
        ...     [frame.name for frame in source]
        ['0', '1', '2']
    """
    options = options or SourceOptions()
    if isinstance(source, (list, tuple)):
        return images.images_of([str(_one(item)) for item in source], options)
    one = _one(source)
    for recognise in SOURCES:
        found = recognise(one, options)
        if found is not None:
            return found
    options.refuse_all_but()
    raise InputError(f"{printable(Path(str(one)))} — no such file or folder — check the path")


def _one(source: object) -> int | str | Path:
    """Return the name of a source, or refuse what is none, such as an array.

    Raises:
        UsageError: No number, text or path, or an empty one.
    """
    if isinstance(source, (str, Path)) and str(source):
        return source
    if isinstance(source, SupportsIndex) and not isinstance(source, bool):  # also NumPy's integers
        with contextlib.suppress(TypeError):  # an array that is no integer
            return operator.index(source)
    found = "it is empty" if isinstance(source, str) else f"it is a {type(source).__name__}"
    raise UsageError(
        f"source — {found} — expected a camera index, a file, a folder, a pattern, an address, - or a list of images; "
        "an array is segmented by calling the segmenter"
    )
