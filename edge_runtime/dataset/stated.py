"""Compare what a dataset's ``dataset.yaml`` states with the model that is measured on it, as far as plain lines tell.

The runtime has no YAML library, and masks are read as training read them. A file that names other classes, or the same
in another order, would otherwise go unnoticed while the figures are of the wrong classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import InputError
from edge_runtime.model.contract import Contract
from edge_runtime.storage import printable, read_bytes, translated

_NAMES = ("dataset.yaml", "dataset.yml")
_SCALAR = r"""(?:'([^'\\\n]*)'|"([^"\\\n]*)"|([^\s'"\[\]{},:#&*!|>%@`?-][^'"\[\]{},:#\n]*))"""
"""Text that means itself in YAML, in quotes or not: what may need a YAML library is left alone."""
_SHOWN = 8


def notices(root: Path, contract: Contract) -> Iterator[str]:
    """Yield a line for each ``dataset.yaml`` of a dataset that does not state the classes of a model, or may not.

    Args:
        root: Folder of the dataset.
        contract: Contract of the model.

    Raises:
        InputError: The folder or the file cannot be read.
    """
    with translated("read", root, InputError):
        paths = sorted(p for p in root.iterdir() if p.name.lower() in _NAMES and p.is_file()) if root.is_dir() else []
    for path in paths:
        text = "\n".join(read_bytes(path, InputError).decode("utf-8", "replace").splitlines())
        names, ignored = _classes(text), re.search(r"(?m)^ignore_id:[ \t]*([0-9]+)[ \t]*(?:#.*)?$", text)
        expected = [c.name for c in contract.classes]
        if names is None:
            yield f"{printable(path)} — is there and not read — masks are read as in training"
        elif names != expected:
            yield (
                f"{printable(path)} — classes are {_listed(names)} — the model has {_listed(expected)} — the file is not "
                "read, and masks are read as in training: if they are stored as the file says, the figures are wrong"
            )
        elif ignored is not None and int(ignored[1]) < len(expected) and int(ignored[1]) != contract.ignore_id:
            yield (
                f"{printable(path)} — ignore_id is {ignored[1]} — the model has a class of this id — the file is not read, and "
                "masks are read as in training: these pixels count"
            )


def _classes(text: str) -> list[str] | None:
    """Return the names under ``classes`` if they are on its line in brackets or on lines with dashes; None if not."""
    found = re.search(r"(?m)^classes:[ \t]*(?:\[([^\]#]*)\])?[ \t]*(?:#.*)?$", text)
    if found is None:
        return None
    items = found[1].split(",") if found[1] is not None else _dashed(text[found.end() :])
    matches = [re.fullmatch(rf"\s*{_SCALAR}\s*", item) for item in items]
    names = [next(part for part in match.groups() if part is not None).strip() for match in matches if match]
    return names if names and len(names) == len(items) else None


def _dashed(text: str) -> list[str]:
    """Return what follows the dash of each line of a list, up to the first line that is of no list."""
    items = []
    for line in text.splitlines()[1:]:
        if not re.fullmatch(r"[ \t]*(?:#.*)?", line):
            if not (item := re.fullmatch(r"[ \t]*-[ \t]+(.*?)(?:[ \t]#.*)?", line)):
                break
            items.append(item[1])
    return items


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
