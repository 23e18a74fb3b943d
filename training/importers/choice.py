"""Choose and merge the classes of a plan, and leave out those that never occur."""

from __future__ import annotations

import difflib
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import UsageError
from edge_runtime.model.contract import MAX_CLASSES, ClassInfo
from edge_runtime.storage import printable
from training.data.dataset import default_color
from training.errors import DataError
from training.importers.errors import ImportProblemsError
from training.importers.painting import Drawing
from training.importers.plan import BACKGROUND, Draw, Item, Plan, named_classes
from training.importers.shapes import Size

_LISTED = 5
"""Maximum number of class names in a note."""


def choose(plan: Plan, src: Path, classes: Sequence[str] | None, merge: Mapping[str, Sequence[str]] | None) -> Plan:
    """Return the plan with the classes that the user wants, numbered without gaps.

    The masks are painted with all objects first: an object that becomes background still hides what is below it.

    Args:
        plan: Plan with the classes of the source.
        src: Folder of the source, for messages.
        classes: Names of the classes to keep, in this order; the others become background. None keeps all that occur.
        merge: Names of the classes to join, by the name of the class that they become.

    Raises:
        UsageError: A name is unknown, or a class would become two.
        DataError: There are no classes besides the background, or too many.
    """
    if not plan.items:
        return plan
    final = _merged([c.name for c in plan.classes], merge or {})
    drawings = [item.draw for item in plan.items if isinstance(item.draw, Drawing)]
    ids = Counter(shape.class_id for drawing in drawings for shape in drawing.shapes)
    is_painted = len(drawings) == len(plan.items)
    used = {final[c.name] for c in plan.classes if ids[c.id]}
    offered = [name for name in dict.fromkeys(final.values()) if name != BACKGROUND]
    notes = list(plan.notes)
    if classes is not None:
        kept = list(dict.fromkeys(_resolved(name, final) for name in classes))
        kept = [name for name in kept if name != BACKGROUND]
    elif is_painted and not plan.keeps_unused:
        kept = [name for name in offered if name in used]
        if len(kept) < len(offered):
            unused = [name for name in offered if name not in used]
            notes.append(f"{len(unused)} classes never occur and are left out; --classes keeps them: {_short(unused)}")
    else:
        kept = offered
    dropped = [name for name in offered if name not in kept] if classes is not None else []
    if dropped:
        objects = Counter({c.name: ids[c.id] for c in plan.classes if final[c.name] in dropped and ids[c.id]})
        counted = [f"{printable(name)} {count}" for name, count in objects.most_common()]
        found = f"{objects.total()} objects of " if is_painted else ""
        notes.append(
            f"{found}{len(dropped)} classes that --classes leaves out are background: "
            f"{_short(counted if is_painted else dropped)}"
        )
    has_background = plan.classes[0].name == BACKGROUND or bool(dropped) or BACKGROUND in final.values()
    names = [BACKGROUND] * has_background + kept
    _require_number(len(kept), len(names), plan, src)
    notes += _alike(kept)
    infos = named_classes(names, [_color(name, i, plan.classes, final) for i, name in enumerate(names)])
    table = {c.id: names.index(final[c.name]) if final[c.name] in names else 0 for c in plan.classes}
    return replace(
        plan, classes=infos, items=tuple(_renumbered(item, table) for item in plan.items), notes=tuple(notes)
    )


