"""Where frames come from: image files, video files, cameras and network streams.

Files lose nothing: each frame waits for its turn. Live sources drop what there is no time for; see ``live``.
"""

from __future__ import annotations

import glob
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from edge_runtime.errors import InputError, UsageError
from edge_runtime.frames import BaseSource, Frame, Source, decoded_frame, plausible_fps
from edge_runtime.image import IMAGE_SUFFIXES, read_image
from edge_runtime.live import LiveSource, Timeouts
from edge_runtime.pairs import image_files
from edge_runtime.storage import printable, translated

URL_SCHEMES = ("rtsp", "rtsps", "http", "https")
# These containers count their frames; others only estimate them from their longest track, sound included.
_COUNTING_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi"})


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


class ImageSource(BaseSource):
    """Image files in order. One that cannot be read is passed over, remembered, and reported at the end."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        super().__init__(name, "images")
        self._paths = list(paths)
        self.total = len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            InputError: At the end, if there were others: it names them.
        """
        names = _unique_names(self._paths)
        for index, (path, name) in enumerate(zip(self._paths, names, strict=True)):
            try:
                image = read_image(path)
            except InputError as error:
                self.captured += 1
                self.failed += 1
                self.problems.append(str(error))
                continue
            self.captured += 1
            yield Frame(index=index, name=name, source=printable(path), image_bgr=image, captured_at=time.monotonic())
        if self.problems:
            raise InputError(_all_problems(self.problems, len(self._paths)))


class VideoSource(BaseSource):
    """The frames of a video file, in order, none lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(printable(path), "video")
        self._path = path
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Open the file.

        Raises:
            InputError: It is damaged or no video.
        """
        # An absolute path: FFmpeg would take "http:x.mp4" or "a:b.mp4" for a protocol.
        name = str(self._path.absolute())
        try:
            capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
            if not capture.isOpened():
                capture = cv2.VideoCapture(name)
        except (cv2.error, UnicodeError, TypeError) as cause:
            raise InputError(f"{self.name} — OpenCV cannot take this name — rename the file") from cause
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"{self.name} — cannot be opened as a video — damaged or an unknown format: convert it to MP4"
            )
        self._capture = capture
        self.fps = plausible_fps(capture)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if 0 < count < 1e9 else None

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            InputError: After the last one, if the file ended well before the number of frames that it claims.
        """
        while self._capture is not None:
            done, image = self._capture.read()
            if not done:
                break
            index, self.captured = self.captured, self.captured + 1
            yield decoded_frame(index, image, self.name)
        counting = self._path.suffix.lower() in _COUNTING_SUFFIXES
        slack = 2 if counting else max(2, math.ceil(self.fps or 0))
        if self._capture is not None and self.total is not None and self.captured < self.total - slack:
            problem = (
                f"{self.name} — ended early {self.captured}/{self.total} frames — the file is truncated: copy it again"
            )
            self.problems.append(problem)
            raise InputError(problem)


def _not_empty(paths: list[Path], where: Path) -> list[Path]:
    if not paths:
        raise InputError(f"{printable(where)} — no images found — expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems, with "_2", "_3" … where two are the same, also in another case: some disks keep only one."""
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


def _all_problems(problems: list[str], total: int) -> str:
    if total == 1:
        return problems[0]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"{len(problems)} of {total} images cannot be used: {'; '.join(problems[:5])}{more}"
