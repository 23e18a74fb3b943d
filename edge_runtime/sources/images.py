"""Read image files in order."""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from edge_runtime.errors import InputError, UsageError
from edge_runtime.headers import FORMAT_NAMES, FORMATS, IMAGE_SUFFIXES, UNREAD_FORMATS, kind_of, pictures_in
from edge_runtime.headers.jpeg import jpeg_end
from edge_runtime.image import MAX_PIXELS, is_animation, leads_to_file, read_first_picture, visible_files
from edge_runtime.sources.capture import is_address, is_video_name
from edge_runtime.sources.frame import Frame, Source
from edge_runtime.sources.options import SourceOptions
from edge_runtime.storage import is_result, printable, translated

_HEAD_BYTES = 512
_JPEG_START = b"\xff\xd8\xff"
_NUMBERED = re.compile(r"%0?(\d{0,2})d")
"""Number in the names of a sequence, as in FFmpeg: ``img_%03d.png``."""


class Reader(Protocol):
    """A file, or the answer of a server."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, all with -1."""


def recognise(source: int | str | Path, options: SourceOptions) -> ImageSource | None:
    """Return the source for an image, a folder of images or a pattern of images; None for anything else.

    A pattern is a glob, or has a number as in ``img_%03d.png``. An image is recognised by its ending or its content.

    Raises:
        InputError: The folder or pattern has no images, or cannot be read.
        UsageError: An option of another kind of source is set.
    """
    if is_address(source):
        return None
    path = Path(str(source))
    with translated("read", path, InputError):
        if path.is_file() and (form := UNREAD_FORMATS.get(path.suffix.lower())):
            raise InputError(f"{printable(path)} — a {form} file, which is not read — convert it to PNG or JPEG")
        image = path.is_file() and is_image(path)
        pattern = not image and not path.exists() and (glob.has_magic(str(path)) or _NUMBERED.search(path.name))
        if not (image or path.is_dir() or pattern):
            return None
        options.refuse_all_but()
        if image:
            return ImageSource([path], printable(path), options.max_pixels or MAX_PIXELS)
        files = [path / name for name in visible_files(path)] if path.is_dir() else _matches(path)
    found, others = _sorted_out(files)
    left_out = _left_out(others)
    if not found:
        but = f", but files that are not read ({left_out})" if left_out else ""
        raise InputError(f"{printable(path)} — no images found{but} — expected {FORMAT_NAMES}")
    images = ImageSource(found, printable(path), options.max_pixels or MAX_PIXELS)
    if left_out:
        images.notes.append(f"{printable(path)} — also holds files that are not read: {left_out}")
    return images


def images_of(sources: Iterable[str | Path], options: SourceOptions) -> ImageSource:
    """Return one source for several images, folders and patterns of images.

    Raises:
        InputError: One of them has no images, or cannot be read.
        UsageError: One of them is no image, folder or pattern of images.
    """
    found: list[Path] = []
    notes: list[str] = []
    for source in sources:
        one = recognise(source, options)
        if one is None:
            shown = printable(str(source)) if not is_address(source) else "an address"
            if not is_address(source) and not Path(source).exists():
                raise InputError(f"{shown} — no such file or folder — check the path")
            raise UsageError(
                f"source {shown} — several sources are images, and this is none — run videos, cameras and addresses one "
                "by one"
            )
        found += one.files
        notes += one.notes
    if not found:
        raise UsageError("source — an empty list — expected images")
    images = ImageSource(found, f"{len(found)} images", options.max_pixels or MAX_PIXELS)
    images.notes = notes
    return images


def is_image(path: Path) -> bool:
    """Tell whether an existing file is an image rather than a video, by its ending or else by its first bytes."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return not is_animation(path)
    if is_video_name(path.name):
        return False
    with path.open("rb") as file:
        return is_picture(file)


def is_picture(file: Reader, most_bytes: int = -1) -> bool:
    """Tell by the bytes of a file, which are read as far as needed but not beyond a limit, whether it is one picture."""
    data = file.read(_HEAD_BYTES)
    kind = kind_of(data)
    if kind not in {form.name for form in FORMATS}:
        return False
    # A recording of JPEGs and an animation are videos.
    if kind in ("JPEG", "GIF"):
        data += file.read(most_bytes)
    if kind == "JPEG":
        end = jpeg_end(data)
        return end is None or data.find(_JPEG_START, end.data_end) < 0
    return kind != "GIF" or pictures_in(data) == 1


def _sorted_out(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return the images among some files, and the names of the others."""
    images, others = [], []
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others.append(path.name)
    return images, others


def _matches(pattern: Path) -> list[Path]:
    """Return the files that match a pattern."""
    number = _NUMBERED.search(pattern.name)
    if number:
        before, after = pattern.name[: number.start()], pattern.name[number.end() :]
        name = re.compile(f"{re.escape(before)}\\d{{{number[1] or 1},}}{re.escape(after)}")
        parent = pattern.parent
        named = [path for path in parent.iterdir() if name.fullmatch(path.name)] if parent.is_dir() else []
        found = sorted(named, key=lambda path: int(path.name[len(before) : len(path.name) - len(after)]))
    else:
        found = [Path(match) for match in sorted(_glob(pattern))]
    everywhere = "**" in pattern.parts  # which also matches what an earlier run has written
    return [path for path in found if leads_to_file(path) and not (everywhere and is_result(path))]


