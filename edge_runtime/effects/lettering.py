"""Know which characters OpenCV can write: OpenCV 5 most scripts, OpenCV 4 those of ASCII. For the others it writes "?"."""

from __future__ import annotations

import cv2
import numpy as np

from edge_runtime.model.contract import ClassInfo

FONT = cv2.FONT_HERSHEY_SIMPLEX
_SIZE_PX = 24
_MOST_BYTES = 4
"""Bytes of a character in UTF-8; OpenCV 4 writes a "?" for each."""


def label_of(info: ClassInfo) -> str:
    """Return the name of a class if OpenCV can write it, else "class" and its id, which tell classes apart."""
    return info.name if all(map(_has_glyph, info.name)) else f"class {info.id}"


def writable(text: str) -> str:
    """Return a text with the escapes of Python for the characters that OpenCV cannot write."""
    return "".join(c if _has_glyph(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _has_glyph(character: str) -> bool:
    if character.isascii() or not character.isprintable():
        return " " <= character <= "~"
    marks = (_written("?" * count) for count in range(1, _MOST_BYTES + 1))
    return _written(character) not in marks


def _written(text: str) -> bytes:
    field = np.zeros((_SIZE_PX, _MOST_BYTES * _SIZE_PX), np.uint8)
    cv2.putText(field, text, (_SIZE_PX // 4, 3 * _SIZE_PX // 4), FONT, 0.5, (255,), 1, cv2.LINE_AA)
    return field.tobytes()
