"""Read format, size, channels and EXIF orientation from the header of an image file, without decoding it.

The parsers treat files that violate their standard as OpenCV's decoders do (libjpeg, libpng, libwebp, libtiff), so that
both find the same values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.headers import boxes, chunks, jpeg, tiff
from edge_runtime.headers.formats import (
    FORMAT_NAMES,
    FORMATS,
    IMAGE_SUFFIXES,
    UNREAD_FORMATS,
    ImageHeader,
    kind_of,
    suffixes_of,
)

__all__ = [
    "FORMATS",
    "FORMAT_NAMES",
    "IMAGE_SUFFIXES",
    "UNREAD_FORMATS",
    "ImageHeader",
    "exif_orientation",
    "is_lossy",
    "kind_of",
    "oriented",
    "pictures_in",
    "read_header",
    "suffixes_of",
]

_HEADERS: dict[str, Callable[[bytes], ImageHeader]] = {
    "JPEG": jpeg.jpeg_header,
    "PNG": chunks.png_header,
    "BMP": chunks.bmp_header,
    "WebP": chunks.webp_header,
    "TIFF": tiff.tiff_header,
    "GIF": chunks.gif_header,
    "JPEG 2000": boxes.jpeg2000_header,
    "AVIF": boxes.avif_header,
    "PNM": chunks.pnm_header,
}
_EXIF_BLOCKS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": jpeg.jpeg_exif,
    "PNG": chunks.png_exif,
    "WebP": chunks.webp_exif,
    "AVIF": boxes.avif_exif,
}
_PICTURES: dict[str, Callable[[bytes], int]] = {
    "PNG": chunks.png_pictures,
    "WebP": chunks.webp_pictures,
    "TIFF": tiff.tiff_pages,
    "GIF": chunks.gif_pictures,
    "AVIF": boxes.avif_pictures,
}
_LOSSY: dict[str, Callable[[bytes], bool]] = {
    "WebP": chunks.webp_is_lossy,
    "TIFF": tiff.tiff_is_lossy,
    "JPEG 2000": boxes.jpeg2000_is_lossy,
}
_TRUNCATED = (struct.error, IndexError)
"""Errors of a header that is cut off, or damaged: the decoder refuses the file, or ignores what they are about."""


def read_header(data: bytes, where: str) -> ImageHeader:
    """Read format, size and channels from an image file's first bytes.

    Raises:
        InputError: The file is empty, not an image, or of a format that is not read.
    """
    if not data:
        raise InputError(f"{where} — empty file (0 bytes) — copy it again or remove it")
    kind = kind_of(data)
    if kind in UNREAD_FORMATS.values():
        raise InputError(f"{where} — not read ({kind} data) — expected {FORMAT_NAMES} — convert it to PNG or JPEG")
    if kind not in _HEADERS:
        raise InputError(f"{where} — not an image ({kind} data) — expected {FORMAT_NAMES}")
    try:
        return _HEADERS[kind](data)
    except _TRUNCATED:
        return ImageHeader(kind=kind)


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation that OpenCV applies when it decodes an image file.

    Args:
        data: Bytes of a JPEG, PNG, WebP, AVIF or TIFF file, whole or damaged. Any other format has orientation 1.

    Returns:
        1 (as stored) to 8; 5 to 8 exchange height and width. A missing or invalid orientation is 1.

    Reference: CIPA DC-008 (Exif 2.32), sections 4.6.4 and 4.7.2; PNG 3rd edition, eXIf; RFC 9649, section 2.7; TIFF 6.0.
    """
    kind = kind_of(data)
    try:
        if kind == "TIFF":
            value = tiff.tiff_orientation(data)
        else:
            value = tiff.block_orientation(_EXIF_BLOCKS[kind](data)) if kind in _EXIF_BLOCKS else None
    except _TRUNCATED:
        return 1
    return value if value is not None and 1 <= value <= 8 else 1


def pictures_in(data: bytes) -> int:
    """Return the number of pictures in a file: pages of a TIFF, frames of an animation. The first one is decoded."""
    kind = kind_of(data)
    try:
        return max(1, _PICTURES[kind](data)) if kind in _PICTURES else 1
    except _TRUNCATED:
        return 1


def is_lossy(data: bytes) -> bool:
    """Tell whether the compression of a file changes the values of its pixels; all AVIF files count as such."""
    kind = kind_of(data)
    try:
        return _LOSSY[kind](data) if kind in _LOSSY else kind in ("JPEG", "AVIF")
    except _TRUNCATED:
        return False


def oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Rotate and mirror stored pixels as the decoder does for an EXIF orientation.

    Args:
        pixels: (H, W) or (H, W, C) uint8, as stored.
        orientation: EXIF orientation, 1–8.

    Returns:
        Contiguous array; for 5 to 8 of shape (W, H) or (W, H, C).
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
