"""JPEG 2000 and AVIF files: boxes (ISO/IEC 14496-12), header, EXIF block, number of pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from edge_runtime.headers.formats import ImageHeader

_CODESTREAM = b"\xff\x4f\xff\x51"
_CODING = 0xFF52
_IRREVERSIBLE = 0
_ALPHA = b":auxiliary:alpha\0"
_HIGH_DEPTH, _TWELVE_BITS = 0x40, 0x20


def jpeg2000_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG 2000 from its size segment (ITU-T T.800, annex A.5.1)."""
    start = _codestream(data)
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    channels, depth = struct.unpack_from(">HB", data, start + 40)
    return ImageHeader(
        kind="JPEG 2000",
        height_px=bottom - top,
        width_px=right - left,
        channels=channels,
        bit_depth=(depth & 0x7F) + 1,
        alpha=channels == 4,
        unread=_jpeg2000_unread(channels, depth),
    )


def jpeg2000_is_lossy(data: bytes) -> bool:
    """Tell whether compression changed the values of a JPEG 2000: whether its wavelet is the irreversible one."""
    position = _codestream(data) + 2
    while position + 14 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _CODING:
            return data[position + 13] == _IRREVERSIBLE
        position += 2 + length
    return True


def _jpeg2000_unread(channels: int, depth: int) -> str | None:
    if channels not in (1, 3, 4):
        return f"{channels} bands"
    if depth & 0x80:
        return "signed samples"
    return f"{depth + 1} bits a sample" if depth < 7 else None


def avif_header(data: bytes) -> ImageHeader:
    """Read the header of an AVIF from the properties of its items; the largest item is the picture.

    OpenCV turns the picture by its EXIF orientation, not by the rotation and mirroring of the container.
    """
    meta = dict(boxes(_meta(data)))
    properties = list(boxes(dict(boxes(meta.get(b"iprp", b""))).get(b"ipco", b"")))
    sizes = [struct.unpack_from(">II", body, 4) for kind, body in properties if kind == b"ispe"]
    width, height = max(sizes, key=lambda size: int(size[0] * size[1]), default=(None, None))
    flags = next((body[2] for kind, body in properties if kind == b"av1C"), 0)
    turned = any(kind == b"imir" or (kind == b"irot" and body[0] & 3) for kind, body in properties)
    return ImageHeader(
        kind="AVIF",
        height_px=height,
        width_px=width,
        bit_depth=12 if flags & _TWELVE_BITS else 10 if flags & _HIGH_DEPTH else 8,
        alpha=any(kind == b"auxC" and _ALPHA in body for kind, body in properties),
        unread="a rotation or mirroring outside EXIF" if turned and not avif_exif(data) else None,
    )


def avif_exif(data: bytes) -> bytes:
    """Return the EXIF block of an AVIF; empty if it has none (ISO/IEC 23008-12, annex A.2.1)."""
    parts = dict(boxes(_meta(data)))
    item = _exif_item(parts.get(b"iinf", b""))
    place, length = _location(parts.get(b"iloc", b""), item) if item is not None else (0, 0)
    block = data[place : place + length]
    return block[4 + int.from_bytes(block[:4]) :] if len(block) > 4 else b""


def avif_pictures(data: bytes) -> int:
    """Return the number of frames of an AVIF, which is 1 if it is no sequence."""
    place = data.find(b"stsz") if b"avis" in data[8:64] else -1
    return int.from_bytes(data[place + 12 : place + 16]) if place >= 0 else 1


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each box."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1 and position + 16 <= len(data):
            length, head = struct.unpack_from(">Q", data, position + 8)[0], 16
        end = position + length if length else len(data)
        yield kind, data[position + head : end]
        position = max(end, position + 8)


def _codestream(data: bytes) -> int:
    """Return the offset of the codestream of a JPEG 2000, which may be a file of its own."""
    return max(0, data.find(_CODESTREAM))


def _meta(data: bytes) -> bytes:
    """Return the boxes inside the box "meta" of an AVIF."""
    return next((body[4:] for kind, body in boxes(data) if kind == b"meta"), b"")


def _exif_item(items: bytes) -> int | None:
    """Return the number of the item that holds EXIF, from the body of a box "iinf"; None if there is none."""
    head = 6 if items[:1] == b"\0" else 8
    for kind, body in boxes(items[head:]):
        size = 2 if body[:1] == b"\2" else 4  # of the number, by the entry's version; 2 bytes of protection follow
        if kind == b"infe" and body[6 + size : 10 + size] == b"Exif":
            return int.from_bytes(body[4 : 4 + size])
    return None


def _location(places: bytes, item: int) -> tuple[int, int]:
    """Return offset and length of an item's first extent, from the body of a box "iloc"; both 0 if it is not in the file."""
    version, sizes = places[0], places[4:6]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version else 0
    number_size = 4 if version == 2 else 2
    position = 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        return int.from_bytes(places[position - size : position])

    for _ in range(number(number_size)):
        found = number(number_size)
        method = number(2) & 15 if version else 0
        number(2)  # the file that the data are in, 0 for this one
        base, extents = number(base_size), []
        for _ in range(number(2)):
            number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if found == item:
            return extents[0] if extents and method == 0 else (0, 0)
        if position > len(places):
            break
    return 0, 0
