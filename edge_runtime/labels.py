"""Mask files to class ids: index, binary 0/255 and palette PNGs, told apart by what is in them.

OpenCV gives the colours of a palette PNG, not its indices. Relabelling the file as greyscale (colour type 0, without
its palette) before decoding makes the same decoder return the indices, with no other library.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.image import decode, read_header
from edge_runtime.pairs import Pair
from edge_runtime.storage import printable, read_bytes

MaskEncoding = Literal["index", "binary", "palette"]
UNKNOWN = 254
"""Stands for "no class" in a table of ids; a contract has at most 254 classes, so that it is free."""
IGNORE = 255
"""The id that counts nowhere, once a mask has been read."""


def read_raw_mask(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Read a mask file's stored values; see ``decode_mask``."""
    return decode_mask(read_bytes(path, InputError), printable(path))


def decode_mask(data: bytes, where: str) -> tuple[NDArray[np.uint8], bool]:
    """Decode a mask file's stored values.

    Args:
        data: The bytes of the file.
        where: Its name, for messages.

    Returns:
        (H, W) uint8 values, and whether the file is a palette PNG.

    Raises:
        InputError: Damaged, JPEG, 16 bits deep, colour, or with transparent pixels.
    """
    header = read_header(data, where)
    if header.kind == "JPEG":
        raise InputError(
            f"{where} — a JPEG mask: compression changes ids at the borders — expected PNG — save masks as PNG"
        )
    if header.palette:
        scale = 255 // (2 ** (header.bit_depth or 8) - 1)  # the decoder stretches 1, 2 and 4 bits to 8
        return decode(_as_grey(data), where, mode="raw") // np.uint8(scale), True
    if header.bit_depth == 16:
        raise InputError(f"{where} — a 16-bit mask — expected 8-bit ids (at most 255 classes) — save it as 8-bit PNG")
    mask = decode(data, where, mode="raw")
    if mask.ndim == 2 and mask.dtype == np.uint8:
        scale = 255 // (2**header.bit_depth - 1) if header.bit_depth in (2, 4) else 1
        return mask // np.uint8(scale), False
    if mask.ndim == 3 and mask.shape[2] == 4 and (mask[:, :, 3] != 255).any():
        raise InputError(f"{where} — has transparent pixels — expected an opaque mask — flatten it")
    if mask.ndim == 3 and mask.dtype == np.uint8 and (mask[:, :, :3] == mask[:, :, :1]).all():
        return np.ascontiguousarray(mask[:, :, 0]), False
    raise InputError(
        f"{where} — a colour mask, {mask.dtype} of shape {mask.shape} — expected one channel of class ids — "
        "map its colours to ids and save it as an 8-bit greyscale PNG"
    )


def to_class_ids(
    values: NDArray[np.uint8], encoding: MaskEncoding, classes: int, ignore_id: int | None, where: str
) -> NDArray[np.uint8]:
    """Turn stored mask values into class ids.

    Args:
        values: (H, W) uint8 as stored.
        encoding: "binary" maps 0 and 255 to 0 and 1; "index" and "palette" are ids already.
        classes: Number of classes.
        ignore_id: The stored value that counts nowhere, or None.
        where: The file's name, for messages.

    Returns:
        (H, W) uint8 in 0 … classes - 1, or ``IGNORE``.

    Raises:
        InputError: A value that means nothing; the message counts the pixels and guesses the cause.
    """
    counts = np.bincount(values.reshape(-1), minlength=256)
    return class_table(counts, encoding, classes, ignore_id, where)[values]


