"""Contract of a model: its input, its outputs and its classes, read and written as JSON.

The runtime defines this schema because it has to rely on it. The same JSON is stored in ``manifest.json`` and, under
the key ``edge_unet.contract``, in the metadata of the ONNX file, so that a bare ``.onnx`` file can be run. Reading is
strict: an unknown version, key or type is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from edge_runtime.errors import ModelError
from edge_runtime.storage import printable

FORMAT_VERSION = 1
METADATA_KEY = "edge_unet.contract"
VARIANT_KEY = "edge_unet.variant"
MAX_CLASSES = 254
"""Largest number of classes: masks are uint8, 255 stands for "ignore" and 254 for "unknown" while they are read."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One class of a model.

    Attributes:
        id: Value of the class in masks, 0–253.
        name: Name of the class, unique in its model.
        color: RGB colour for drawing, 0–255 per channel.

    Example:
        >>> from edge_runtime import Segmenter
        >>> red = Segmenter.load(package).contract.classes[1]
        >>> red.id, red.name, red.color
        (1, 'red', (255, 0, 0))
    """

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Input, outputs and classes of a model.

    The ONNX input is ``image``, uint8 (1, height_px, width_px, channels): BGR as in OpenCV, or grey. A frame is resized
    to it once, bilinearly, without antialiasing, with half-pixel centres and without keeping the aspect ratio. The
    outputs are ``mask``, uint8 (1, height_px, width_px) class ids, and ``logits``, float32 (1, height_px, width_px, L).
    L is 1 for a binary model, whose sigmoid is the probability of class 1; else the number of classes (softmax).

    Attributes:
        name: Name of the model.
        height_px: Input height in pixels.
        width_px: Input width in pixels.
        channels: Input channels: 3 (BGR) or 1 (grey).
        binary: Whether there is one sigmoid logit instead of one softmax logit per class.
        classes: Classes in order of their ids, from 0; class 0 is the background, if the model has one.
        ignore_id: Mask id of pixels that training ignored; None if there was none.

    Example:
        >>> from edge_runtime import Segmenter
        >>> contract = Segmenter.load(package).contract
        >>> contract.height_px, contract.width_px, contract.channels
        (24, 32, 3)
        >>> [c.name for c in contract.classes]
        ['background', 'red', 'blue']
    """

    name: str
    height_px: int
    width_px: int
    channels: Literal[1, 3]
    binary: bool
    classes: tuple[ClassInfo, ...]
    ignore_id: int | None = None

    def __post_init__(self) -> None:
        """Check values and their relations."""
        if self.height_px < 1 or self.width_px < 1:
            raise ModelError(f"contract: input size is {self.height_px}x{self.width_px} — expected positive numbers")
        if self.channels not in (1, 3):
            raise ModelError(f"contract: channels is {self.channels} — expected 1 or 3")
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ModelError(f"contract: {len(self.classes)} classes — expected 2 to {MAX_CLASSES}")
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ModelError("contract: class ids are not 0, 1, 2, … in order — export the model again")
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelError(f"contract: two classes are named '{twice}' — expected one name a class")
        if self.ignore_id is not None and not 0 <= self.ignore_id <= 255:
            raise ModelError(f"contract: ignore_id is {self.ignore_id} — expected 0 to 255")
        if self.binary and len(self.classes) != 2:
            raise ModelError(f"contract: a binary model with {len(self.classes)} classes — expected 2")

    @property
    def logit_channels(self) -> int:
        """Number of channels of the ``logits`` output."""
        return 1 if self.binary else len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as a JSON object, including the version of the format."""
        return {"format_version": FORMAT_VERSION, **json.loads(json.dumps(asdict(self)))}

    def to_json(self) -> str:
        """Return the contract as one line of JSON, as stored in the ONNX metadata."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, value: object, where: str) -> Contract:
        """Read a contract strictly.

        Args:
            value: A parsed JSON value.
            where: Name of its file in error messages.

        Raises:
            ModelError: A key is missing, unknown or of the wrong type, or the version is not supported.
        """
        fields = Fields(value, where)
        check_version(fields)
        channels = fields.take("channels", int)
        if channels not in (1, 3):
            raise ModelError(f"{where}: channels is {channels} — expected 1 or 3")
        contract = cls(
            name=fields.take("name", str),
            height_px=fields.take("height_px", int),
            width_px=fields.take("width_px", int),
            channels=1 if channels == 1 else 3,
            binary=fields.take("binary", bool),
            classes=tuple(_class_info(item, f"{where}: classes") for item in fields.take("classes", list)),
            ignore_id=fields.take_optional("ignore_id", int),
        )
        fields.finish()
        return contract

    @classmethod
    def from_json(cls, text: str, where: str) -> Contract:
        """Read a contract from JSON text; see ``from_dict``."""
        return cls.from_dict(parse_json(text, where), where)


