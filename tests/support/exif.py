"""Image files with an EXIF orientation, byte by byte: in every format, byte order and type of number."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x112
BYTE, SHORT, LONG = 1, 3, 4
Tag = tuple[int, int, int, int]
"""Tag, type, count and value."""


def directory(tags: Sequence[Tag], order: str = "<", *, magic: int = 42) -> bytes:
    """Return a TIFF structure of one directory, as EXIF uses it."""
    data = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", magic, 8, len(tags))
    for tag, kind, count, value in tags:
        form = {BYTE: "B3x", SHORT: "H2x", LONG: "I"}[kind]
        data += struct.pack(f"{order}HHI{form}", tag, kind, count, value)
    return data + bytes(4)


def block(orientation: int, order: str = "<", kind: int = SHORT, *, magic: int = 42) -> bytes:
    """Return an EXIF block of three tags, of which the orientation is the second."""
    tags = [(0x10F, SHORT, 1, 1), (ORIENTATION, kind, 1, orientation), (0x213, SHORT, 1, 1)]
    return directory(tags, order, magic=magic)


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(image_bgr: NDArray[np.uint8], exif: bytes, *, before: bytes = b"") -> bytes:
    """Return a JPEG whose EXIF segment follows these bytes."""
    data = _encoded(image_bgr, ".jpg")
    return data[:2] + before + segment(b"Exif\0\0" + exif) + data[2:]


def png(image_bgr: NDArray[np.uint8], exif: bytes, *, late: bool = False, damaged: bool = False) -> bytes:
    """Return a PNG with an eXIf chunk, before the pixels or after them."""
    data = _encoded(image_bgr, ".png")
    checksum = zlib.crc32(b"eXIf" + exif) ^ damaged
    place = len(data) - 12 if late else 33
    return data[:place] + struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", checksum) + data[place:]


def webp(image_bgr: NDArray[np.uint8], exif: bytes, *, before: bytes = b"", announced: bool = True) -> bytes:
    """Return an extended WebP whose EXIF chunk follows these bytes; its header says that there is one, or not."""
    height, width = image_bgr.shape[:2]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    head = b"VP8X" + struct.pack("<IB3x", 10, 8 if announced else 0) + size
    pixels = _encoded(image_bgr, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 101])[12:]
    body = b"WEBP" + head + pixels + before + riff_chunk(b"EXIF", exif)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif(image_bgr: NDArray[np.uint8], exif: bytes) -> bytes:
    """Return an AVIF whose item of EXIF is this block, which is as long as ``block`` makes it."""
    upright = np.frombuffer(block(1), np.uint8)  # for another orientation, OpenCV would write a rotation, too
    done, data = cv2.imencodeWithMetadata(".avif", image_bgr, [cv2.IMAGE_METADATA_EXIF], [upright])
    assert done and len(exif) == len(upright)
    return data.tobytes().replace(upright.tobytes(), exif)


def riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def tiff(
    image_bgr: NDArray[np.uint8], orientation: int, order: str = "<", kind: int = SHORT, *, count: int = 1
) -> bytes:
    """Return an uncompressed TIFF, whose own directory holds the orientation."""
    height, width = image_bgr.shape[:2]
    pixels = np.ascontiguousarray(image_bgr[..., ::-1]).tobytes()
    bits_at = 8 + 2 + 10 * 12 + 4
    tags = [
        *((256, LONG, 1, width), (257, LONG, 1, height), (258, SHORT, 3, bits_at), (259, SHORT, 1, 1)),
        *((262, SHORT, 1, 2), (273, LONG, 1, bits_at + 6), (ORIENTATION, kind, count, orientation)),
        *((277, SHORT, 1, 3), (278, LONG, 1, height), (279, LONG, 1, len(pixels))),
    ]
    data = bytearray(directory(tags, order))
    struct.pack_into(f"{order}I", data, 10 + 2 * 12 + 8, bits_at)  # three numbers do not fit in the tag
    return bytes(data) + struct.pack(f"{order}3H", 8, 8, 8) + pixels


def _encoded(image_bgr: NDArray[np.uint8], ending: str, options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(ending, image_bgr, options)
    assert done
    return data.tobytes()
