"""TIFF and BigTIFF files, byte by byte: in every byte order, kind of samples and number of bands and pages."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

_LONGS = (254, 256, 257, 273, 278, 279)
_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def tiff(
    *pages: NDArray[Any],
    order: str = "<",
    big: bool = False,
    extra: int = 0,
    tags: Mapping[int, Sequence[int] | None] | None = None,
) -> bytes:
    """Return an uncompressed TIFF.

    Args:
        pages: (H, W) or (H, W, C), in RGB order.
        order: "<" or ">".
        big: BigTIFF.
        extra: Meaning of the bands behind the colours: 0 none, 1 and 2 alpha.
        tags: Values that replace those of all pages; None leaves the tag out.
    """
    number = "Q" if big else "I"
    size = struct.calcsize(number)
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(f"{order}HHHQ", 43, 8, 0, 0) if big else struct.pack(f"{order}HI", 42, 0)
    link = len(out) - size
    for page in pages:
        height, width, bands = (*page.shape, 1)[:3]
        colors = 3 if bands >= 3 else 1
        start = len(out)
        out += page.astype(page.dtype.newbyteorder(order)).tobytes() + bytes(page.nbytes % 2)
        found: dict[int, Sequence[int] | None] = {
            256: [width],
            257: [height],
            258: [8 * page.dtype.itemsize] * bands,
            259: [1],
            262: [2 if colors == 3 else 1],
            273: [start],
            277: [bands],
            278: [height],
            279: [page.nbytes],
            284: [1],
            338: [extra] * (bands - colors) or None,
            339: [_FORMATS[page.dtype.kind]] * bands,
            **(tags or {}),
        }
        entries = [_entry(out, tag, values, order, number) for tag, values in sorted(found.items()) if values]
        struct.pack_into(f"{order}{number}", out, link, len(out))
        out += struct.pack(f"{order}{'Q' if big else 'H'}", len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(size)
    return bytes(out)


def _entry(out: bytearray, tag: int, values: Sequence[int], order: str, number: str) -> bytes:
    """Return an entry of a directory; values that do not fit in are appended to the file."""
    kind = 4 if tag in _LONGS else 3
    data = struct.pack(f"{order}{len(values)}{'I' if kind == 4 else 'H'}", *values)
    size = struct.calcsize(number)
    if len(data) > size:
        place = len(out)
        out += data + bytes(len(data) % 2)
        data = struct.pack(f"{order}{number}", place)
    return struct.pack(f"{order}HH{number}", tag, kind, len(values)) + data.ljust(size, b"\0")
