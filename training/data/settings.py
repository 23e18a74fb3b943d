"""Read ``dataset.yaml``, strictly: whatever is not understood, or says two things, is refused with its remedy."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from edge_runtime.dataset.label_key import IGNORE, MaskEncoding
from edge_runtime.dataset.mask_files import RGB
from edge_runtime.dataset.pairs import leads_nowhere
from edge_runtime.model.contract import MAX_CLASSES
from edge_runtime.storage import printable
from training.data.dataset import CONFIG, DatasetInfo, make_classes
from training.data.yaml_text import Text, read_yaml, scalar
from training.errors import DataError

NAMES = (CONFIG, "dataset.yml")
"""Names of the file, in any case."""
_KEYS = (
    *("classes", "ignore_id", "colors", "ignore_colors", "ids", "mask_encoding", "groups"),
    "empty_without_mask",
)
_MEANT = {
    **dict.fromkeys(("names", "class_names", "labels", "categories"), "classes"),
    **dict.fromkeys(("palette", "colours", "class_colors"), "colors"),
    **dict.fromkeys(("ignore_index", "ignore_label", "void"), "ignore_id"),
    **dict.fromkeys(("label_map", "mapping", "values"), "ids"),
}
"""Keys of other tools, and the key here."""
_NEEDLESS = {
    **dict.fromkeys(("nc", "num_classes", "n_classes"), "the number of classes is that of the names in classes"),
    **dict.fromkeys(
        ("train", "val", "valid", "test", "path"),
        "folders are found by their names: images/ and masks/, or train/images",
    ),
}
"""Keys of other tools that say what is known here, and from what."""
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_SHOWN = 60


def find_settings(root: Path) -> Path | None:
    """Return the path of the dataset's ``dataset.yaml`` or ``dataset.yml``, in any case; None if there is none.

    Raises:
        DataError: There are two, or it is a link to nowhere.
    """
    if not root.is_dir():
        return None
    found = sorted(path for path in root.iterdir() if path.name.lower() in NAMES and not path.is_dir())
    if len(found) > 1:
        names = " and ".join(printable(path.name) for path in found)
        raise DataError(f"dataset {printable(root)} — {names} — expected one of them — join them in {CONFIG}")
    if found and leads_nowhere(found[0]):
        raise DataError(f"{printable(found[0])} — a link to a file that does not exist — bring the file")
    return found[0] if found else None


def read_info(root: Path) -> DatasetInfo | None:
    """Read ``dataset.yaml``; return None if the dataset has none.

    Raises:
        DataError: The file is not plain YAML, has an unknown key or a value of the wrong kind, or contradicts itself.
    """
    path = find_settings(root)
    if path is None:
        return None
    where, value = printable(path), read_yaml(path)
    if not isinstance(value, dict):
        found = "no keys" if value is None else "text" if isinstance(value, str) else "a list"
        raise DataError(f"{where} — found {found} — expected keys: {', '.join(_KEYS)}")
    for key in value:
        if key not in _KEYS:
            raise DataError(f"{where} — unknown key '{printable(key)}' — {_hint(key)}")
    # A key without a value is left out.
    return _info({key: given for key, given in value.items() if not _is_null(given)}, where)


def _hint(key: str) -> str:
    """Return what is probably meant by an unknown key."""
    if key.lower() in _NEEDLESS:
        return f"leave it out: {_NEEDLESS[key.lower()]}"
    close = [_MEANT[key.lower()]] if key.lower() in _MEANT else difflib.get_close_matches(key, _KEYS, n=1)
    return f"did you mean '{close[0]}'?" if close else f"expected {', '.join(_KEYS)}"


def _info(value: dict[str, Text], where: str) -> DatasetInfo:
    names = _names(value.get("classes"), where)
    ignore_id = _number(value.get("ignore_id"), 255)
    if "ignore_id" in value and ignore_id is None:
        raise DataError(f"{where} — ignore_id is {_shown(value['ignore_id'])} — expected a mask value from 0 to 255")
    colors = _colors(value.get("colors"))
    if "colors" in value and (colors is None or len(colors) != len(names)):
        raise DataError(
            f"{where} — colors is {_shown(value['colors'])} — expected {len(names)} lists of red, green, blue from 0 to 255"
        )
    ignore_colors = _colors(value.get("ignore_colors", []))
    if ignore_colors is None:
        raise DataError(
            f"{where} — ignore_colors is {_shown(value['ignore_colors'])} — expected lists of red, green, blue from 0 to 255"
        )
    encoding = value.get("mask_encoding", "auto")
    if encoding not in ("auto", *get_args(MaskEncoding)):
        raise DataError(
            f"{where} — mask_encoding is {_shown(encoding)} — expected auto, {', '.join(get_args(MaskEncoding))}"
        )
    if encoding == "color" and colors is None:
        raise DataError(
            f"{where} — mask_encoding is color and there are no colors — add one [red, green, blue] a class"
        )
    ids = _ids(value.get("ids"), names, where)
    if ids is not None and encoding in ("binary", "soft"):
        raise DataError(
            f"{where} — mask_encoding is {encoding} and there are ids — expected ids with index or palette alone — remove one"
        )
    _require_one_meaning(names, ignore_id, colors or [], ignore_colors, ids, str(encoding), where)
    return DatasetInfo(
        classes=make_classes(names, colors),
        ignore_id=ignore_id,
        encoding=cast(MaskEncoding, encoding),
        colors_known=colors is not None,
        ignore_colors=tuple(ignore_colors),
        ids=ids,
        groups=_groups(value.get("groups"), where),
        empty_without_mask=_yes_or_no(value.get("empty_without_mask", "false"), "empty_without_mask", where),
    )


def _names(value: Text | None, where: str) -> list[str]:
    """Read ``classes``: the names as they are written."""
    expected = f"expected a list of 2 to {MAX_CLASSES} different names"
    if isinstance(value, dict) and list(value) == [str(i) for i in range(len(value))]:
        listed = ", ".join(scalar(str(name)) for name in value.values())
        raise DataError(f"{where} — classes is a mapping — {expected}, the first of id 0 — write classes: [{listed}]")
    if value is None:
        raise DataError(f"{where} — classes is missing — {expected}")
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{where} — classes is {_shown(value)} — {expected}")
    names = [cast(str, name) for name in value]
    empty = next((i for i, name in enumerate(names) if not name.strip()), None)
    if empty is not None:
        raise DataError(f"{where} — classes has an empty name — {expected} — name class {empty}")
    if len(names) == 1:
        raise DataError(
            f"{where} — classes is one name, {_shown(value)} — {expected}: the background is a class, too — write classes: "
            f"[background, {scalar(names[0])}]"
        )
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{where} — classes has '{printable(twice)}' twice — {expected} — rename or remove one")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{where} — classes has {len(names)} names — {expected}")
    return names


def _number(value: Text | None, most: int) -> int | None:
    """Return a whole number from 0 to ``most``; None if the text is none."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}", value):
        return None
    return int(value) if int(value) <= most else None


