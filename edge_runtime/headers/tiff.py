"""TIFF and BigTIFF files, and the EXIF blocks of other formats, which are TIFFs: directories, header, orientation.

Reference: TIFF 6.0; BigTIFF, https://libtiff.gitlab.io/libtiff/specification/bigtiff.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.headers.formats import ImageHeader

_CLASSIC, _BIG = (b"II*\0", b"MM\0*"), (b"II+\0", b"MM\0+")
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLORS = 254, 256, 257, 258, 259, 262
_ORIENTATION, _BANDS, _PLANES, _PREDICTOR, _COLOR_MAP, _TILE_WIDTH, _FORMAT = 274, 277, 284, 317, 320, 322, 339
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""``struct`` format of each integer type of TIFF."""
_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "untyped", 5: "complex int", 6: "complex float"}
_GREYS, _PALETTE, _CMYK = (0, 1), 3, 5
_CHANNELS = {2: 3, _PALETTE: 1, _CMYK: 4, 6: 3, 8: 3}
"""Bands of the colours, by photometric interpretation: RGB, palette, CMYK, YCbCr, Lab; grey has one."""
_JPEGS = (6, 7)
_READABLE = (1, 2, 3, 4, *_JPEGS, 5, 8, 32773, 32946)
"""Compressions that OpenCV's libtiff reads: none, CCITT, JPEG, LZW, deflate, PackBits."""
_COMPRESSIONS = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
_GREY_BITS, _PALETTE_BITS, _COLOR_BITS, _FLOAT_BITS = (1, 8, 16, 32, 64), (4, 8), (8, 16, 32, 64), (32, 64)
"""Bits per sample that OpenCV reads; it scales others, or fails."""
_NOT_A_PAGE = 0b101
"""Flags of a directory that holds a smaller copy of a page, as overviews and thumbnails are, or a transparency mask."""


def is_tiff(data: bytes) -> bool:
    """Tell whether bytes start as a TIFF or BigTIFF."""
    return data.startswith((*_CLASSIC, *_BIG))


def tiff_header(data: bytes) -> ImageHeader:
    """Read the header of a TIFF's first page."""
    page = next(_directories(data), None)
    if page is None:
        return ImageHeader(kind="TIFF")
    bits, bands = _first(data, page, _BITS, 1), _first(data, page, _BANDS, 1)
    colors, samples = _first(data, page, _COLORS, 1), _FORMATS.get(_first(data, page, _FORMAT, 1), "untyped")
    return ImageHeader(
        kind="TIFF",
        height_px=_whole(data, page, _HEIGHT),
        width_px=_whole(data, page, _WIDTH),
        channels=3 if colors == _PALETTE else bands,
        bit_depth=bits,
        samples=samples,
        palette=colors == _PALETTE and bits == 8,
        cmyk=colors == _CMYK,
        alpha=bands > _CHANNELS.get(colors, 1),
        unread=_unread(_first(data, page, _COMPRESSION, 1), bits, bands, colors, samples),
    )


def tiff_pages(data: bytes) -> int:
    """Return the number of pages of a TIFF, without smaller copies and transparency masks of them."""
    try:
        return sum(not _first(data, page, _SUBFILE, 0) & _NOT_A_PAGE for page in _directories(data))
    except struct.error:  # the rest is cut off: the first page may still be whole
        return 1


def tiff_is_lossy(data: bytes) -> bool:
    """Tell whether a TIFF's first page is compressed as JPEG."""
    page = next(_directories(data), None)
    return page is not None and _first(data, page, _COMPRESSION, 1) in _JPEGS


