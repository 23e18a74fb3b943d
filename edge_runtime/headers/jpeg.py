"""JPEG files (ITU-T T.81): segments, the header of the picture, and where its compressed data end."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.headers.formats import ImageHeader

# Start-of-frame markers carry the size; the others in this range are tables.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS, _DQT, _APP1 = 0xD8, 0xD9, 0xDA, 0xDB, 0xE1
_DATA = 0
"""Stands for compressed data among the segments; 0xFF00 is no marker."""
_PROGRESSIVE = 0xC2
_HUFFMAN = (0xC0, 0xC1, _PROGRESSIVE)
"""Frames whose data are coefficients in Huffman codes; the others, which are rare, are arithmetic or lossless."""
# Finds markers with a length. It skips bytes between segments, fill bytes, and markers without a length.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
# In compressed data, 0xFF is followed by a stuffed 0, by a restart marker, or by the marker that ends the data.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegEnd:
    """End of the picture of a JPEG.

    Attributes:
        last_scan: Offset of the marker of the last scan.
        data_end: Offset behind the compressed data of the last scan.
        one_scan: Whether one scan has all the data, so that rows are decoded as they are read.
        huffman: Whether the data are coefficients in Huffman codes.
        complete: Whether the scans say every bit of every coefficient.
    """

    last_scan: int
    data_end: int
    one_scan: bool
    huffman: bool
    complete: bool


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each JPEG segment before the compressed data."""
    for marker, body, _ in _segments(data):
        if marker in (_SOS, _EOI):
            return
        yield marker, body


def jpeg_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG from its start-of-frame segment, which has size and components."""
    for marker, body in jpeg_segments(data):
        if marker in _SOF and len(body) >= 6:
            depth, height, width, components = struct.unpack_from(">BHHB", body)
            return ImageHeader(
                kind="JPEG",
                height_px=height,
                width_px=width,
                channels=components,
                bit_depth=depth,
                cmyk=components == 4,
                unread=f"{depth} bits a sample" if depth != 8 else None,
            )
    return ImageHeader(kind="JPEG")


def jpeg_exif(data: bytes) -> bytes:
    """Return the EXIF block of a JPEG; empty if it has none."""
    bodies = (body for marker, body in jpeg_segments(data) if marker == _APP1)
    return next((body[6:] for body in bodies if body.startswith(b"Exif\0\0")), b"")


def jpeg_end(data: bytes) -> JpegEnd | None:
    """Return where the picture of a JPEG ends; None if no end marker follows its compressed data.

    The end markers of thumbnails, which are inside segments, and of files behind the picture do not count.

    Reference: ITU-T T.81, annexes B.2 and G.1.1.1, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    """
    frame, missing, scans, last_scan, data_end = 0, {}, 0, 0, 0
    for marker, body, end in _segments(data):
        if marker in _SOF and len(body) >= 6:
            frame = marker
            components = body[6 : 6 + 3 * body[5] : 3]
            # Bits of each coefficient that no scan has said yet; 14 stand for all.
            missing = {component: [14] * 64 for component in components}
        elif marker == _SOS and body:
            scans, last_scan = scans + 1, end - 4 - len(body)
            _take_scan(missing, body, frame == _PROGRESSIVE)
        elif marker == _DATA:
            data_end = end
        elif marker == _EOI and scans:
            return JpegEnd(
                last_scan=last_scan,
                data_end=data_end,
                one_scan=scans == 1 and frame != _PROGRESSIVE,
                huffman=frame in _HUFFMAN,
                complete=not any(any(bits) for bits in missing.values()),
            )
        elif marker in (_SOI, _EOI):
            return None
    return None


def without_smoothing(data: bytes) -> bytes:
    """Return a JPEG from which libjpeg does not estimate the bits that its scans have not said yet.

    It does not if a quantiser of a low frequency is 0: here that of the third diagonal's middle, in every table.
    """
    patched = bytearray(data)
    for marker, body, end in _segments(data):
        place, start = 0, end - len(body)
        while marker == _DQT and place < len(body):
            size = 2 if body[place] >> 4 else 1  # bytes of a quantiser
            patched[start + place + 1 + 4 * size : start + place + 1 + 5 * size] = bytes(size)
            place += 1 + 64 * size
    return bytes(patched)


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and end of each segment up to the end marker, and ``_DATA`` for the data behind a scan's."""
    position = 2
    while (found := _MARKER.search(data, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker == _EOI:
            yield marker, b"", position
            return
        if position + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        position += max(2, length)
        yield marker, body, position
        if marker == _SOS:
            end = _END_OF_SCAN.search(data, position)
            if end is None:
                return
            position = end.start()
            yield _DATA, b"", position


def _take_scan(missing: dict[int, list[int]], body: bytes, progressive: bool) -> None:
    """Note which coefficients of which components a scan says, and down to which bit."""
    count = body[0]
    if len(body) < 4 + 2 * count:
        return
    first, last, bits = body[1 + 2 * count : 4 + 2 * count] if progressive else (0, 63, 0)
    for component in body[1 : 1 + 2 * count : 2]:
        if component in missing:
            said = missing[component]
            said[first : last + 1] = [bits & 15] * len(said[first : last + 1])