def _colors(value: Text | None) -> list[RGB] | None:
    """Return a list of RGB colours; None if the value is none."""
    if not isinstance(value, list):
        return None
    colors = [[_number(part, 255) for part in color] if isinstance(color, list) else [] for color in value]
    found = [(c[0], c[1], c[2]) for c in colors if len(c) == 3]
    if len(found) < len(colors) or any(part is None for color in found for part in color):
        return None
    return cast("list[RGB]", found)


def _ids(value: Text | None, names: Sequence[str], where: str) -> tuple[tuple[int, int], ...] | None:
    """Read ``ids``: the class name of each stored value, or null for ignored values."""
    if value is None:
        return None
    expected = f"expected class names by mask value, as {{7: {scalar(names[0])}}}"
    if not isinstance(value, dict):
        raise DataError(f"{where} — ids is {_shown(value)} — {expected}")
    class_of = {**dict.fromkeys(_NULL, IGNORE), **{name: i for i, name in enumerate(names)}}
    found: dict[int, int] = {}
    for text, name in value.items():
        stored = _number(text, (1 << 16) - 1)
        if stored is None:
            raise DataError(f"{where} — ids has the key '{printable(text)}' — {expected}, each from 0 to 65535")
        if not isinstance(name, str) or name not in class_of:
            raise DataError(
                f"{where} — ids: {stored} is {_shown(name)} — expected one of classes, or null to ignore it"
            )
        if found.setdefault(stored, class_of[name]) != class_of[name]:
            raise DataError(f"{where} — ids: {stored} has two meanings — expected one — remove one")
    return tuple(sorted(found.items()))


def _require_one_meaning(
    names: Sequence[str],
    ignore_id: int | None,
    colors: Sequence[RGB],
    ignore_colors: Sequence[RGB],
    ids: tuple[tuple[int, int], ...] | None,
    encoding: str,
    where: str,
) -> None:
    """Refuse a mask value or a colour that is a class and is ignored."""
    both = next((color for color in ignore_colors if color in colors), None)
    if both is not None:
        raise DataError(
            f"{where} — ignore_colors has {list(both)}, the colour of '{printable(names[colors.index(both)])}' — expected one "
            "meaning per colour — remove one"
        )
    if ignore_id is None or encoding == "color":
        return
    if ids is not None:
        class_of = dict(ids)
    elif encoding in ("binary", "soft"):
        class_of = {0: 0, 255: 1}
    else:
        class_of = {i: i for i in range(len(names))}
    class_id = class_of.get(ignore_id, IGNORE)
    if class_id != IGNORE:
        others = [f"{i}: {scalar(name)}" for i, name in enumerate(names) if i != ignore_id]
        kept = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        remedy = (
            "remove one of the two"
            if ids is not None or encoding in ("binary", "soft")
            else f"take the class out of classes and write ids: {{{ignore_id}: null, {kept}}}, or correct ignore_id"
        )
        raise DataError(
            f"{where} — ignore_id is {ignore_id}, which is class '{printable(names[class_id])}' — expected one meaning per "
            f"value — {remedy}"
        )


def _groups(value: Text | None, where: str) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and re.compile(value).groups == 1:
            return value
        cause = "not one group in brackets"
    except re.error as error:
        cause = str(error)
    raise DataError(
        f"{where} — groups is {_shown(value)} ({cause}) — expected a regular expression with one group, as '^(.+)_\\d+$'"
    )


def _is_null(value: Text) -> bool:
    return isinstance(value, str) and value in _NULL


def _yes_or_no(value: Text, key: str, where: str) -> bool:
    if not isinstance(value, str) or value.lower() not in ("true", "false"):
        raise DataError(f"{where} — {key} is {_shown(value)} — expected true or false")
    return value.lower() == "true"


def _shown(value: Text) -> str:
    """Return a value as it may be written in YAML, shortened."""
    if isinstance(value, str):
        return f"'{printable(value)[:_SHOWN]}'"
    text = printable(repr(value).replace("'", ""))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
