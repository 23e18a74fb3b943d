"""Look into the containers of video files: how many frames are to be shown, whether the file is cut, what is in it.

OpenCV estimates the number of frames from the length and the rate, which is wrong for a variable rate, for a part that
was cut out without encoding it again (an edit list), and where sound is longer than the picture.

Reference: ISO/IEC 14496-12 (MP4, MOV), RFC 8794 and RFC 9559 (Matroska, WebM).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from edge_runtime.errors import InputError
from edge_runtime.headers.boxes import boxes
from edge_runtime.sources.cut_streams import is_cut
from edge_runtime.storage import translated

_INDEX_BYTES = 1 << 27
"""Largest index of an MP4 that is read: 16 million frames."""
_START_BYTES = 1 << 16
_SOUND = re.compile(rb"\x86.A_[A-Z]")
"""Name of a sound codec in a Matroska file."""
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the container of a video says.

    Attributes:
        frames: Number of frames that are to be shown; None if it does not say.
        cut: Whether the file ends before its container does.
        size: (height, width) in pixels of the stored picture; None if it does not say.
        sound: Whether it holds sound; False if it does not say.
    """

    frames: int | None = None
    cut: bool = False
    size: tuple[int, int] | None = None
    sound: bool = False


def read_container(path: Path) -> Container:
    """Read what the container of a video says; nothing for an unknown kind, or one that does not parse.

    Raises:
        InputError: The file cannot be read.
    """
    with translated("read", path, InputError), path.open("rb") as file:
        head = file.read(12)
        size = path.stat().st_size
        try:
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _mp4(file, size)
            if head[:4] == _EBML:
                return Container(cut=_is_matroska_cut(file, size), sound=_SOUND.search(_start(file)) is not None)
            if head[:4] == b"RIFF":
                return Container(cut=_is_avi_cut(file, size), sound=b"strh\x38\0\0\0auds" in _start(file))
            return Container(cut=is_cut(file, size))
        except (struct.error, IndexError, KeyError, OverflowError):
            return Container()


def _start(file: BufferedReader) -> bytes:
    file.seek(0)
    return file.read(_START_BYTES)


def _mp4(file: BufferedReader, size: int) -> Container:
    position, index, cut = 0, b"", False
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            head = 16
        end = position + length if length else size
        if end < position + head or not kind.isascii() or not kind.decode("ascii").isprintable():
            break  # what cameras write behind the last box
        cut = end > size
        if kind == b"moov" and not cut and end - position <= _INDEX_BYTES:
            index = file.read(end - position - head)
        if cut:
            break
        position = end
    return _from_index(index, cut=cut) if index else Container(cut=cut)


def _from_index(index: bytes, *, cut: bool) -> Container:
    parts = dict(boxes(index))
    scale = _duration(parts.get(b"mvhd", b""))[0]
    tracks = [dict(boxes(body)) for kind, body in boxes(index) if kind == b"trak"]
    kinds = [_handler(track) for track in tracks]
    videos = [track for track, kind in zip(tracks, kinds, strict=True) if kind == b"vide"]
    fragmented = b"mvex" in parts  # whose index does not list the frames
    frames = _shown(videos[0], scale) if len(videos) == 1 and not fragmented else None
    size = None
    if len(videos) == 1 and len(header := videos[0].get(b"tkhd", b"")) >= 8:
        width, height = struct.unpack(">II", header[-8:])
        size = height >> 16, width >> 16
    return Container(frames=frames, cut=cut, size=size, sound=b"soun" in kinds)


def _handler(track: dict[bytes, bytes]) -> bytes:
    media = dict(boxes(track.get(b"mdia", b"")))
    return media.get(b"hdlr", b"")[8:12]


def _shown(track: dict[bytes, bytes], movie_scale: int) -> int | None:
    """Return how many frames of a track its edit list shows; None if the list is more than one part."""
    media = dict(boxes(track.get(b"mdia", b"")))
    scale, _ = _duration(media.get(b"mdhd", b""))
    tables = dict(boxes(dict(boxes(media.get(b"minf", b""))).get(b"stbl", b"")))
    times = tables.get(b"stts", b"")
    total = sum(number for number, _ in _runs(times))
    edits = _edits(dict(boxes(track.get(b"edts", b""))).get(b"elst", b""))
    if not edits:
        return total
    if len(edits) > 1 or not scale or not movie_scale:
        return None
    duration, start = edits[0]
    if not duration:
        return total
    # Frames that are stored in another order than they are shown in are decoded earlier by the offset of the first.
    start -= min((offset for _, offset in _runs(tables.get(b"ctts", b""), ">Ii")), default=0)
    end, at, shown = start + duration * scale / movie_scale, 0, 0
    for number, step in _runs(times):
        if not step:
            shown += number if start <= at < end else 0
            continue
        first = max(0, -(-(start - at) // step))
        last = max(0, min(number, -(-(end - at) // step)))
        shown += max(0, int(last) - int(first))
        at += number * step
    return min(shown, total)


def _runs(table: bytes, layout: str = ">II") -> Iterator[tuple[int, int]]:
    """Yield how many frames have a value, and the value, from a box "stts" or "ctts"."""
    count = struct.unpack_from(">I", table, 4)[0] if len(table) >= 8 else 0
    yield from struct.iter_unpack(layout, memoryview(table)[8 : 8 + 8 * min(count, len(table) // 8 - 1)])


def _edits(body: bytes) -> list[tuple[int, int]]:
    """Return duration and start of the parts of an edit list that show something."""
    if len(body) < 8:
        return []
    layout, size = (">Qq", 20) if body[0] == 1 else (">Ii", 12)
    (count,) = struct.unpack_from(">I", body, 4)
    found = [struct.unpack_from(layout, body, 8 + size * place) for place in range(min(count, len(body) // size))]
    return [(duration, start) for duration, start in found if start >= 0]


def _duration(body: bytes) -> tuple[int, int]:
    """Return time scale and duration of a box "mvhd" or "mdhd"; zeros if it is missing."""
    if len(body) < 20:
        return 0, 0
    found: tuple[int, int] = struct.unpack_from(">IQ" if body[0] == 1 else ">II", body, 20 if body[0] == 1 else 12)
    return found


def _is_matroska_cut(file: BufferedReader, size: int) -> bool:
    """Tell whether the segment of a Matroska file reaches beyond its end; a live recording does not say."""
    file.seek(4)
    length = _number(file)
    if length is None or length > size:
        return False
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return False
    length = _number(file)
    return length is not None and file.tell() + length > size


def _number(file: BufferedReader) -> int | None:
    """Read a number of variable length; None if all its bits are set, which means unknown."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()
    value = int.from_bytes(bytes((first & (0x7F >> more),)) + file.read(more))
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _is_avi_cut(file: BufferedReader, size: int) -> bool:
    """Tell whether a list of an AVI reaches beyond the end of the file; a list of unknown length does not."""
    position = 0
    while position + 12 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):
            return False
        position += 8 + length + length % 2
    return position > size + 1
