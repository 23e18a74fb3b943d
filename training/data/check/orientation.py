"""The EXIF orientation of an image file: how its pixels are to be turned before they are shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_TAG = 0x0112


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, PNG, WebP or TIFF file, 1 (as stored) to 8; 1 where it has none.

    5 to 8 exchange height and width.

    Reference: Exif 2.3, section 4.6.4; https://www.w3.org/TR/png-3/#eXIf
    """
    try:
        block = _exif_block(data)
        return _orientation(block) if block else 1
    except struct.error:  # cut short: the decoder will say so, or the rest of the file is fine without
        return 1


def _exif_block(data: bytes) -> bytes:
    """Return the TIFF structure that holds the tags, empty if there is none."""
    if data.startswith(b"\xff\xd8"):
        segments = (body for marker, body in _jpeg_segments(data) if marker == 0xE1 and body.startswith(b"Exif\0\0"))
        return next(segments, b"")[6:]
    if data.startswith(b"\x89PNG"):
        return _chunk(data, 8, b"eXIf", ">I4s", 4)
    if data.startswith(b"RIFF"):
        return _chunk(data, 12, b"EXIF", "<4sI", 0).removeprefix(b"Exif\0\0")
    return data if data.startswith((b"II*\0", b"MM\0*")) else b""


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments before the compressed data."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + length


def _chunk(data: bytes, start: int, wanted: bytes, head: str, checksum_bytes: int) -> bytes:
    """Return the body of a PNG or RIFF chunk, which have a length and a name in either order."""
    position = start
    while position + 8 <= len(data):
        first, second = struct.unpack_from(head, data, position)
        name, length = (second, first) if isinstance(first, int) else (first, second)
        if name == wanted:
            return data[position + 8 : position + 8 + length]
        # RIFF chunks start at even places; PNG's end in a checksum.
        position += 8 + length + checksum_bytes + (0 if checksum_bytes else length % 2)
    return b""


def _orientation(tiff: bytes) -> int:
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _TAG:
            return value if 1 <= value <= 8 else 1
    return 1
