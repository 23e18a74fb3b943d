"""Decode image files: the only decoder of the project, shared by training, evaluation and the device.

Bytes are decoded by ``cv2.imdecode``, which refuses files that end too early; ``cv2.imread`` would fill in the missing
part. EXIF orientation is applied to images. Format, size and samples are read from the header first, so that what is too
large for the memory, or is read wrongly by OpenCV, is refused before it is decoded.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.headers import IMAGE_SUFFIXES, ImageHeader, pictures_in, read_header, suffixes_of
from edge_runtime.headers.chunks import png_chunk
from edge_runtime.headers.tiff import tiff_as_one_band
from edge_runtime.storage import printable, read_bytes
from edge_runtime.whole_jpeg import decode_jpeg, imdecode, is_one_whole_scan

MAX_PIXELS = 64_000_000
"""Default limit of an image's pixels, checked in its header; 64 megapixels are 192 MB of BGR."""

# ANYDEPTH keeps a 16-bit TIFF at 16 bits, so that it is refused after decoding; COLOR alone would silently scale it.
_IMAGE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly inside a folder, sorted by name; hidden files and ``Thumbs.db`` are left out."""
    return [folder / name for name in visible_files(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def visible_files(folder: Path) -> list[str]:
    """Return the names of the files directly inside a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and leads_to_file(e))


def leads_to_file(entry: os.DirEntry[str] | Path) -> bool:
    """Tell whether an entry is a file or leads to one; a link to itself or into a closed folder leads nowhere."""
    with suppress(OSError):
        return entry.is_file()
    return False


def is_animation(path: Path) -> bool:
    """Tell whether a file is a GIF of several pictures, which is a video rather than an image."""
    return path.suffix.lower() == ".gif" and path.is_file() and pictures_in(read_bytes(path, InputError)) > 1


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
        image = decode_jpeg(data, where, flag) if header.kind == "JPEG" else imdecode(_ended(data), flag)
    except cv2.error as cause:
        raise InputError(f"{where} — cannot be decoded ({cause.err}) — copy it again or remove it") from cause
    if image is None:
        raise InputError(f"{where} — {_fault(header.kind)}")
    if mode == "image" and image.dtype != np.uint8:
        raise InputError(
            f"{where} — samples are {image.dtype} — expected 8-bit: how to scale is your choice — convert it to 8-bit"
        )
    return np.asarray(image)


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 BGR; see ``decode``."""
    return read_first_picture(path, max_pixels=max_pixels)[0]


def read_first_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], int]:
    """Read the first picture of an image file as (H, W, 3) uint8 BGR, and count its pages or frames; see ``decode``.

    A JPEG or PNG above 64 megapixels is decoded directly into the returned array, which halves the peak memory because
    ``imdecode`` holds an image twice.
    """
    data, where = read_bytes(path, InputError), printable(path)
    header = _checked_header(data, where, "image", max_pixels)
    count = pictures_in(data)
    large = header.kind in ("JPEG", "PNG") and (header.height_px or 0) * (header.width_px or 0) > MAX_PIXELS
    # imread fills in the rest of a truncated JPEG, so decode it strictly first, at an eighth of its size.
    if large and (header.kind == "PNG" or is_one_whole_scan(data)):
        del data  # frees tens of megabytes before decoding
        image = _straight(path)
        if image is not None:
            return image, count
        data = read_bytes(path, InputError)  # decode says what is wrong, or reads what imread cannot
    return decode(data, where, max_pixels=max_pixels), count


def is_opaque(data: bytes, header: ImageHeader) -> bool:
    """Tell whether a file that may have transparent pixels has none; False if its alpha channel cannot be read."""
    two_bands = header.kind == "TIFF" and header.channels == 2
    readable = tiff_as_one_band(data) if two_bands else data
    try:
        samples = None if readable is None else imdecode(readable, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return False
    if samples is None:
        return False
    if two_bands:
        return bool((samples[:, 1::2] == 255).all())
    if samples.ndim == 3:  # an alpha channel that is opaque is left out by some decoders
        return samples.shape[2] == 3 or bool((samples[:, :, 3] == 255).all())
    # A grey PNG can declare one level as transparent.
    level = int.from_bytes(png_chunk(data, b"tRNS")) * (255 // (2 ** (header.bit_depth or 8) - 1))
    return header.kind == "PNG" and not (samples == level).any()


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
    if header.unread is not None:
        raise InputError(f"{where} — {header.kind} with {header.unread}, which is not read — save it as an 8-bit PNG")
    depth = header.bit_depth or 8
    if mode == "image" and (header.samples != "uint" or depth > 16):
        count = f", {header.channels} a pixel" if header.channels else ""
        raise InputError(
            f"{where} — samples are {header.samples}{depth}{count} — expected 8-bit: how to scale is your choice — "
            "convert it to 8-bit"
        )
    if mode == "image" and depth > 8:
        raise InputError(
            f"{where} — {depth} bits a sample — expected 8: how to scale is your choice — convert it to 8-bit"
        )
    return header


def _ended(data: bytes) -> bytes:
    """Return a file with a line break behind the text of a PNM, without which OpenCV fails at the last value."""
    return data + b"\n" if data[:2] in (b"P1", b"P2", b"P3") else data


def _fault(kind: str) -> str:
    """Return why a file of a known format could not be decoded, and the remedy."""
    if not cv2.haveImageWriter(f"a{suffixes_of(kind)[0]}"):  # which reads and writes the same formats
        return f"a {kind} file, which OpenCV {cv2.__version__} on this machine cannot read — convert it to PNG"
    return f"truncated or damaged {kind} — copy it again or remove it"


def _straight(path: Path) -> NDArray[np.uint8] | None:
    """Decode a file directly into the returned array; None if OpenCV cannot open or decode it."""
    name = os.fspath(path)
    try:
        name.encode()  # a name that is not valid text makes imread crash (segmentation fault in OpenCV 5.0.0)
        image = cv2.imread(name, dst=None, flags=_IMAGE_FLAGS)
    except (UnicodeEncodeError, cv2.error):
        return None
    return None if image is None or image.dtype != np.uint8 or not image.size else np.asarray(image, np.uint8)