def tiff_palette(data: bytes) -> tuple[int, ...]:
    """Return the packed colours of a palette TIFF, whose 16-bit colours libtiff shows by their upper 8 bits."""
    page = next(_directories(data))
    values = _values(data, page, _COLOR_MAP)
    shift = 8 if any(value > 255 for value in values) else 0
    red, green, blue = (values[i * len(values) // 3 : (i + 1) * len(values) // 3] for i in range(3))
    return tuple((r >> shift) << 16 | (g >> shift) << 8 | b >> shift for r, g, b in zip(red, green, blue, strict=False))


def tiff_as_grey(data: bytes) -> bytes:
    """Return a palette TIFF relabelled as greyscale, so that it is decoded to its indices."""
    return _relabelled(data, _COLORS, 1)


def tiff_as_one_band(data: bytes) -> bytes | None:
    """Return an 8-bit TIFF of two bands relabelled as one of twice the width, in which their pixels alternate.

    OpenCV decodes only the first of two bands. None if the bands are apart, in tiles, or stored as differences.
    """
    page = next(_directories(data))
    width = _whole(data, page, _WIDTH)
    alternates = _first(data, page, _PLANES, 1) == _first(data, page, _PREDICTOR, 1) == 1
    if width is None or not alternates or _entry(data, page, _TILE_WIDTH) is not None:
        return None
    return _relabelled(_relabelled(data, _WIDTH, 2 * width), _BANDS, 1)


def tiff_orientation(data: bytes) -> int | None:
    """Return the orientation of a TIFF's first page; as in libtiff, its integer may have any type."""
    page = next(_directories(data), None)
    return None if page is None else _whole(data, page, _ORIENTATION)


def block_orientation(tiff: bytes) -> int | None:
    """Return the orientation in an EXIF block; as in OpenCV, its first 16 bits are read, whatever the type."""
    page = next(_directories(tiff), None) if tiff.startswith(_CLASSIC) else None
    entry = None if page is None else _entry(tiff, page, _ORIENTATION)
    return None if entry is None else int(struct.unpack_from(f"{_order(tiff)}H", tiff, entry + 8)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Sizes in a directory of TIFF or BigTIFF.

    Attributes:
        number: ``struct`` format of offsets and counts of values.
        entries: ``struct`` format of the number of entries.
        entry: Bytes of an entry.
        value: Bytes from the start of an entry to its values, or to their offset if they do not fit in.
        link: Offset of the offset of the first directory.
    """

    number: str
    entries: str
    entry: int
    value: int
    link: int


_TIFF_LAYOUT = _Layout(number="I", entries="H", entry=12, value=8, link=4)
_BIG_LAYOUT = _Layout(number="Q", entries="Q", entry=20, value=12, link=8)


def _layout(tiff: bytes) -> _Layout:
    return _BIG_LAYOUT if tiff.startswith(_BIG) else _TIFF_LAYOUT


def _order(tiff: bytes) -> str:
    return "<" if tiff.startswith(b"II") else ">"


def _directories(tiff: bytes) -> Iterator[int]:
    """Yield the offset of each directory; a chain that leads back ends there."""
    layout, order, seen = _layout(tiff), _order(tiff), {0}
    link = layout.link
    while True:
        (place,) = struct.unpack_from(f"{order}{layout.number}", tiff, link)
        if place in seen:
            return
        seen.add(place)
        yield place
        (count,) = struct.unpack_from(f"{order}{layout.entries}", tiff, place)
        link = place + struct.calcsize(layout.entries) + count * layout.entry


def _entry(tiff: bytes, directory: int, tag: int) -> int | None:
    """Return the offset of a tag's first entry in a directory; None if the tag is missing."""
    layout, order = _layout(tiff), _order(tiff)
    (count,) = struct.unpack_from(f"{order}{layout.entries}", tiff, directory)
    start = directory + struct.calcsize(layout.entries)
    for place in range(start, start + layout.entry * count, layout.entry):
        if struct.unpack_from(f"{order}H", tiff, place)[0] == tag:
            return place
    return None


def _values(tiff: bytes, directory: int, tag: int) -> tuple[int, ...]:
    """Return the integers that a tag holds; empty if it is missing or holds another type."""
    entry, layout, order = _entry(tiff, directory, tag), _layout(tiff), _order(tiff)
    if entry is None:
        return ()
    kind, count = struct.unpack_from(f"{order}H{layout.number}", tiff, entry + 2)
    if kind not in _WHOLE_NUMBERS or count > len(tiff):
        return ()
    form = f"{order}{count}{_WHOLE_NUMBERS[kind]}"
    place = entry + layout.value
    if struct.calcsize(form) > struct.calcsize(layout.number):
        (place,) = struct.unpack_from(f"{order}{layout.number}", tiff, place)
    return struct.unpack_from(form, tiff, place)


def _relabelled(data: bytes, tag: int, value: int) -> bytes:
    """Return a TIFF in whose first directory a tag that is there has another value."""
    entry = _entry(data, next(_directories(data)), tag)
    if entry is None:
        return data
    (kind,) = struct.unpack_from(f"{_order(data)}H", data, entry + 2)
    packed = struct.pack(f"{_order(data)}{_WHOLE_NUMBERS[kind]}", value)
    place = entry + _layout(data).value
    return data[:place] + packed + data[place + len(packed) :]


def _first(tiff: bytes, directory: int, tag: int, default: int) -> int:
    """Return the first integer that a tag holds."""
    return next(iter(_values(tiff, directory, tag)), default)


def _whole(tiff: bytes, directory: int, tag: int) -> int | None:
    """Return the only integer that a tag holds; None if it is missing, of another type or one of several."""
    values = _values(tiff, directory, tag)
    return values[0] if len(values) == 1 else None


def _unread(compression: int, bits: int, bands: int, colors: int, samples: str) -> str | None:
    """Return what OpenCV cannot read, or reads wrongly, in a page; None if nothing."""
    if compression not in _READABLE:
        return f"{_COMPRESSIONS.get(compression, 'unknown')} compression"
    if colors not in (*_GREYS, *_CHANNELS):
        return f"photometric interpretation {colors}"
    allowed = _GREY_BITS if colors in _GREYS else _PALETTE_BITS if colors == _PALETTE else _COLOR_BITS
    if samples not in ("uint", "int", "float") or bits not in (_FLOAT_BITS if samples == "float" else allowed):
        return f"{samples} samples of {bits} bits"
    if bands > 4:
        return f"{bands} bands"
    if colors in _GREYS and (bands > 2 or (bands == 2 and bits != 8)):
        return f"{bands} bands of {bits} bits that are not marked as colours"
    return f"{bands} bands instead of {_CHANNELS[colors]}" if bands < _CHANNELS.get(colors, 1) else None
