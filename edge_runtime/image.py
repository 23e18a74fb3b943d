"""Decode image files: the only decoder of the project, shared by training, evaluation and the device.

Bytes are decoded by ``cv2.imdecode``, which refuses a truncated JPEG; ``cv2.imread`` would fill in the missing part.
EXIF orientation is applied to images. The size is read from the header first, so that an image too large for the memory
is refused before it is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.headers import IMAGE_SUFFIXES, ImageHeader, read_header
from edge_runtime.storage import printable, read_bytes

MAX_PIXELS = 64_000_000
"""Default limit of an image's pixels, checked in its header; 64 megapixels are 192 MB of BGR."""

# ANYDEPTH keeps a 16-bit TIFF at 16 bits, so that it is refused after decoding; COLOR alone would silently scale it.
_IMAGE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly inside a folder, sorted by name; hidden files and ``Thumbs.db`` are left out."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    return [folder / name for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def decode(
    data: bytes, where: str, *, mode: Literal["image", "raw"] = "image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        data: Bytes of the file.
        where: Name of the file in error messages.
        mode: "image" gives (H, W, 3) uint8 BGR, EXIF orientation applied and alpha dropped; "raw" gives the samples as
            stored, for masks.
        max_pixels: Largest height × width that is decoded.

    Returns:
        (H, W, 3) uint8 BGR; for "raw" (H, W) or (H, W, C) at the depth of the file.

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

    A JPEG or PNG above 64 megapixels is decoded directly into the returned array, which halves the peak memory because
    ``imdecode`` holds an image twice.
    """
    data, where = read_bytes(path, InputError), printable(path)
    header = _checked_header(data, where, "image", max_pixels)
    large = header.kind in ("JPEG", "PNG") and (header.height_px or 0) * (header.width_px or 0) > MAX_PIXELS
    # imread fills in the rest of a truncated JPEG, so decode it strictly first, at an eighth of its size.
    if large and (header.kind == "PNG" or _decodes(data, cv2.IMREAD_REDUCED_COLOR_8)):
        del data  # frees tens of megabytes before decoding
        image = _straight(path)
        if image is not None:
            return image
        data = read_bytes(path, InputError)  # decode says what is wrong, or reads what imread cannot
    return decode(data, where, max_pixels=max_pixels)


def encode_png(image: NDArray[np.uint8], where: str) -> bytes:
    """Encode (H, W) or (H, W, 3 or 4) uint8 pixels as a PNG."""
    done, data = cv2.imencode(".png", image)
    if not done:
        raise InputError(f"{where} — cannot be encoded as PNG — found an array of shape {image.shape}")
    return data.tobytes()


def _checked_header(data: bytes, where: str, mode: Literal["image", "raw"], max_pixels: int) -> ImageHeader:
    """Read the header of an image and raise the errors that need no decoding."""
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
    """Decode a file directly into the returned array; None if OpenCV cannot open or decode it."""
    name = os.fspath(path)
    try:
        name.encode()  # a name that is not valid text makes imread crash (segmentation fault in OpenCV 5.0.0)
        image = cv2.imread(name, dst=None, flags=_IMAGE_FLAGS)
    except (UnicodeEncodeError, cv2.error):
        return None
    return None if image is None or image.dtype != np.uint8 or not image.size else np.asarray(image, np.uint8)
