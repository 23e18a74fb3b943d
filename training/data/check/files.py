"""Scan one image file and one mask file, each read once and decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.mask_files import MaskContents, contents_of, decode_mask
from edge_runtime.dataset.pairs import Problem
from edge_runtime.errors import InputError
from edge_runtime.headers import ImageHeader, exif_orientation, pictures_in, read_header, suffixes_of
from edge_runtime.image import MAX_PIXELS, decode, is_opaque
from edge_runtime.storage import printable, read_bytes
from training.data.check.duplicates import thumbnail
from training.errors import DataError

MIN_SIDE_PX = 16
"""Smallest height and width of a picture in pixels; a U-Net finds nothing in smaller ones."""
_FEW = 16
"""Number of values up to which a dictionary of them is small."""
BLANK = 1.0
"""Standard deviation in grey levels below which a picture is one flat colour, JPEG noise included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Facts about an image file.

    Attributes:
        digest: SHA-256 of the file, None if it cannot be decoded.
        form: Format and channels as text: "JPEG", "grey PNG", …
        shape: (height, width) after EXIF rotation, None if it cannot be decoded.
        stored_shape: (height, width) before EXIF rotation, None if the header does not say.
        orientation: EXIF orientation, 1–8.
        grey: Whether the image is grey.
        thumbnail: (64, 64) uint8 thumbnail, None if it cannot be decoded.
        problems: Problems of the file.
    """

    digest: str | None = None
    form: str = ""
    shape: tuple[int, int] | None = None
    stored_shape: tuple[int, int] | None = None
    orientation: int = 1
    grey: bool = False
    thumbnail: NDArray[np.uint8] | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFacts:
    """Facts about a mask file.

    Attributes:
        digest: SHA-256 of the file, None if it cannot be decoded.
        shape: (height, width) as stored, None if it cannot be decoded.
        orientation: EXIF orientation, 1–8.
        contents: Values of the mask and their pixels, None if it cannot be decoded.
        pixels: SHA-256 of the values in their places, None if it cannot be decoded.
        problems: Problems of the file.
    """

    digest: str | None = None
    shape: tuple[int, int] | None = None
    orientation: int = 1
    contents: MaskContents | None = None
    pixels: str | None = None
    problems: tuple[Problem, ...] = ()


def problem(
    severity: Literal["error", "warning"], code: str, file: Path | str, message: str, detail: str = ""
) -> Problem:
    """Return a problem; ``file`` is the file to correct."""
    return Problem(severity=severity, code=code, file=str(file), message=message, detail=detail)


class PackedCounts(Mapping[int, int]):
    """Number of pixels per value in two arrays: a mask with soft edges has 256 values, and a dataset many masks."""

    __slots__ = ("_pixels", "_values")

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._values = np.fromiter(sorted(counts), np.uint32, len(counts))
        self._pixels = np.fromiter((counts[value] for value in sorted(counts)), np.uint32, len(counts))

    def __getitem__(self, value: int) -> int:
        place = int(np.searchsorted(self._values, value)) if value >= 0 else len(self._values)
        if place == len(self._values) or self._values[place] != value:
            raise KeyError(value)
        return int(self._pixels[place])

    def __iter__(self) -> Iterator[int]:
        return iter(self._values.tolist())

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> ItemsView[int, int]:
        """Return values and pixels, without a search for each."""
        return dict(zip(self._values.tolist(), self._pixels.tolist(), strict=True)).items()


def scan_image(path: Path) -> ImageFacts:
    """Read and decode an image file."""
    where = printable(path)
    try:
        data = read_bytes(path, DataError)
    except DataError as error:
        return ImageFacts(problems=(problem("error", "unreadable_file", path, str(error)),))
    try:
        header = read_header(data, where)
        image_bgr = decode(data, where)
    except InputError as error:
        return ImageFacts(problems=(problem("error", refusal(data, where), path, str(error)),))
    shape = image_bgr.shape[:2]
    thumb = thumbnail(image_bgr)
    stored = (header.height_px, header.width_px) if header.height_px and header.width_px else None
    return ImageFacts(
        digest=hashlib.sha256(data).hexdigest(),
        form=_form(header),
        shape=shape,
        stored_shape=stored,
        orientation=exif_orientation(data),
        grey=header.channels in (1, 2),
        thumbnail=thumb,
        problems=tuple(_image_problems(path, data, header, image_bgr, thumb)),
    )


def scan_mask(path: Path) -> MaskFacts:
    """Read and decode a mask file; lossy ones, too, because ``judge_labels`` reports them."""
    where = printable(path)
    try:
        data = read_bytes(path, DataError)
    except DataError as error:
        return MaskFacts(problems=(problem("error", "unreadable_file", path, str(error)),))
    try:
        mask = decode_mask(data, where, allow_lossy=True)
    except InputError as error:
        return MaskFacts(problems=(problem("error", refusal(data, where, mask=True), path, str(error)),))
    height_px, width_px = mask.values.shape
    contents = contents_of(mask)
    return MaskFacts(
        digest=hashlib.sha256(data).hexdigest(),
        shape=(height_px, width_px),
        orientation=exif_orientation(data),
        contents=replace(contents, counts=PackedCounts(contents.counts)) if len(contents.counts) > _FEW else contents,
        pixels=hashlib.sha256(repr(mask.values.shape).encode() + mask.values.tobytes()).hexdigest(),
        problems=tuple(_mask_problems(path, data)),
    )


def refusal(data: bytes, where: str, *, mask: bool = False) -> str:
    """Return the problem code of a refused file from its bytes."""
    if not data:
        return "empty_file"
    try:
        header = read_header(data, where)
    except InputError:
        return "not_an_image"
    if (header.height_px or 0) * (header.width_px or 0) > MAX_PIXELS:
        return "too_large"
    other = header.samples != "uint" or (header.bit_depth or 8) > 16
    if header.unread is not None or (other and not mask):
        return "sample_format"
    try:
        samples = decode(data, where, mode="raw")
    except InputError:
        return "damaged_file"
    if not mask:
        return "sixteen_bit_image" if samples.dtype != np.uint8 else "damaged_file"
    if samples.ndim == 3 and samples.shape[2] == 4 and samples.dtype == np.uint8:
        return "transparent_mask"
    return "bad_mask"


def size(shape: tuple[int, ...]) -> str:
    """Return (height, width) as the text WIDTHxHEIGHT."""
    return f"{shape[1]}x{shape[0]}"


def _form(header: ImageHeader) -> str:
    if header.palette:
        return f"palette {header.kind}"
    samples = "CMYK " if header.cmyk else {1: "grey ", 2: "grey + alpha ", 4: "RGBA "}.get(header.channels or 0, "")
    return f"{samples}{header.kind}"


def _image_problems(
    path: Path, data: bytes, header: ImageHeader, image_bgr: NDArray[np.uint8], thumb: NDArray[np.uint8]
) -> list[Problem]:
    """Return the problems of an image that can be decoded."""
    where, shape = printable(path), image_bgr.shape[:2]
    found = _wrong_extension(path, header)
    if min(shape) < MIN_SIDE_PX:
        message = f"{where} — {size(shape)} pixels — expected at least {MIN_SIDE_PX} a side — remove it"
        found.append(problem("error", "too_small", path, message))
    elif thumb.std() < BLANK and cv2.meanStdDev(image_bgr)[1].max() < BLANK:
        message = f"{where} — one flat colour — expected a picture — remove it, or find out why the camera gave nothing"
        found.append(problem("warning", "blank_image", path, message))
    if header.cmyk:
        message = f"{where} — a CMYK {header.kind} — converted to RGB without its colour profile, here as on the device — save it as RGB if its colours matter"
        found.append(problem("warning", "cmyk_image", path, message))
    if header.alpha and not is_opaque(data, header):
        message = f"{where} — has {_what_is_dropped(header)} — flatten it if that is wrong"
        found.append(problem("warning", "alpha_image", path, message))
    return found + _several_pages(path, data)


def _mask_problems(path: Path, data: bytes) -> list[Problem]:
    """Return the problems of a mask that can be decoded."""
    header = read_header(data, printable(path))
    found = _wrong_extension(path, header)
    if header.kind == "TIFF" and header.channels == 2 and not is_opaque(data, header):
        message = f"{printable(path)} — has {_what_is_dropped(header)} — save it with one band"
        found.append(problem("warning", "alpha_mask", path, message))
    return found + _several_pages(path, data)


def _what_is_dropped(header: ImageHeader) -> str:
    if header.kind == "TIFF":
        return f"{header.channels} bands — the last one is not used, or darkens the colours if it is alpha"
    if header.kind == "GIF":
        return "transparent pixels — they become black"
    return "an alpha channel — it is dropped: what is transparent shows its hidden colour"


def _several_pages(path: Path, data: bytes) -> list[Problem]:
    count = pictures_in(data)
    if count == 1:
        return []
    message = f"{printable(path)} — has {count} pages or frames — only the first is used — save the others as files of their own"
    return [problem("warning", "several_pages", path, message)]


def _wrong_extension(path: Path, header: ImageHeader) -> list[Problem]:
    expected = suffixes_of(header.kind)
    if path.suffix.lower() in expected:
        return []
    message = f"{printable(path)} — is a {header.kind} file — read as that here; other programs go by the name — rename it to {expected[0]}"
    return [problem("warning", "wrong_extension", path, message)]
