"""Decode JPEG files whose compressed data are whole, and refuse the others.

libjpeg makes up the rows that are missing before an end marker, and only complains on stderr. So it is tested in ways
that leave it silent if a file is whole.

In a file of one scan, a few zero bits stand in place of the end marker: at least as many as libjpeg reads ahead, and too
few for the codes of missing rows. If rows are missing, the decoder asks for more, and fails.

A file of several scans, as progressive ones are, is decoded only with its end marker. Its last scan must change the picture
down to where that has detail. Otherwise, more bits are put before the end marker: if they change the picture, the scan
was not whole.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.headers.jpeg import JpegEnd, jpeg_end, without_smoothing

Pixels: TypeAlias = NDArray[Any]

_EOI = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_READ_AHEAD = bytes(8)
"""As many bits as libjpeg holds; zeros begin a code in every table, so that it does not complain."""
_SOME_BITS = bytes(37 * i % 251 for i in range(1, 129))
"""Bits of all kinds, without the byte 0xFF."""
_BLOCK_PX = 8
"""Rows of the blocks in which colours are stored, at half the size."""


def decode_jpeg(data: bytes, where: str, flag: int) -> Pixels | None:
    """Decode a JPEG as ``cv2.imdecode`` does; what follows the end marker of the picture is not looked at.

    Args:
        data: Bytes of the file.
        where: Name of the file in error messages.
        flag: Flags of ``cv2.imdecode``.

    Returns:
        The pixels; None if the data are damaged or end before the last row.

    Raises:
        InputError: The end marker or scans are missing.
    """
    end = jpeg_end(data)
    if end is None:
        raise InputError(f"{where} — truncated JPEG (no end marker) — copy it again or remove it")
    picture = _picture(data, end)
    if not end.huffman:
        return imdecode(picture + _EOI, flag)
    if not end.complete:
        raise InputError(f"{where} — truncated JPEG (scans are missing) — copy it again or remove it")
    if end.one_scan:
        return imdecode(picture + _READ_AHEAD, flag)
    return imdecode(picture + _EOI, flag) if _is_last_scan_whole(picture, end.last_scan) else None


def is_one_whole_scan(data: bytes) -> bool:
    """Tell whether a JPEG has one scan, whose data reach to the last row."""
    end = jpeg_end(data)
    if end is None or not (end.one_scan and end.huffman and end.complete):
        return False
    try:
        return imdecode(_picture(data, end) + _READ_AHEAD, cv2.IMREAD_REDUCED_COLOR_8) is not None
    except cv2.error:
        return False


def imdecode(data: bytes, flag: int) -> Pixels | None:
    """Decode bytes with OpenCV; None if it cannot."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag)


def _picture(data: bytes, end: JpegEnd) -> bytes:
    """Return a JPEG up to its end marker, and up to the fill bytes that may stand before it."""
    return data[: end.data_end].rstrip(b"\xff")


def _is_last_scan_whole(picture: bytes, last_scan: int) -> bool:
    """Tell whether the data of the last of several scans reach to the last row.

    Args:
        picture: The file without its end marker.
        last_scan: Offset of the last scan.
    """
    picture = without_smoothing(picture)
    before, after = _half(picture[:last_scan]), _half(picture)
    if after is None:
        return False
    if before is not None and _last_row(before != after) + _BLOCK_PX >= _last_row(before[1:] != before[:-1]):
        return True
    more = _SOME_BITS
    if restarts := len(_RESTART.findall(picture, last_scan)):  # the data may end where the next marker is due
        more += b"".join(bytes((0xFF, 0xD0 + (restarts + i) % 8)) + _SOME_BITS[i:] for i in range(8))
    other = _half(picture + more)
    return other is not None and np.array_equal(after, other)


def _half(picture: bytes) -> Pixels | None:
    """Decode a JPEG without its end marker at half its size, as it is stored."""
    return imdecode(picture + _EOI, cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION)


def _last_row(found: NDArray[np.bool_]) -> int:
    """Return the last row in which anything is true; -1 if nothing is."""
    rows = np.flatnonzero(found.any(axis=tuple(range(1, found.ndim))))
    return int(rows[-1]) if rows.size else -1
