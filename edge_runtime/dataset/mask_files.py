"""Read the stored values of mask files exactly: grey levels, palette indices or colours, not yet class ids.

OpenCV returns the colours of a palette PNG or TIFF, not its indices. If the file is relabelled as greyscale, the same
decoder returns the indices, so that no other library is needed. A GIF is read as colours, because programs number the
colours of each GIF anew.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.headers import is_lossy, read_header
from edge_runtime.headers.chunks import png_chunk, png_chunks
from edge_runtime.headers.tiff import tiff_as_grey, tiff_palette
from edge_runtime.image import decode
from edge_runtime.storage import printable, read_bytes

MaskForm = Literal["grey", "palette", "color"]
StoredValues: TypeAlias = NDArray[np.unsignedinteger[Any]]
RGB: TypeAlias = tuple[int, int, int]
MAX_VALUES = 512
"""Largest number of values kept per mask; an intact mask has at most 256."""
UNSHOWN = 1 << 24
"""Placeholder for the colour of a 16-bit id, which has no colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMask:
    """Stored values of a mask file, before conversion to class ids.

    Attributes:
        values: (H, W) uint8 or uint16 grey levels, uint8 palette indices, or uint32 colours packed as 0xRRGGBB.
        form: Kind of the values. A colour file that has only greys is "grey", and so is a palette of greys in order.
        lossy: Compression has changed the values (JPEG, lossy WebP, …).
        palette: Packed colours by index, for a palette PNG or TIFF.
    """

    values: StoredValues
    form: MaskForm
    lossy: bool = False
    palette: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskContents:
    """Values that occur in one mask, from which the encoding of a dataset is detected.

    Of a damaged or lossy mask with thousands of colours, only the most frequent are kept.

    Attributes:
        form: Kind of the values; see ``StoredMask``.
        lossy: Compression has changed the values; see ``StoredMask``.
        counts: Number of pixels per stored value, in order of the values.
        colors: Packed colour by palette index, for the indices that occur; empty for other forms.
    """

    form: MaskForm
    lossy: bool
    counts: Mapping[int, int]
    colors: Mapping[int, int]

    def color_of(self, value: int) -> int:
        """Return the packed colour with which a stored value is displayed."""
        if self.form == "grey":
            return value * 0x010101 if value < 256 else UNSHOWN
        return self.colors[value] if self.form == "palette" else value

    def as_grey(self) -> MaskContents | None:
        """Return the grey levels that the mask shows, of a palette of greys too; None if it shows colours."""
        if self.form == "grey":
            return self
        if self.form != "palette" or any(color != (color & 255) * 0x010101 for color in self.colors.values()):
            return None
        counts = Counter[int]()
        for value, n in self.counts.items():
            counts[self.colors[value] & 255] += n
        return MaskContents(form="grey", lossy=self.lossy, counts=dict(sorted(counts.items())), colors={})


def read_mask(path: Path, *, allow_lossy: bool = False) -> StoredMask:
    """Read the stored values of a mask file; see ``decode_mask``."""
    return decode_mask(read_bytes(path, InputError), printable(path), allow_lossy=allow_lossy)


