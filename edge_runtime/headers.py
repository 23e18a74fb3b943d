"""Read format, size, channels and EXIF orientation from the header of an image file, without decoding it.

The parsers treat files that violate their standard as OpenCV's decoders do (libjpeg, libpng, libwebp, libtiff), so that
both find the same values.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """Format of image files that is decoded.

    Attributes:
        name: Name in messages.
        suffixes: Endings of its file names in lower case, the usual one first.
        signatures: First bytes of its files, one of them.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]


FORMATS = (
    ImageFormat(name="JPEG", suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"), signatures=(b"\xff\xd8\xff",)),
    ImageFormat(name="PNG", suffixes=(".png", ".apng"), signatures=(b"\x89PNG\r\n\x1a\n",)),
    ImageFormat(name="BMP", suffixes=(".bmp", ".dib"), signatures=(b"BM",)),
    ImageFormat(name="WebP", suffixes=(".webp",), signatures=(b"RIFF",)),
    ImageFormat(name="TIFF", suffixes=(".tif", ".tiff"), signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ImageFormat(name="GIF", suffixes=(".gif",), signatures=(b"GIF87a", b"GIF89a")),
    ImageFormat(
        name="JPEG 2000",
        suffixes=(".jp2", ".j2k", ".jpc", ".j2c"),
        signatures=(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ),
    # Its brand stands behind the length and the kind of its first box.
    ImageFormat(name="AVIF", suffixes=(".avif",), signatures=()),
    ImageFormat(
        name="PNM",
        suffixes=(".ppm", ".pgm", ".pbm", ".pnm"),
        signatures=tuple(b"P%d%c" % (kind, gap) for kind in range(1, 7) for gap in b" \t\r\n"),
    ),
)
"""The formats that are decoded."""
IMAGE_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes)
UNREAD_FORMATS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"), "camera raw"),
    **dict.fromkeys((".npy", ".npz"), "NumPy"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".nii", ".mha", ".nrrd"), "medical volume"),
    ".jxl": "JPEG XL",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".pfm": "PFM",
    ".pam": "PAM",
    ".tga": "TGA",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".ico": "ICO",
    ".mat": "MATLAB",
}
"""Format by ending, in lower case, of the other files that hold images or masks; they must be converted to PNG."""
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "NumPy"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?R", "Radiance HDR"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"<", "HTML or XML"),
)
_BRANDS = (
    (frozenset((b"avif", b"avis")), "AVIF"),
    (frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")), "HEIC"),
)
"""Brands of a file in boxes (ISO/IEC 14496-12): its main one, and those that it is compatible with."""
_NAMES = tuple(form.name for form in FORMATS)
# Start-of-frame markers carry the size; the others in this range are tables.
_JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Finds markers with a length. It skips bytes between segments, fill bytes, and markers without a length.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_JPEG_EOI, _JPEG_SOS, _JPEG_APP1 = 0xD9, 0xDA, 0xE1
_TIFF = (b"II*\x00", b"MM\x00*")
_WIDTH, _HEIGHT, _ORIENTATION = 0x100, 0x101, 0x112
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""``struct`` format of each integer type of TIFF."""
_WEBP_HAS_EXIF = 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """Header of an image file.

    Attributes:
        kind: Format by signature, "PNG", "JPEG", …
        height_px: Stored height in pixels, before any EXIF rotation; None if the header is truncated.
        width_px: Stored width in pixels, before any EXIF rotation; None if the header is truncated.
        channels: 1 grey, 2 grey + alpha, 3 colour or palette, 4 colour + alpha or CMYK; PNG and JPEG only.
        bit_depth: Bits per sample; PNG and JPEG only.
        palette: Whether the file is an indexed PNG.
    """

    kind: str
    height_px: int | None = None
    width_px: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    palette: bool = False


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the endings of the file names of a format that is decoded, the usual one first."""
    return next(form.suffixes for form in FORMATS if form.name == kind)


def kind_of(data: bytes) -> str:
    """Return the name of a file's format by its first bytes, "unknown" if they are those of no known one."""
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[place : place + 4] for place in range(16, min(int.from_bytes(data[:4]), 256), 4))}
        return next((name for some, name in _BRANDS if brands & some), "MP4")
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return "RIFF"
    forms = ((signature, form.name) for form in FORMATS for signature in form.signatures)
    return next((name for signature, name in (*forms, *_OTHERS) if data.startswith(signature)), "unknown")