def _glob(pattern: Path) -> list[str]:
    """Return the matches of a glob pattern; brackets in the names of existing folders are no pattern."""
    literal = Path(pattern.anchor)
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    while parts and (literal / parts[0]).exists():
        literal, parts = literal / parts[0], parts[1:]
    return _glob_in(str(literal), parts)


def _glob_in(folder: str, parts: Sequence[str]) -> list[str]:
    """Return the matches of the parts of a glob pattern in a folder."""
    if "**" not in parts:
        found = glob.glob(str(Path(*parts)), root_dir=folder)  # noqa: PTH207 - Path.glob needs more memory
        return [str(Path(folder, match)) for match in found]
    at = parts.index("**")
    heads = _glob_in(folder, parts[:at]) if at else [folder]
    rest = parts[at + 1 :] or ("*",)
    return list({match for head in heads for place in _folders(head) for match in _glob_in(place, rest)})


def _folders(top: str) -> Iterator[str]:
    """Yield a folder and all below it, except hidden ones; each once, because a link may lead back to one above.

    Links come last, so that what lies in a folder has the name of this folder.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = deque([top]), deque[str]()
    while waiting or links:
        place = (waiting or links).popleft()
        try:
            found, entries = Path(place).stat(), [*os.scandir(place)]
        except OSError:  # a link to a file or to nothing, or a closed folder
            continue
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        yield place
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_symlink():
                links.append(entry.path)


def _left_out(names: Sequence[str]) -> str:
    """Return, as text, how many other files hold pictures or videos that are not read; empty if none do."""
    kinds = (
        "video" if is_video_name(name) else UNREAD_FORMATS.get(os.path.splitext(name)[1].lower())  # noqa: PTH122
        for name in names
    )
    counts = Counter(kind for kind in kinds if kind is not None)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))


class ImageSource(Source):
    """Source of image files in order; unreadable files are skipped and reported at the end."""

    def __init__(self, paths: Sequence[Path], name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Read the files at ``paths``, each of at most ``max_pixels`` pixels."""
        super().__init__(name, "images")
        self.files = list(paths)
        self._names = _unique_names(self.files)
        self._max_pixels = max_pixels
        self._counting = threading.Lock()
        self.total = len(self.files)

    def load(self, index: int) -> Frame | None:
        """Read one image; see ``Source``."""
        path, started = self.files[index], time.monotonic()
        try:
            image, pictures = read_first_picture(path, max_pixels=self._max_pixels)
        except InputError as error:
            with self._counting:
                self._failed(str(error))
            return None
        now = time.monotonic()
        frame = Frame(
            index=index,
            name=self._names[index],
            source=printable(path),
            image_bgr=image,
            captured_at=now,
            decode_ms=(now - started) * 1e3,
        )
        with self._counting:
            if pictures > 1:
                self._note(f"{frame.source} — has {pictures} pages or frames, of which the first was read")
            return self._taken(frame)

    def raise_problems(self) -> None:
        """Raise an error that names the images that could not be read; see ``Source``."""
        if self.failed:
            raise InputError(_all_problems(self.problems, self.failed, len(self.files)))

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            InputError: At the end, if other images could not be read; the message names them.
        """
        for index in range(len(self.files)):
            if self.stopped.is_set():
                return
            if (frame := self.load(index)) is not None:
                yield frame
        self.raise_problems()


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return names without endings, made unique with "_2", "_3" …, ignoring case because some file systems do.

    Files of several folders keep the folders below the one that they share: "day1/0001". The file of a result must not
    have the name of such a folder: beside "a.png/0001", "a" becomes "a_2".
    """
    # Without "..", so that no name leads out of the folder for results; links are kept, as a person sees them.
    folders = {folder: os.path.normpath(folder.absolute()) for folder in {path.parent for path in paths}}
    shared = os.path.commonpath(folders.values()) if folders else ""
    inside = {folder: Path(place).relative_to(shared).as_posix() for folder, place in folders.items()}
    places = {str(part).casefold() for place in inside.values() for part in (place, *PurePosixPath(place).parents)}
    names: list[str] = []
    taken: set[str] = {
        place.removesuffix(suffix) for suffix in (".png", ".jpg") for place in places if place.endswith(suffix)
    }
    latest: dict[str, int] = {}
    for path in paths:
        below = inside[path.parent]
        stem = path.stem if below == "." else f"{below}/{path.stem}"
        name, key = stem, stem.casefold()
        while name.casefold() in taken:
            latest[key] = latest.get(key, 1) + 1
            name = f"{stem}_{latest[key]}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _all_problems(problems: list[str], failed: int, total: int) -> str:
    if total == 1:
        return problems[0]
    more = f"; and {failed - 5} more" if failed > 5 else ""
    return f"{failed} of {total} images cannot be used: {'; '.join(problems[:5])}{more}"
