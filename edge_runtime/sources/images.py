"""Read image files in order."""

from __future__ import annotations

import glob
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import InputError
from edge_runtime.headers import FORMAT_NAMES, IMAGE_SUFFIXES, UNREAD_FORMATS
from edge_runtime.image import MAX_PIXELS, image_files, is_animation, read_image
from edge_runtime.sources.capture import is_address
from edge_runtime.sources.frame import Frame, Source
from edge_runtime.sources.options import SourceOptions
from edge_runtime.storage import is_result, printable, translated


def recognise(source: int | str | Path, options: SourceOptions) -> ImageSource | None:
    """Return the source for an image, a folder of images or a glob pattern of images; None for anything else.

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
        image = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not is_animation(path)
        if not (image or path.is_dir() or (glob.has_magic(str(path)) and not path.exists())):
            return None
        options.refuse_all_but()
        found = [path] if image else _images(path)
    if not found:
        raise InputError(f"{printable(path)} — no images found{_unread(path)} — expected {FORMAT_NAMES}")
    return ImageSource(found, printable(path), options.max_pixels or MAX_PIXELS)


def _images(path: Path) -> list[Path]:
    """Return the image files of a folder or a glob pattern."""
    if path.is_dir():
        return image_files(path)
    found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob does not accept absolute patterns
    matches = [Path(match) for match in sorted(found)]
    files = [match for match in matches if match.suffix.lower() in IMAGE_SUFFIXES and match.is_file()]
    # A pattern of all folders also matches what an earlier run has written into one of them.
    return [file for file in files if not is_result(file)] if "**" in path.parts else files


def _unread(path: Path) -> str:
    """Return, as text, how many files of a folder hold images that are not read; empty if none do."""
    endings = (entry.suffix.lower() for entry in path.iterdir()) if path.is_dir() else ()
    counts = Counter(UNREAD_FORMATS[ending] for ending in endings if ending in UNREAD_FORMATS)
    return f", but files that are not read ({', '.join(f'{n} {name}' for name, n in counts.items())})" if counts else ""


class ImageSource(Source):
    """Source of image files in order; unreadable files are skipped and reported at the end."""

    def __init__(self, paths: Sequence[Path], name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Read the files at ``paths``, each of at most ``max_pixels`` pixels."""
        super().__init__(name, "images")
        self._paths = self.files = list(paths)
        self._names = _unique_names(self._paths)
        self._max_pixels = max_pixels
        self._counting = threading.Lock()
        self.total = len(self._paths)

    def load(self, index: int) -> Frame | None:
        """Read one image; see ``Source``."""
        path, started = self._paths[index], time.monotonic()
        try:
            image = read_image(path, max_pixels=self._max_pixels)
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
            return self._taken(frame)

    def raise_problems(self) -> None:
        """Raise an error that names the images that could not be read; see ``Source``."""
        if self.failed:
            raise InputError(_all_problems(self.problems, self.failed, len(self._paths)))

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            InputError: At the end, if other images could not be read; the message names them.
        """
        for index in range(len(self._paths)):
            if self.stopped.is_set():
                return
            if (frame := self.load(index)) is not None:
                yield frame
        self.raise_problems()


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems, made unique with "_2", "_3" …, ignoring case because some file systems do."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, count = path.stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{path.stem}_{count}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _all_problems(problems: list[str], failed: int, total: int) -> str:
    if total == 1:
        return problems[0]
    more = f"; and {failed - 5} more" if failed > 5 else ""
    return f"{failed} of {total} images cannot be used: {'; '.join(problems[:5])}{more}"
