"""Tell by their units whether videos in simple containers are cut: the last unit is longer than what is left of the file.

Files whose last unit is whole are not called cut, because recordings of streams end anywhere.

Reference: GIF89a; YUV4MPEG2 (man yuv4mpeg); RFC 3533 (Ogg); Adobe Flash Video 10.1, annex E (FLV); Advanced Systems
Format, Microsoft, 2004 (WMV); ISO/IEC 13818-1 (TS).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from io import BufferedReader

_END_BYTES = 1 << 20
"""Bytes at the end of a file in which its last JPEG or page lies."""
_TS_PACKET = 188
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_Y4M_CHROMA = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mono": None}
"""Pixels across and down per sample of a chroma plane."""


def is_cut(file: BufferedReader, size: int) -> bool:
    """Tell whether a file ends within a unit of its container; False for other kinds.

    Args:
        file: The open file, at any position.
        size: Its size in bytes.
    """
    file.seek(0)
    head = file.read(2 * _TS_PACKET + 1)
    kinds: tuple[tuple[bool, Callable[[BufferedReader, int], bool]], ...] = (
        (head.startswith(b"GIF8"), _gif),
        (head.startswith(b"YUV4MPEG2 "), _y4m),
        (head.startswith(b"OggS"), _ogg),
        (head.startswith(b"FLV\x01"), _flv),
        (head.startswith(_ASF), _asf),
        (head.startswith(b"\xff\xd8\xff"), _jpegs),
        (head[::_TS_PACKET] == b"GGG", lambda _, size: size % _TS_PACKET > 0),
    )
    return next((tell(file, size) for known, tell in kinds if known), False)


def _gif(file: BufferedReader, size: int) -> bool:
    """Follow the blocks to the trailer."""
    file.seek(10)
    file.seek(13 + _colors(_byte(file)))
    while file.tell() < size:
        kind = _byte(file)
        if kind == 0x3B:
            return False
        if kind == 0x2C:
            file.seek(8, 1)
            colors = _colors(_byte(file))
            file.seek(colors + 1, 1)
        elif kind == 0x21:
            file.seek(1, 1)
        else:
            return False  # no GIF that is known
        while length := _byte(file):
            file.seek(length, 1)
    return True


def _colors(flags: int) -> int:
    """Return the bytes of the colour table that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _byte(file: BufferedReader) -> int:
    """Return the next byte; 0 at the end of the file."""
    return int.from_bytes(file.read(1))


def _y4m(file: BufferedReader, size: int) -> bool:
    file.seek(0)
    fields = {word[:1]: word[1:] for word in file.readline(256).decode("ascii", "replace").split()[1:]}
    chroma = re.match("mono|[0-9]+", fields.get("C", "420"))
    if chroma is None or chroma[0] not in _Y4M_CHROMA or not (fields["W"] + fields["H"]).isdecimal():
        return False
    width, height = int(fields["W"]), int(fields["H"])
    sharing = _Y4M_CHROMA[chroma[0]]
    samples = width * height + (2 * -(-width // sharing[0]) * -(-height // sharing[1]) if sharing else 0)
    is_deep = re.search("(mono|p)(9|10|12|14|16)$", fields.get("C", "")) is not None
    length = samples * (2 if is_deep else 1)
    while line := file.readline(256):
        if not line.startswith(b"FRAME"):
            return True
        if file.tell() + length > size:
            return True
        file.seek(length, 1)
    return False


def _ogg(file: BufferedReader, size: int) -> bool:
    end = _end(file, size)
    page = end[end.rfind(b"OggS") :]
    count = page[26] if len(page) > 26 else 0
    return len(page) < 27 + count or len(page) < 27 + count + sum(page[27 : 27 + count])


def _flv(file: BufferedReader, size: int) -> bool:
    file.seek(5)
    (position,) = struct.unpack(">I", file.read(4))
    position += 4
    while position < size:
        file.seek(position)
        head = file.read(11)
        if len(head) < 11:
            return True
        position += 11 + int.from_bytes(head[1:4]) + 4
    return position > size


def _asf(file: BufferedReader, size: int) -> bool:
    file.seek(0)
    head = file.read(_END_BYTES)
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return False
    (stated,) = struct.unpack_from("<Q", head, place + 40)
    (flags,) = struct.unpack_from("<I", head, place + 88)
    is_broadcast = bool(flags & 1)  # then the size means nothing
    return not is_broadcast and size < stated


def _jpegs(file: BufferedReader, size: int) -> bool:
    end = _end(file, size)
    return end.rfind(b"\xff\xd9") < end.rfind(b"\xff\xd8\xff")


def _end(file: BufferedReader, size: int) -> bytes:
    file.seek(max(0, size - _END_BYTES))
    return file.read()