class Fields:
    """Strict reader of a JSON object, key by key; missing, mistyped and unknown keys are named in errors."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ModelError(f"{where}: found {type(value).__name__} — expected a JSON object — export the model again")
        self._rest: dict[str, Any] = dict(value)
        self.where = where

    def take(self, key: str, kind: type[T]) -> T:
        """Return the value of a required key of this type; a bool does not count as an int."""
        if key not in self._rest:
            raise ModelError(f"{self.where}: key '{key}' is missing — export the model again")
        value = self._rest.pop(key)
        if kind is float and type(value) is int and abs(value) < 1 << 53:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ModelError(f"{self.where}: key '{key}' is {type(value).__name__} — expected {kind.__name__}")
        return value

    def take_optional(self, key: str, kind: type[T]) -> T | None:
        """Return the value of a required key of this type, or None for null."""
        if key in self._rest and self._rest[key] is None:
            return self._rest.pop(key)
        return self.take(key, kind)

    def take_map(self, key: str, read: Callable[[object, str], T]) -> dict[str, T]:
        """Return a required object with any keys, whose values ``read(value, where)`` reads."""
        return {
            name: read(value, f"{self.where}: {key}.{printable(name)}") for name, value in self.take(key, dict).items()
        }

    def finish(self) -> None:
        """Refuse keys that were not taken, because this version does not know their meaning."""
        if self._rest:
            raise ModelError(
                f"{self.where}: unknown key '{printable(min(self._rest))}' — written by a newer edge-unet? — update the runtime"
            )


def check_version(fields: Fields, expected: int = FORMAT_VERSION) -> None:
    """Take ``format_version`` and refuse any other than the expected one."""
    version = fields.take("format_version", int)
    if version != expected:
        raise ModelError(
            f"{fields.where}: format_version is {version} — this edge-unet reads {expected} — update edge-unet or export again"
        )


def text(value: object, where: str) -> str:
    """Return a JSON value that must be a string; a reader for ``Fields.take_map``."""
    if not isinstance(value, str):
        raise ModelError(f"{where} is {type(value).__name__} — expected str")
    return value


def number(value: object, where: str) -> float:
    """Return a JSON value that must be a number; a reader for ``Fields.take_map``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{where} is {type(value).__name__} — expected a number")
    return float(value)


def parse_json(text: str | bytes, where: str) -> object:
    """Parse JSON strictly: repeated keys, NaN and numbers beyond a float (1e999), which Python accepts, are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key stands twice")
        return result

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            refuse(number)
        return value

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as cause:
        raise ModelError(f"{where}: not valid JSON ({cause}) — the file is damaged: copy or export it again") from cause


def _class_info(value: object, where: str) -> ClassInfo:
    fields = Fields(value, where)
    color = fields.take("color", list)
    if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
        raise ModelError(f"{where}: color is {color} — expected three whole numbers from 0 to 255")
    info = ClassInfo(id=fields.take("id", int), name=fields.take("name", str), color=(color[0], color[1], color[2]))
    fields.finish()
    return info
