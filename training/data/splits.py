"""Hold out validation images, by seed and fraction or by group; a group and the copies of a picture stay on one side."""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

from edge_runtime.dataset.pairs import Pair, Split, same_name
from edge_runtime.storage import printable, read_bytes
from training.data.dataset import Dataset
from training.errors import DataError

GROUPS_FILE = "groups.csv"
ATTEMPTS = 10
"""Number of random orders of the groups that are tried to get every class on both sides."""
FRAMES = r"^(.+)[_. -][A-Za-z]*\d+$"
"""Pattern of frame names of several videos; the part before the last separator and number is the video."""
LARGEST = 0.5
"""Share of the images above which pictures that look alike are not kept together, because no split would be left."""
LARGEST_WITHOUT_OBJECT = 0.1
"""The same for pictures without an object: more of them are those of a camera that does not move."""
_Node = TypeVar("_Node", Pair, str)
Groups = Mapping[Pair, str]
"""Group of each pair: the sequence, object or patient that it shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Two pairs whose pictures look the same.

    Attributes:
        earlier: The pair that comes first in the dataset.
        later: The other pair.
        kind: "copy" of one picture with the same objects, "scene" that was taken twice or has different masks, or "no
            object": both masks are of one class alone, as may be those of a camera that does not move.
    """

    earlier: Pair
    later: Pair
    kind: Literal["copy", "scene", "no object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Groups of pairs that stay on one side of a split, joined where they have copies of one picture.

    Attributes:
        groups: Group of each pair.
        scenes: Number of pictures that have copies.
        images: Number of images that show these.
        apart: Number of images that look alike and are too many to be kept together.
    """

    groups: Groups
    scenes: int
    images: int
    apart: int

    def in_words(self) -> str:
        """Return what is kept together and what is not, as a phrase; empty if there are no copies."""
        of = "one scene" if self.scenes == 1 else f"{self.scenes:,} scenes"
        kept = f"{self.images:,} near copies of {of} are kept together" if self.images else ""
        apart = f"{self.apart:,} images look alike, too many to keep them together" if self.apart else ""
        return "; ".join(filter(None, [kept, apart]))


def find_groups(dataset: Dataset, pattern: str | None = None) -> dict[Pair, str] | None:
    """Return the group of every pair, by a pattern on the names or from ``groups.csv``; None if there is neither.

    Args:
        dataset: The pairs.
        pattern: Regular expression with one group in brackets, searched for in the stems; used instead of the file.

    Raises:
        DataError: The pattern or the file is wrong, or gives no group for a pair.
    """
    path = dataset.root / GROUPS_FILE
    if pattern is not None:
        groups, source = _by_pattern(dataset.pairs(), pattern), f"pattern '{pattern}'"
    elif path.is_file():
        groups, source = _by_file(dataset, path), printable(path)
    else:
        return None
    missing = [printable(pair.image.name) for pair in dataset.pairs() if pair not in groups]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(
            f"groups from {source} — none for {', '.join(missing[:5])}{more} — expected one for each image — "
            "add what is missing"
        )
    return groups


def keep_together(pairs: Sequence[Pair], groups: Groups | None, copies: Iterable[Copy]) -> Together:
    """Return the groups of some pairs, joined where pictures look the same.

    Groups are not joined if that made one of more than ``LARGEST`` of the images, or of ``LARGEST_WITHOUT_OBJECT``.
    Without groups and copies, each pair is a group of its own, by the name of its stem.

    Args:
        pairs: The pairs that are to be split.
        groups: Group of each pair; None makes each pair a group of its own.
        copies: Pairs whose pictures look the same, others included.
    """
    name_of = {pair: pair.stem if groups is None else groups[pair] for pair in pairs}
    sizes = Counter(name_of.values())
    links = [c for c in copies if c.earlier in name_of and c.later in name_of]
    show_objects = {name_of[c.earlier] for c in links if c.kind != "no object"}
    renamed: dict[str, str] = {}
    for names in _joined((name_of[c.earlier], name_of[c.later]) for c in links):
        largest = LARGEST_WITHOUT_OBJECT if names.isdisjoint(show_objects) else LARGEST
        if len(names) == 1 or sum(sizes[name] for name in names) <= max(2, largest * len(pairs)):
            renamed |= dict.fromkeys(names, min(names))
    scenes = _joined((c.earlier, c.later) for c in links)
    kept = [images for images in scenes if all(name_of[pair] in renamed for pair in images)]
    together = sum(map(len, kept))
    return Together(
        groups={pair: renamed.get(name, name) for pair, name in name_of.items()},
        scenes=len(kept),
        images=together,
        apart=sum(map(len, scenes)) - together,
    )


def groups_to_split(dataset: Dataset, groups: Groups | None) -> dict[Pair, str]:
    """Return the group of each pair of ``train``, if one can be held out; see ``hold_out_by_seed``.

    Raises:
        DataError: There are too few images for two splits, or all are in one group.
    """
    train = dataset.splits.get("train", ())
    if len(train) < 2:
        raise DataError(
            f"dataset {printable(dataset.root)} — {len(train)} pairs to train on — expected at least 2, to hold one out — "
            "add images, or put some into val/"
        )
    name_of = {pair: pair.stem if groups is None else groups[pair] for pair in train}
    if len(names := set(name_of.values())) < 2:
        raise DataError(
            f"dataset {printable(dataset.root)} — all {len(train)} pairs are of group '{printable(*names)}' — expected at "
            "least 2 groups, to hold one out — correct the groups (groups.csv, --group-by) or bring images of another"
        )
    return name_of


def hold_out_by_seed(
    dataset: Dataset,
    fraction: float,
    seed: int,
    *,
    groups: Groups | None = None,
    classes_in: Mapping[Pair, Iterable[int]] | None = None,
) -> Dataset:
    """Return the dataset with a ``val`` split that is held out of ``train`` by seed.

    Groups stay whole, and the number of images is as near to the fraction as they allow. Each class that two groups
    have is on both sides if possible. The same names, seed and fraction give the same split on every machine, for any
    order of the files.

    Args:
        dataset: The pairs.
        fraction: Share of the images of ``train`` to hold out, 0–1.
        seed: Random seed of the split.
        groups: Group of each pair, see ``keep_together``; None makes each pair a group of its own.
        classes_in: Class ids in each pair.

    Raises:
        DataError: There are too few images for two splits, or all are in one group.
    """
    name_of = groups_to_split(dataset, groups)
    train, sizes = dataset.splits["train"], Counter(name_of.values())
    classes: dict[str, set[int]] = defaultdict(set)
    for pair, name in name_of.items():
        classes[name].update((classes_in or {}).get(pair, ()))
    target = min(max(1, round(len(train) * fraction)), len(train) - 1)
    return _held_out(dataset, _choose(sizes, classes, target, seed), name_of)


def hold_out_groups(dataset: Dataset, names: Sequence[str], groups: Groups) -> Dataset:
    """Return the dataset with some groups of ``train`` as its ``val`` split; an existing ``val`` is not used.

    Raises:
        DataError: A group is not in ``train``, or nothing would be left to train on.
    """
    name_of = {pair: groups[pair] for pair in dataset.splits.get("train", ())}
    known = sorted(set(name_of.values()))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected of {', '.join(map(printable, known[:20]))}"
            raise DataError(f"group '{printable(name)}' — not in train — {hint}")
    if set(known) <= set(names):
        raise DataError(f"groups {', '.join(map(printable, names))} — are all of train — expected one to train on")
    return _held_out(dataset, set(names), name_of)


def leaking_groups(dataset: Dataset, groups: Groups) -> dict[str, tuple[Split, ...]]:
    """Return the groups that are in more than one split, with their splits; metrics on them are too good."""
    places: dict[str, set[Split]] = defaultdict(set)
    for split, pairs in dataset.splits.items():
        for pair in pairs:
            places[groups[pair]].add(split)
    order = list(dataset.splits)
    return {g: tuple(sorted(found, key=order.index)) for g, found in sorted(places.items()) if len(found) > 1}


def suggest_groups(stems: Sequence[str]) -> str | None:
    """Return a pattern for ``find_groups`` if names look like frames of several videos, else None.

    A frame's name is the video's name and a number of fixed width, as in ``0001TP_006690.png``; most numbers differ
    from the one before by one or two fixed steps.
    """
    numbers: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        found, number = re.search(FRAMES, stem), re.search(r"\d+$", stem)
        if found is None or number is None:
            return None
        numbers[found[1]].append(number[0])
    if len(numbers) < 2 or len(stems) < 4 * len(numbers):
        return None
    regular = sum(len(found) for found in numbers.values() if _are_frames(found))
    return FRAMES if regular >= 0.8 * len(stems) else None


def _are_frames(numbers: list[str]) -> bool:
    """Tell whether numbers have one width, of three digits or more, and mostly differ by one or two fixed steps."""
    ordered = sorted({int(n) for n in numbers})
    if len({len(n) for n in numbers}) != 1 or len(numbers[0]) < 3 or len(ordered) < 3:
        return False
    steps = Counter(b - a for a, b in pairwise(ordered))
    return sum(n for _, n in steps.most_common(2)) >= 0.7 * steps.total()


def _by_pattern(pairs: Sequence[Pair], pattern: str) -> dict[Pair, str]:
    try:
        expression = re.compile(pattern)
    except re.error as cause:
        raise DataError(f"groups pattern '{pattern}' — {cause} — expected a regular expression") from cause
    if expression.groups != 1:
        raise DataError(
            f"groups pattern '{pattern}' — {expression.groups} groups in brackets — expected one, as '^(.+)_\\d+$'"
        )
    found = {pair: expression.search(pair.stem) for pair in pairs}
    return {pair: match[1] for pair, match in found.items() if match is not None and match[1]}


def _by_file(dataset: Dataset, path: Path) -> dict[Pair, str]:
    """Read ``groups.csv``: one row per file, named by its path in the dataset or in images/, its file name or its stem."""
    where = printable(path)
    try:
        rows = list(csv.reader(read_bytes(path, DataError).decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as cause:
        raise DataError(f"{where} — not a CSV file in UTF-8 ({cause}) — save it again") from cause
    header = [cell.strip() for cell in rows[0]] if rows else []
    if header != ["file", "group"]:
        raise DataError(f"{where} — its first line is {','.join(header)!r} — expected 'file,group'")
    by_name: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(f"{where} — line {number} is {','.join(cells)!r} — expected a file and its group")
        name = _spelled(cells[0])
        if by_name.setdefault(name, cells[1]) != cells[1]:
            raise DataError(
                f"{where} — line {number}: '{cells[0]}' is of '{by_name[name]}' and of '{cells[1]}' — expected one group"
            )
    groups = {}
    alike = {same_name(name): group for name, group in by_name.items()}
    for pair in dataset.pairs():
        place, stem = pair.image.relative_to(dataset.root).as_posix(), pair.stem
        spellings = (place, f"{stem}{pair.image.suffix}", pair.image.name, stem, pair.image.stem)
        names = [_spelled(name) for name in spellings]
        found = next((by_name[name] for name in names if name in by_name), None)
        if found is None:
            found = next((alike[same_name(name)] for name in names if same_name(name) in alike), None)
        if found is not None:
            groups[pair] = found
    return groups


def _spelled(name: str) -> str:
    """Return a file's name in composed Unicode, with ``/`` between folders and not from ``.``, as Windows and find write."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def _joined(links: Iterable[tuple[_Node, _Node]]) -> list[set[_Node]]:
    """Return the sets of what links join, directly or through others."""
    of: dict[_Node, set[_Node]] = {}
    for one, other in links:
        smaller, larger = sorted((of.setdefault(one, {one}), of.setdefault(other, {other})), key=len)
        larger |= smaller
        of.update(dict.fromkeys(smaller, larger))
    return list({id(found): found for found in of.values()}.values())


def _held_out(dataset: Dataset, names: set[str], name_of: Groups) -> Dataset:
    train = dataset.splits["train"]
    splits: dict[Split, tuple[Pair, ...]] = {
        **dataset.splits,
        "train": tuple(pair for pair in train if name_of[pair] not in names),
        "val": tuple(pair for pair in train if name_of[pair] in names),
    }
    return replace(dataset, splits=splits)


def _choose(sizes: Mapping[str, int], classes: Mapping[str, set[int]], target: int, seed: int) -> set[str]:
    """Choose the groups to hold out: first by classes on both sides, then by distance to the target."""
    holders: dict[int, set[str]] = defaultdict(set)
    for name in sizes:
        for class_id in classes[name]:
            holders[class_id].add(name)

    def faults(val: set[str]) -> tuple[int, int]:
        # A class that only one group has belongs in train: learning it matters more than measuring it.
        missing = sum(not names - val or (len(names) > 1 and not names & val) for names in holders.values())
        return missing, abs(sum(sizes[name] for name in val) - target)

    best: set[str] = set()
    for attempt in range(ATTEMPTS):
        # Hashes give the same order of names on every machine and for any order of the files.
        order = sorted(sizes, key=lambda name: _digest(f"{seed}\0{attempt}\0{name}"))
        if attempt < ATTEMPTS - 1:
            val = _nearest_sum(order, sizes, target, least=1, most=sum(sizes.values()) - 1)
        else:
            val = _class_by_class(order, sizes, holders, target)
        best = val if not best else min(best, val, key=faults)
        if not faults(best)[0]:
            break
    return best


def _class_by_class(
    order: list[str], sizes: Mapping[str, int], holders: Mapping[int, set[str]], target: int
) -> set[str]:
    """Choose a group on both sides for each class, the rarest classes first, then fill up to the target."""
    val: set[str] = set()
    train: set[str] = set()
    for _, names in sorted(holders.items(), key=lambda item: (len(item[1]), item[0])):
        if train.isdisjoint(names):
            train.update([name for name in order if name in names and name not in val][-1:])
        if val.isdisjoint(names):
            room = target - sum(sizes[name] for name in val)
            val.update([name for name in order if name in names and name not in train and sizes[name] <= room][:1])
    rest = [name for name in order if name not in val and name not in train]
    held = sum(sizes[name] for name in val)
    most = sum(sizes[name] for name in rest)
    filled = val | _nearest_sum(rest, sizes, target - held, least=int(not val), most=most)
    return filled or {min(order, key=lambda name: sizes[name])}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _nearest_sum(names: list[str], sizes: Mapping[str, int], target: int, *, least: int, most: int) -> set[str]:
    """Choose groups whose sizes add up as near to ``target`` as possible, within limits.

    Bit s of an integer tells whether some of the groups so far add up to s; walking back finds those groups.
    """
    reachable = [1]
    for name in names:
        reachable.append(reachable[-1] | reachable[-1] << sizes[name])
        if least <= target <= most and reachable[-1] >> target & 1:
            break
    sums = (s for s in range(least, most + 1) if reachable[-1] >> s & 1)
    total = min(sums, key=lambda s: (abs(s - target), s), default=0)
    chosen: set[str] = set()
    for i in range(len(reachable) - 1, 0, -1):
        if not reachable[i - 1] >> total & 1:
            chosen.add(names[i - 1])
            total -= sizes[names[i - 1]]
    return chosen
