"""PNG, WebP, GIF, BMP and PNM files: chunks, header, EXIF block, number of pictures."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from edge_runtime.headers.formats import ImageHeader

_WEBP_HAS_EXIF, _WEBP_HAS_ALPHA = 0x08, 0x10
_END_BYTES = 12
"""Bytes of the chunk that ends a PNG."""
_GIF_EXTENSION, _GIF_IMAGE, _GIF_CONTROL = 0x21, 0x2C, 0xF9
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[14]" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)|P[2356]" + 3 * (_GAP + rb"(\d+)"))


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and all bytes of each PNG chunk: length, kind, body, checksum."""
    position = 8
    while position + 12 <= len(data):
        length = struct.unpack_from(">I", data, position)[0]
        yield data[position + 4 : position + 8], data[position : position + 12 + length]
        position += 12 + length


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each WebP chunk (RFC 9649, section 2.3)."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def png_header(data: bytes) -> ImageHeader:
    """Read the header of a PNG."""
    if len(data) < 26:
        return ImageHeader(kind="PNG")
    width, height, depth, color = struct.unpack(">IIBB", data[16:26])
    return ImageHeader(
        kind="PNG",
        height_px=height,
        width_px=width,
        channels={0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color),
        bit_depth=depth,
        palette=color == 3,
        alpha=color in (4, 6) or bool(png_chunk(data, b"tRNS")),
    )


def png_chunk(data: bytes, wanted: bytes) -> bytes:
    """Return the body of a PNG chunk that stands before the pixels; empty if there is none."""
    for kind, chunk in png_chunks(data):
        if kind in (wanted, b"IDAT"):
            return chunk[8:-4] if kind == wanted else b""
    return b""


def png_with_software(data: bytes, software: str) -> bytes:
    """Return a PNG that names the software which made it, in ASCII."""
    body = b"tEXtSoftware\0" + software.encode("ascii")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:-_END_BYTES] + chunk + data[-_END_BYTES:]


def png_exif(data: bytes) -> bytes:
    """Return the EXIF block of a PNG; empty if it has none, or a damaged one, which libpng ignores."""
    chunk = next((chunk for kind, chunk in png_chunks(data) if kind == b"eXIf"), b"")
    return chunk[8:-4] if zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]) else b""


def png_pictures(data: bytes) -> int:
    """Return the number of frames of a PNG, which is 1 if it is not animated."""
    control = png_chunk(data, b"acTL")
    return struct.unpack_from(">I", control)[0] if len(control) >= 4 else 1


def webp_header(data: bytes) -> ImageHeader:
    """Read the header of a WebP: extended, lossless or lossy.

    Reference: RFC 9649, sections 2.5 to 2.7.
    """
    kind, alpha = data[12:16], False
    if kind == b"VP8X":
        flags, low_width, high_width, low_height, high_height = struct.unpack_from("<B3xHBHB", data, 20)
        width, height = (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
        alpha = bool(flags & _WEBP_HAS_ALPHA)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return ImageHeader(kind="WebP", height_px=height, width_px=width, alpha=alpha)


def webp_exif(data: bytes) -> bytes:
    """Return the EXIF block of a WebP; empty if its header does not announce one."""
    if data[12:16] == b"VP8X" and data[20:21] and data[20] & _WEBP_HAS_EXIF:
        return next((body for kind, body in webp_chunks(data) if kind == b"EXIF"), b"")
    return b""


def webp_is_lossy(data: bytes) -> bool:
    """Tell whether compression changed the values of a WebP: chunk "VP8 " does and "VP8L" does not (RFC 9649)."""
    kinds = (kind for kind, _ in webp_chunks(data))
    return next((kind for kind in kinds if kind in (b"VP8 ", b"VP8L")), b"VP8 ") == b"VP8 "


def webp_pictures(data: bytes) -> int:
    """Return the number of frames of a WebP, which is 1 if it is not animated."""
    return max(1, sum(kind == b"ANMF" for kind, _ in webp_chunks(data)))


def gif_header(data: bytes) -> ImageHeader:
    """Read the header of a GIF; it has alpha if its first picture has a transparent colour."""
    width, height = struct.unpack_from("<HH", data, 6)
    alpha = False
    for kind, place in _gif_blocks(data):
        if kind == _GIF_IMAGE:
            break
        if kind == _GIF_CONTROL:
            alpha = bool(data[place + 3] & 1)
    return ImageHeader(kind="GIF", height_px=height, width_px=width, alpha=alpha)


def gif_pictures(data: bytes) -> int:
    """Return the number of pictures of a GIF."""
    return sum(kind == _GIF_IMAGE for kind, _ in _gif_blocks(data))


def bmp_header(data: bytes) -> ImageHeader:
    """Read the header of a BMP, whose stored height is negative if rows run from top to bottom."""
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    has_masks = length >= 56 and struct.unpack_from("<HI", data, 28) == (32, 3)
    alpha = has_masks and struct.unpack_from("<I", data, 66) != (0,)
    return ImageHeader(kind="BMP", height_px=abs(height), width_px=abs(width), alpha=alpha)


def pnm_header(data: bytes) -> ImageHeader:
    """Read the header of a PBM, PGM or PPM, as text or binary.

    OpenCV leaves or scales values whose maximum is not 255, by the kind, and exchanges the bytes of 16-bit ones.
    """
    found = _PNM.match(data)
    if found is None:
        return ImageHeader(kind="PNM")
    width, height = (int(found[1] or found[3]), int(found[2] or found[4]))
    largest = int(found[5] or 255)
    return ImageHeader(
        kind="PNM",
        height_px=height,
        width_px=width,
        channels=3 if data[1:2] in b"36" else 1,
        bit_depth=largest.bit_length(),
        unread=None if largest == 255 else f"values up to {largest}, not 255",
    )


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield kind and offset of each picture and extension of a GIF; an extension's kind is its label (GIF89a)."""
    position = 13 + _gif_table(data[10])
    while position + 2 < len(data) and data[position] in (_GIF_EXTENSION, _GIF_IMAGE):
        place = position
        if data[place] == _GIF_EXTENSION:
            kind, position = data[place + 1], place + 2
        elif place + 10 < len(data):
            kind, position = _GIF_IMAGE, place + 11 + _gif_table(data[place + 9])
        else:
            return
        yield kind, place
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1


def _gif_table(flags: int) -> int:
    """Return the bytes of the colour table that the flags of a GIF announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