def _merged(names: Sequence[str], merge: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the name that each class gets."""
    final = {name: name for name in names}
    own = dict(final)
    for target, members in merge.items():
        if not target.strip():
            raise UsageError("merge — a class without a name — expected NEW=OLD,OLD")
        for name in (_resolved(member, own) for member in members):
            if name == BACKGROUND != target:
                raise UsageError(f"merge — '{BACKGROUND}' into '{printable(target)}' — expected classes of objects")
            if final[name] not in (name, target):
                raise UsageError(f"merge — '{printable(name)}' would become two classes — expected one")
            final[name] = target
    for target in set(final.values()) & final.keys():
        if final[target] != target:
            raise UsageError(
                f"merge — '{printable(target)}' becomes '{printable(final[target])}' and others become it — "
                f"expected them to become '{printable(final[target])}', too"
            )
    return final


def _resolved(name: str, final: Mapping[str, str]) -> str:
    """Return the class that a user means by a name: the one of this name, or else the only one but for outer spaces."""
    if name == BACKGROUND or name in final.values():
        return name
    offered = dict.fromkeys(other for other in final.values() if other != BACKGROUND)
    matches = [other for other in offered if other.strip() == name.strip()]
    if len(matches) == 1:
        return matches[0]
    if name in final:
        raise UsageError(f"class '{printable(name)}' — is merged into '{printable(final[name])}' — name that one")
    close = [other for other in offered if _folded(other) == _folded(name)]
    close += [other for other in difflib.get_close_matches(name, offered, 3) if other not in close]
    what = "did you mean" if close else "expected"
    listed = ", ".join(f"'{printable(other)}'" for other in (close or [*offered])[:_LISTED])
    more = f" … ({len(offered)} in all)" if not close and len(offered) > _LISTED else ""
    raise UsageError(f"class '{printable(name)}' — unknown — {what} {listed}{more}{'?' if close else ''}")


def _require_number(objects: int, classes: int, plan: Plan, src: Path) -> None:
    if classes < 2 and plan.problems:
        raise ImportProblemsError(plan.problems)
    if classes < 2 and plan.undrawn:
        raise DataError(
            f"{printable(src)} — no shape with an area: {'; '.join(plan.undrawn)} — expected polygons, masks or other "
            "shapes that can be filled"
        )
    if classes < 2:
        raise DataError(f"{printable(src)} — {objects} classes besides the background — expected at least 1")
    if classes > MAX_CLASSES:
        raise DataError(
            f"{printable(src)} — {objects} classes — expected 1 to {MAX_CLASSES - 1} besides the background — choose "
            "some with --classes or join some with --merge"
        )


def _alike(names: Sequence[str]) -> list[str]:
    """Return a note per group of names that seem to mean one class."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), []).append(name)
    notes = []
    for group in groups.values():
        if len(group) > 1:
            merge = shlex.quote(f"{group[0].strip()}={','.join(_in_list(name) for name in group)}")
            listed = ", ".join(f"'{printable(name)}'" for name in group)
            notes.append(f"classes {listed} differ only in case, spaces or hyphens; --merge {merge} makes one of them")
    return notes


def _in_list(name: str) -> str:
    """Return a class name as it stands in a list of the command line."""
    return f'"{name.replace(chr(34), chr(34) * 2)}"' if "," in name or '"' in name else name


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name)).casefold() or name


def _short(names: Sequence[str]) -> str:
    """Return the first names of a list."""
    rest = f" … ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(printable(name) for name in names[:_LISTED]) + rest


def _color(name: str, index: int, classes: Sequence[ClassInfo], final: Mapping[str, str]) -> tuple[int, int, int]:
    """Return the colour of the class of this name, or else of the first that becomes it."""
    same = [c for c in classes if c.name == name] + [c for c in classes if final[c.name] == name]
    # A colour that was made from the number goes with the new number, so that neighbours differ.
    return same[0].color if same and same[0].color != default_color(same[0].id) else default_color(index)


def _renumbered(item: Item, table: Mapping[int, int]) -> Item:
    if isinstance(item.draw, Drawing):
        shapes = tuple(
            replace(shape, class_id=None if shape.class_id is None else table[shape.class_id])
            for shape in item.draw.shapes
        )
        return replace(item, draw=replace(item.draw, shapes=shapes))
    if all(old == new for old, new in table.items()):
        return item
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[list(table)] = list(table.values())
    return replace(item, draw=_looked_up(item.draw, lookup))


def _looked_up(draw: Draw, lookup: NDArray[np.uint8]) -> Callable[[Size], NDArray[np.uint8]]:
    return lambda size: lookup[draw(size)]
