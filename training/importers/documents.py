"""Read annotation files of any origin, JSON, YAML, XML and text, and check every value."""

from __future__ import annotations

import base64
import binascii
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.storage import printable, read_bytes
from training.errors import DataError

T = TypeVar("T")
_LARGEST = 1e9
"""Largest coordinate or size; larger numbers are mistakes, and would overflow later."""


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path, DataError).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise DataError(f"{printable(path)} — not UTF-8 (byte {cause.start}) — save it as UTF-8") from cause


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without empty ones and comments, which begin with "# "."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and line != "#" and not line.startswith("# ")]


def read_json_value(path: Path) -> Any:
    """Read a JSON file that holds any value.

    Raises:
        DataError: The file cannot be read, is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as cause:
        raise DataError(f"{printable(path)} — not valid JSON ({cause}) — export it again or remove it") from cause


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; every scalar is a text, so that the class ``no`` is not False.

    Raises:
        DataError: The file cannot be read, is not YAML, or does not hold a mapping.
    """
    import yaml

    try:
        value = yaml.load(read_text(path), yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        reason = " ".join(str(cause).split())
        raise DataError(f"{printable(path)} — not valid YAML ({reason}) — correct it") from cause
    if not isinstance(value, dict):
        raise DataError(f"{printable(path)} — holds a {type(value).__name__} — expected keys and values")
    return value


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file and return its root.

    Raises:
        DataError: The file cannot be read, is not XML, or has a document type. No annotation tool writes one, and it
            could define entities that expand a thousandfold.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype(printable(path)))
    try:
        parser.feed(read_bytes(path, DataError))
        root: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, LookupError, ValueError) as cause:
        raise DataError(f"{printable(path)} — not valid XML ({cause}) — export it again") from cause
    return root


def field(entry: Any, key: str, kind: type[T], where: str) -> T:
    """Return a value of a JSON object after checking its type.

    Raises:
        DataError: The value is missing or of another type.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{where} — {key} is {short(value)} — expected {kind.__name__}")
    return value


def number(value: Any, where: str, what: str) -> float:
    """Return a number, from a JSON number or the text of an XML attribute.

    Raises:
        DataError: The value is missing, not a number, or larger than any picture.
    """
    try:
        result = float("nan") if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = float("nan")
    if not abs(result) <= _LARGEST:
        raise DataError(f"{where} — {what} is {short(value)} — expected a number")
    return result


def stated_size(entry: Any, height: str, width: str) -> tuple[int, int] | None:
    """Return the height and width that an entry states under two keys; None if they are not two whole numbers above 0."""
    values = []
    for key in (height, width):
        value = entry.get(key) if isinstance(entry, dict) else None
        text = "" if isinstance(value, bool) else str(value).strip()
        if not re.fullmatch(r"\d{1,15}(\.0+)?", text) or not float(text):
            return None
        values.append(int(float(text)))
    return values[0], values[1]


def point_array(values: Sequence[Any], where: str) -> NDArray[np.float64]:
    """Return (N, 2) x and y from a flat or nested list of numbers or number texts.

    Raises:
        DataError: The values are not pairs of numbers, or are larger than any picture.
    """
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.full(1, np.nan)
    if points.size % 2 or not (np.abs(points) <= _LARGEST).all() or (points.ndim == 2 and points.shape[1] != 2):
        raise DataError(f"{where} — points are {short(values)} — expected pairs of numbers")
    return points.reshape(-1, 2)


def base64_bytes(text: str, where: str) -> bytes:
    """Decode base64, with or without line breaks.

    Raises:
        DataError: The text is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as cause:
        raise DataError(f"{where} — not valid base64 ({cause}) — save the annotation again") from cause


def short(value: object) -> str:
    """Return a value as a message shows it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _NoDoctype(ElementTree.TreeBuilder):
    """Tree builder that refuses a document type, which comes before everything that could use it."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def doctype(self, name: str, _public_id: str | None, _system: str | None) -> None:
        raise DataError(f"{self._where} — has a document type (<!DOCTYPE {name}>) — refused — export it without")