def class_table(
    counts: NDArray[np.int64], encoding: MaskEncoding, classes: int, ignore_id: int | None, where: str
) -> NDArray[np.uint8]:
    """Return the (256,) uint8 table from stored values to class ids, or ``IGNORE``, checked against a mask's values.

    Args:
        counts: (256,) pixels of the mask by stored value.
        encoding: See ``to_class_ids``, as for the other arguments.
        classes: Number of classes.
        ignore_id: The stored value that counts nowhere, or None.
        where: The file's name, for messages.

    Raises:
        InputError: A value that means nothing; the message counts the pixels and guesses the cause.
    """
    table = np.full(256, UNKNOWN, np.uint8)
    if encoding == "binary":
        table[[0, 255]] = (0, 1)
    else:
        table[:classes] = np.arange(classes)
    if ignore_id is not None:
        table[ignore_id] = IGNORE
    unknown = [(int(v), int(counts[v])) for v in np.flatnonzero(counts) if table[v] == UNKNOWN]
    if unknown:
        found = ", ".join(f"{value} ({count} px)" for value, count in unknown[:5])
        expected = "0 and 255" if encoding == "binary" else f"0 to {classes - 1}"
        remedy = _remedy([value for value, _ in unknown])
        raise InputError(f"{where} — unknown label id {found} — expected {expected} — {remedy}")
    return table


def binary_or_index(counts: NDArray[np.int64], classes: int, ignore_id: int | None) -> Literal["binary", "index"]:
    """Tell by the values of all masks of a dataset whether 255 stands for the second of two classes.

    Args:
        counts: (256,) pixels by stored value, over all masks: an all-black one alone could be anything.
        classes: Number of classes.
        ignore_id: The stored value that counts nowhere. Where that is 255, it cannot stand for a class.
    """
    return "binary" if classes == 2 and ignore_id != 255 and counts[255] and not counts[1] else "index"


def dataset_encoding(pairs: Sequence[Pair], classes: int, *, ignore_id: int | None = None) -> MaskEncoding:
    """Tell how the masks of a dataset are encoded, once for all of them.

    Args:
        pairs: Images with masks.
        classes: Number of classes.
        ignore_id: The stored value that counts nowhere.

    Returns:
        "palette" if all files are palette PNGs, else as ``binary_or_index`` tells.

    Raises:
        InputError: Palette and other masks are mixed, or a mask cannot be read.
    """
    first: dict[bool, Path] = {}
    for pair in pairs:
        palette = read_header(read_bytes(pair.mask, InputError), printable(pair.mask)).palette
        first.setdefault(palette, pair.mask)
    if len(first) == 2:
        raise InputError(
            f"masks {printable(first[True])} (palette PNG) and {printable(first[False])} (not) — expected one encoding "
            "in a dataset — save all masks the same way"
        )
    if True in first:
        return "palette"
    if classes != 2:
        return "index"
    counts = np.zeros(256, np.int64)
    for pair in pairs:
        counts += np.bincount(read_raw_mask(pair.mask)[0].reshape(-1), minlength=256)
    return binary_or_index(counts, classes, ignore_id)


def _remedy(unknown: list[int]) -> str:
    """Guess what went wrong from values that fit no class."""
    if set(unknown) <= {38, 75, 113, 14, 52, 89, 128}:
        return "these are grey levels of the usual mask palette: save the indices, not the picture"
    if unknown == [255]:
        return "set ignore_id: 255 in dataset.yaml if these pixels count nowhere"
    if len(unknown) > 8:
        return "many stray values look like a resized or JPEG-compressed mask: make it again with nearest neighbour and PNG"
    return "add the class or set ignore_id in dataset.yaml, or correct the mask"


def _as_grey(data: bytes) -> bytes:
    """Return a palette PNG relabelled as greyscale: colour type 0 and no palette, with new checksums."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind = data[position + 4 : position + 8]
        chunk = data[position : position + 12 + length]
        if kind == b"IHDR":
            body = kind + chunk[8:17] + b"\x00" + chunk[18 : 8 + length]
            chunk = chunk[:4] + body + struct.pack(">I", zlib.crc32(body))
        if kind not in (b"PLTE", b"tRNS"):
            parts.append(chunk)
        position += 12 + length
    return b"".join(parts)