def read_header(data: bytes, where: str) -> ImageHeader:
    """Read format, size and channels from an image file's first bytes.

    Raises:
        InputError: The file is empty or not an image.
    """
    if not data:
        raise InputError(f"{where} — empty file (0 bytes) — copy it again or remove it")
    kind = kind_of(data)
    if kind in UNREAD_FORMATS.values():
        raise InputError(f"{where} — a {kind} file, which is not read — convert it to PNG or JPEG")
    if kind not in _NAMES:
        raise InputError(f"{where} — not an image ({kind} data) — expected {', '.join(_NAMES[:-1])} or {_NAMES[-1]}")
    if kind == "PNG" and len(data) >= 26:
        width, height, depth, color = struct.unpack(">IIBB", data[16:26])
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color)
        return ImageHeader(
            kind=kind, height_px=height, width_px=width, channels=channels, bit_depth=depth, palette=color == 3
        )
    if kind == "JPEG":
        return _jpeg_header(data)
    read_size = {"BMP": _bmp_size, "WebP": _webp_size, "TIFF": _tiff_size}.get(kind)
    try:
        height_px, width_px = read_size(data) if read_size else (None, None)
    except struct.error:  # truncated header: the decoder reports it
        return ImageHeader(kind=kind)
    return ImageHeader(kind=kind, height_px=height_px, width_px=width_px)


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation that OpenCV applies when it decodes an image file.

    Args:
        data: Bytes of a JPEG, PNG, WebP or TIFF file, whole or damaged. Any other format has orientation 1.

    Returns:
        1 (as stored) to 8; 5 to 8 exchange height and width. A missing or invalid orientation is 1.

    Reference: CIPA DC-008 (Exif 2.32), sections 4.6.4 and 4.7.2; PNG 3rd edition, eXIf; RFC 9649, section 2.7; TIFF 6.0.
    """
    try:
        value = _tiff_orientation(data) if data.startswith(_TIFF) else _block_orientation(_exif_block(data))
    except struct.error:  # truncated: the decoder ignores the block or refuses the file
        return 1
    return value if value is not None and 1 <= value <= 8 else 1


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


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each JPEG segment before the compressed data."""
    position = 2
    while (found := _JPEG_MARKER.search(data, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker in (_JPEG_SOS, _JPEG_EOI) or position + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, position)
        yield marker, data[position + 2 : position + length]
        position += max(2, length)


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


def _jpeg_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG from its start-of-frame segment, which has size and components."""
    for marker, body in jpeg_segments(data):
        if marker in _JPEG_SOF and len(body) >= 6:
            depth, height, width, components = struct.unpack_from(">BHHB", body)
            return ImageHeader(kind="JPEG", height_px=height, width_px=width, channels=components, bit_depth=depth)
    return ImageHeader(kind="JPEG")


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a BMP, whose stored height is negative if rows run from top to bottom."""
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), abs(width)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a WebP: extended, lossless or lossy.

    Reference: RFC 9649, sections 2.5 to 2.7.
    """
    if data[12:16] == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_height << 16 | low_height) + 1, (high_width << 16 | low_width) + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int | None, int | None]:
    """Return (height, width) of a TIFF's first page."""
    return _tiff_number(data, _HEIGHT), _tiff_number(data, _WIDTH)


def _tiff_orientation(data: bytes) -> int | None:
    """Return the orientation of a TIFF's first page; as in libtiff, its integer may have any type."""
    return _tiff_number(data, _ORIENTATION)


def _block_orientation(tiff: bytes) -> int | None:
    """Return the orientation in an EXIF block; as in OpenCV, its first 16 bits are read, whatever the type."""
    if not tiff.startswith(_TIFF):
        return None
    place = _tiff_entry(tiff, _ORIENTATION)
    return None if place is None else int(struct.unpack_from(f"{_byte_order(tiff)}H", tiff, place + 8)[0])


def _tiff_number(tiff: bytes, tag: int) -> int | None:
    """Return the integer that a tag holds; None if the tag is missing or holds another type."""
    place = _tiff_entry(tiff, tag)
    if place is None:
        return None
    kind, count = struct.unpack_from(f"{_byte_order(tiff)}HI", tiff, place + 2)
    if kind not in _WHOLE_NUMBERS or count != 1:
        return None
    return int(struct.unpack_from(f"{_byte_order(tiff)}{_WHOLE_NUMBERS[kind]}", tiff, place + 8)[0])


def _tiff_entry(tiff: bytes, tag: int) -> int | None:
    """Return the offset of a tag's first entry in the first directory of a TIFF; None if the tag is missing."""
    order = _byte_order(tiff)
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from(f"{order}H", tiff, place)[0] == tag:
            return place
    return None


def _byte_order(tiff: bytes) -> str:
    return "<" if tiff.startswith(b"II") else ">"


def _exif_block(data: bytes) -> bytes:
    """Return the EXIF block of a JPEG, PNG or WebP, a TIFF structure; empty if the file has none."""
    if data.startswith(b"\xff\xd8"):
        bodies = (body for marker, body in jpeg_segments(data) if marker == _JPEG_APP1)
        return next((body[6:] for body in bodies if body.startswith(b"Exif\0\0")), b"")
    if data.startswith(b"\x89PNG"):
        chunk = next((chunk for kind, chunk in png_chunks(data) if kind == b"eXIf"), b"")
        whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")  # libpng ignores a damaged chunk
        return chunk[8:-4] if whole else b""
    if data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & _WEBP_HAS_EXIF:
        return next((body for kind, body in webp_chunks(data) if kind == b"EXIF"), b"")
    return b""
