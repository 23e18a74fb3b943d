"""Image bytes to pixels: the one decode function of the project, for training, evaluation and the device.

Decoding goes through ``cv2.imdecode`` on bytes: ``cv2.imread`` returns a partly made-up picture for a truncated JPEG,
``imdecode`` refuses it. EXIF orientation is applied to images. Sizes come from the header first, so that a picture that
would fill the memory is refused before it is decoded.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.storage import printable, read_bytes

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 64_000_000
"""Larger pictures are refused from their header unless a caller says otherwise; 64 megapixels are 192 MB of BGR."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"<", "HTML or XML"),
)
_FORMATS = ("PNG", "JPEG", "BMP", "WebP", "TIFF")
# ANYDEPTH keeps 16-bit TIFF at 16 bits, to be refused after decoding, where COLOR alone would scale it silently.
_IMAGE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
# Start-of-frame markers carry the size; the others in this range are tables.
_JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What the first bytes of an image file say.

    Attributes:
        kind: Format by signature, "PNG", "JPEG", …
        height_px: Stored height, before any EXIF rotation; None where the header is cut short.
        width_px: Stored width, likewise.
        channels: 1 grey, 2 grey + alpha, 3 colour or palette, 4 colour + alpha or CMYK; PNG and JPEG only.
        bit_depth: Bits a sample, PNG and JPEG only.
        palette: An indexed PNG.
    """

    kind: str
    height_px: int | None = None
    width_px: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    palette: bool = False


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly inside a folder by name, without hidden ones and ``Thumbs.db``."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    return [folder / name for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def read_header(data: bytes, where: str) -> ImageHeader:
    """Read format, size and channels from an image file's first bytes.

    Raises:
        InputError: The file is empty or no image.
    """
    if not data:
        raise InputError(f"{where} — empty file (0 bytes) — copy it again or remove it")
    kind = next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
    if kind is None and data[4:8] == b"ftyp":
        kind = "HEIC, AVIF or MP4"
    if kind not in _FORMATS or (kind == "WebP" and data[8:12] != b"WEBP"):
        raise InputError(f"{where} — not an image ({kind or 'unknown'} data) — expected JPEG, PNG, BMP, WebP or TIFF")
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
    except struct.error:  # ends within the header: the decoder will say so
        return ImageHeader(kind=kind)
    return ImageHeader(kind=kind, height_px=height_px, width_px=width_px)


def decode(
    data: bytes, where: str, *, mode: Literal["image", "raw"] = "image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        data: The bytes of the file.
        where: Its name, for messages.
        mode: "image" gives (H, W, 3) uint8 BGR, EXIF orientation applied and alpha dropped; "raw" gives the samples as
            stored, for masks.
        max_pixels: The largest height × width that is decoded.

    Returns:
        (H, W, 3) uint8 BGR; for "raw" (H, W) or (H, W, C) of the file's own depth.

    Raises:
        InputError: Not an image, truncated or damaged, too large, or 16 bits deep in "image" mode.
    """
    header = _checked_header(data, where, mode, max_pixels)
    flag = _IMAGE_FLAGS if mode == "image" else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as cause:
        raise InputError(f"{where} — cannot be decoded ({cause.err}) — copy it again or remove it") from cause
    if image is None:
        raise InputError(f"{where} — truncated or damaged {header.kind} — copy it again or remove it")
    if mode == "image" and image.dtype != np.uint8:
        raise InputError(
            f"{where} — samples are {image.dtype} — expected 8-bit: how to scale is your choice — convert it to 8-bit"
        )
    return np.asarray(image)


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 BGR; see ``decode``.

    Beyond 64 megapixels a JPEG or PNG is decoded straight into the array that is returned, which halves the peak of
    memory: ``imdecode`` holds a picture twice on its way to Python.
    """
    data, where = read_bytes(path, InputError), printable(path)
    header = _checked_header(data, where, "image", max_pixels)
    large = header.kind in ("JPEG", "PNG") and (header.height_px or 0) * (header.width_px or 0) > MAX_PIXELS
    # imread makes up the rest of a truncated JPEG, so that is decoded strictly first, at an eighth of the size.
    if large and (header.kind == "PNG" or _decodes(data, cv2.IMREAD_REDUCED_COLOR_8)):
        del data  # tens of megabytes
        image = _straight(path)
        if image is not None:
            return image
        data = read_bytes(path, InputError)  # a name that imread cannot open, or damage, which decode puts into words
    return decode(data, where, max_pixels=max_pixels)


def encode_png(image: NDArray[np.uint8], where: str) -> bytes:
    """Encode (H, W) or (H, W, 3 or 4) uint8 pixels as PNG."""
    done, data = cv2.imencode(".png", image)
    if not done:
        raise InputError(f"{where} — cannot be encoded as PNG — found an array of shape {image.shape}")
    return data.tobytes()


def _checked_header(data: bytes, where: str, mode: Literal["image", "raw"], max_pixels: int) -> ImageHeader:
    """Read the header and refuse what can be refused before decoding."""
    header = read_header(data, where)
    if header.height_px and header.width_px and header.height_px * header.width_px > max_pixels:
        raise InputError(
            f"{where} — {header.width_px}x{header.height_px} pixels — at most {max_pixels // 10**6} megapixels — scale it down"
        )
    if mode == "image" and header.bit_depth == 16:
        raise InputError(f"{where} — 16 bits a sample — expected 8: how to scale is your choice — convert it to 8-bit")
    if header.kind == "JPEG" and b"\xff\xd9" not in data[-1024:]:
        raise InputError(f"{where} — truncated JPEG (no end marker) — copy it again or remove it")
    return header


def _decodes(data: bytes, flag: int) -> bool:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag) is not None
    except cv2.error:
        return False


def _straight(path: Path) -> NDArray[np.uint8] | None:
    """Decode a file into the array that is returned; None if OpenCV cannot open or decode it."""
    name = os.fspath(path)
    try:
        name.encode()  # imread does not survive a name that is no text (a segmentation fault in OpenCV 5.0.0)
        image = cv2.imread(name, dst=None, flags=_IMAGE_FLAGS)
    except (UnicodeEncodeError, cv2.error):
        return None
    return None if image is None or image.dtype != np.uint8 or not image.size else np.asarray(image, np.uint8)


def _jpeg_header(data: bytes) -> ImageHeader:
    """Walk the JPEG segments to the start of frame, which has size and components."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _JPEG_SOF:
            depth, height, width, components = struct.unpack(">BHHB", data[position + 4 : position + 10])
            return ImageHeader(kind="JPEG", height_px=height, width_px=width, channels=components, bit_depth=depth)
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return ImageHeader(kind="JPEG")


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of a BMP; rows from the top down have a negative height."""
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
    """Return (height, width) of a TIFF's first page: tags 257 and 256 of its directory, 16 or 32 bits."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    found: dict[int, int] = {}
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in (256, 257):
            (found[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)
    return found.get(257), found.get(256)
