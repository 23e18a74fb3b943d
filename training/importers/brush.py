"""Decode the run lengths of Label Studio's brush: bits of runs and of single values, four values a pixel.

A stream of bits, the highest of each byte first, begins with the number of values (32 bits), their bits minus 1 (5) and
four times the bits of a length minus 1 (4 each). Then come blocks: one bit that says whether the values are all alike,
two bits that choose one of the four widths, a length minus 1 in that width, and one value, or as many as the length says.
The values are red, green, blue and alpha of each pixel, row by row. Alpha above 0 is the mask, as in Label Studio's export.

Reference: decode in https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts;
https://github.com/HumanSignal/label-studio-converter (label_studio_converter/brush.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.importers.shapes import Size

_CHANNELS = 4


def brush_mask(packed: Sequence[Any], size: Size, where: str) -> NDArray[np.bool_]:
    """Return the (height, width) mask of a brush.

    Args:
        packed: Bytes as numbers from 0 to 255.
        size: (height, width) of the image.
        where: The annotation, for messages.

    Raises:
        DataError: The numbers are not bytes, end too early, or are for an image of another size.
    """
    try:
        data = bytes(packed)
    except (TypeError, ValueError) as cause:
        raise DataError(
            f"{where} — rle holds something else than bytes — expected 0 to 255 — export it again"
        ) from cause
    bits = _Bits(data, where)
    count, width = bits.read(32), bits.read(5) + 1
    if count != size[0] * size[1] * _CHANNELS:
        raise DataError(
            f"{where} — brush of {count} values — expected {size[0] * size[1] * _CHANNELS}, four for each pixel of "
            f"{size[1]}x{size[0]} — export it again"
        )
    length_bits = [bits.read(4) + 1 for _ in range(4)]
    is_set = np.zeros(count, np.bool_)
    start = 0
    while start < count:
        is_run = bits.read(1)
        end = start + 1 + bits.read(length_bits[bits.read(2)])
        if end > count:
            raise DataError(f"{where} — brush of more than {count} values — damaged — export it again")
        if is_run:
            is_set[start:end] = bits.read(width) > 0
        else:
            is_set[start:end] = bits.take(width * (end - start)).reshape(-1, width).any(axis=1)
        start = end
    return is_set.reshape(*size, _CHANNELS)[..., -1]


class _Bits:
    """Bits read one number after another, the highest bit first."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._where = data, where
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.bool_)
        self._place = 0

    def read(self, count: int) -> int:
        """Return the number in the next bits."""
        start = self._advance(count)
        first, last = start // 8, (start + count + 7) // 8
        number = int.from_bytes(self._data[first:last], "big") >> (8 * last - start - count)
        return number & ((1 << count) - 1)

    def take(self, count: int) -> NDArray[np.bool_]:
        """Return the next bits one by one."""
        start = self._advance(count)
        return self._bits[start : start + count]

    def _advance(self, count: int) -> int:
        start, self._place = self._place, self._place + count
        if self._place > len(self._bits):
            raise DataError(f"{self._where} — brush ends in the middle — truncated — export it again")
        return start