def decode_mask(data: bytes, where: str, *, allow_lossy: bool = False) -> StoredMask:
    """Decode the stored values of a mask file.

    Args:
        data: Bytes of the file.
        where: Name of the file in error messages.
        allow_lossy: Also read JPEG and other lossy files, whose values are only close to the original ones.

    Raises:
        InputError: The file is damaged, lossy, in 16-bit colour, or has transparent pixels.
    """
    header = read_header(data, where)
    lossy = is_lossy(data)
    if lossy and not allow_lossy:
        raise InputError(
            f"{where} — a {header.kind} mask: compression changes ids at the borders — expected PNG — save masks as PNG"
        )
    if header.palette:
        is_png = header.kind == "PNG"
        palette = _palette(data) if is_png else tiff_palette(data)
        scale = 255 // (2 ** (header.bit_depth or 8) - 1)  # the decoder scales 1, 2 and 4 bits to 8
        indices = decode(_as_grey(data) if is_png else tiff_as_grey(data), where, mode="raw") // np.uint8(scale)
        if palette == tuple(i * 0x010101 for i in range(len(palette))):
            return StoredMask(values=indices, form="grey")
        return StoredMask(values=indices, form="palette", palette=palette)
    mask = decode(data, where, mode="raw")
    if mask.ndim == 2 and mask.dtype in (np.uint8, np.uint16):
        scale = 255 // (2**header.bit_depth - 1) if header.kind == "PNG" and header.bit_depth in (2, 4) else 1
        return StoredMask(values=mask if scale == 1 else mask // np.uint8(scale), form="grey", lossy=lossy)
    if mask.ndim != 3 or mask.shape[2] not in (3, 4) or mask.dtype != np.uint8:
        raise InputError(
            f"{where} — {mask.dtype} of shape {mask.shape} — expected 8-bit ids or colours, or 16-bit ids in one "
            "channel — save it as an 8-bit PNG"
        )
    if mask.shape[2] == 4 and (mask[:, :, 3] != 255).any():
        raise InputError(f"{where} — has transparent pixels — expected an opaque mask — flatten it")
    if (mask[:, :, 0] == mask[:, :, 1]).all() and (mask[:, :, 1] == mask[:, :, 2]).all():
        return StoredMask(values=np.ascontiguousarray(mask[:, :, 0]), form="grey", lossy=lossy)
    return StoredMask(values=_packed(mask), form="color", lossy=lossy)


def histogram(mask: StoredMask) -> dict[int, int]:
    """Count the pixels of a mask by stored value, in order of the values."""
    values, lengths = runs(mask.values)
    if values.dtype == np.uint8:
        counts = np.bincount(values, weights=lengths, minlength=256).astype(np.int64)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    found, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, weights=lengths).astype(np.int64)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def contents_of(mask: StoredMask) -> MaskContents:
    """Return the values that occur in a mask; of more than ``MAX_VALUES``, the most frequent."""
    counts = histogram(mask)
    if len(counts) > MAX_VALUES:
        most = sorted(counts, key=lambda value: -counts[value])[:MAX_VALUES]
        counts = {value: counts[value] for value in sorted(most)}
    return _contents(mask, counts)


def all_contents_of(mask: StoredMask) -> MaskContents:
    """Return all values that occur in a mask."""
    return _contents(mask, histogram(mask))


def _contents(mask: StoredMask, counts: dict[int, int]) -> MaskContents:
    palette = mask.palette or ()
    # An index beyond the palette is an error in the file; decoders display it as black.
    colors = {i: palette[i] if i < len(palette) else 0 for i in counts} if mask.form == "palette" else {}
    return MaskContents(form=mask.form, lossy=mask.lossy, counts=counts, colors=colors)


def runs(values: StoredValues) -> tuple[StoredValues, NDArray[np.int64]]:
    """Return value and length of each run of equal pixels, row by row; a mask has few runs.

    Args:
        values: Stored values of any shape, not empty.
    """
    flat = values.reshape(-1)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return flat[starts], np.diff(starts, append=flat.size)


def pack_color(color: RGB) -> int:
    """Return a colour as 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack_color(packed: int) -> RGB:
    """Return 0xRRGGBB as red, green, blue."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def _packed(bgr: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return (H, W) uint32 0xRRGGBB of (H, W, 3 or 4) uint8 BGR: four bytes are read as a little-endian number."""
    four = bgr if bgr.shape[2] == 4 else cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)
    return (np.ascontiguousarray(four).view("<u4")[:, :, 0] & 0xFFFFFF).astype(np.uint32)


def _palette(data: bytes) -> tuple[int, ...]:
    """Return the packed colours of a palette PNG."""
    body = png_chunk(data, b"PLTE")
    return tuple(body[i] << 16 | body[i + 1] << 8 | body[i + 2] for i in range(0, len(body) - 2, 3))


def _as_grey(data: bytes) -> bytes:
    """Return a palette PNG relabelled as greyscale: colour type 0, without palette, with new checksums."""
    parts = [data[:8]]
    for kind, whole in png_chunks(data):
        chunk = whole
        if kind == b"IHDR":
            body = kind + chunk[8:17] + b"\x00" + chunk[18:-4]
            chunk = chunk[:4] + body + struct.pack(">I", zlib.crc32(body))
        if kind not in (b"PLTE", b"tRNS"):
            parts.append(chunk)
    return b"".join(parts)
