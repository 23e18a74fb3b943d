"""EXIF orientation: which way the stored pixels are turned before anyone sees them.

Images are copied as they are and our reader turns them, so a mask has to be as the image looks. Most tools show the
turned image and annotate that; some annotate the stored one. Sizes tell the two apart where a quarter turn is involved.
Where they cannot, the image as it looks is meant, for that is what a person saw.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_ORIENTATION_TAG = 0x0112


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, PNG or WebP file, 1 to 8; 1 where it has none.

    Reference: CIPA DC-008 (Exif 2.32), 4.6.4 and 4.7.2; PNG 3rd edition, eXIf; RFC 9649, 2.7.
    """
    try:
        exif = _exif_block(data)
        if exif[:2] not in (b"II", b"MM"):
            return 1
        order = "<" if exif[:2] == b"II" else ">"
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, _count, value = struct.unpack_from(f"{order}HHIH", exif, entry)
            if tag == _ORIENTATION_TAG and kind == 3 and 1 <= value <= 8:
                return int(value)
    except struct.error:  # a block that is cut short: decoders pass it over
        pass
    return 1


def oriented(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn an (H, W) mask of the stored pixels the way that decoders turn the image."""
    if orientation >= 5:
        mask = mask.T
    if orientation in (2, 3, 6, 7):
        mask = mask[:, ::-1]
    if orientation in (3, 4, 7, 8):
        mask = mask[::-1]
    return np.ascontiguousarray(mask)


def _exif_block(data: bytes) -> bytes:
    """Return the TIFF structure that holds the EXIF tags, nothing if there is none."""
    if data.startswith(b"\xff\xd8"):
        position = 2
        while position + 4 <= len(data):
            fill, marker, length = struct.unpack_from(">BBH", data, position)
            if fill != 0xFF or marker == 0xDA:
                break
            if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
                return data[position + 10 : position + 2 + length]
            position += 2 + length
    elif data.startswith(b"\x89PNG"):
        position = 8
        while position + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
            if kind == b"eXIf":
                return data[position + 8 : position + 8 + length]
            position += 12 + length
    elif data[8:12] == b"WEBP":
        position = 12
        while position + 8 <= len(data):
            kind, length = struct.unpack_from("<4sI", data, position)
            if kind == b"EXIF":
                return data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0")
            position += 8 + length + length % 2
    return b""
