"""Find files, copies of pictures and sequences that are in two splits, where metrics would measure memorising."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.pairs import Pair, Problem, Split
from edge_runtime.progress import OnProgress
from edge_runtime.storage import printable
from training.data.check.alike import Comparison, Likeness
from training.data.check.duplicates import Match, near_duplicates
from training.data.check.files import ImageFacts, MaskFacts, problem
from training.data.dataset import Dataset
from training.data.splits import (
    GROUPS_FILE,
    Copy,
    find_groups,
    groups_to_split,
    keep_together,
    leaking_groups,
    suggest_groups,
)
from training.errors import DataError

Facts = Mapping[Pair, tuple[ImageFacts, MaskFacts]]
_OTHERS = 2
"""Number of a picture's matches that are pictures of one place, after which no others are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A pair that looks like an earlier one, and what the two have in common."""

    pair: Pair
    earlier: Pair
    match: Match
    likeness: Likeness

    @property
    def kind(self) -> Literal["copy", "scene", "no object"]:
        """What the two pictures are of each other, see ``Copy``."""
        if self.likeness == "no object":
            return "no object"
        return "copy" if self.match.certain and self.likeness == "copy" else "scene"


def copies(
    dataset: Dataset, facts: Facts, key: LabelKey, *, allowed: bool, on_progress: OnProgress
) -> tuple[list[Problem], tuple[Copy, ...]]:
    """Find pictures that occur more than once in the dataset.

    Across splits, a copy is an error unless it is allowed. Without ``val``, the pictures of ``train`` are compared with
    each other, too, because some of them are held out later.

    Args:
        dataset: Pairs by split.
        facts: Facts about the files of each pair.
        key: Label key of the masks.
        allowed: Report copies across splits as warnings.
        on_progress: Called with "comparing" and the number of pictures done and in all.

    Returns:
        The problems, and all pairs that look the same.
    """
    split_of = {pair: split for split, pairs in dataset.splits.items() for pair in pairs}
    same = _same_files(dataset, facts)
    firsts = [(pair, facts[pair][0]) for pair, *_ in same]
    alike = _compared(_matches(firsts, split_of, on_progress), Comparison(key))
    found = [f for f in alike if f.likeness != "one place"]
    found_copies = [Copy(earlier=pairs[0], later=later, kind="copy") for pairs in same for later in pairs[1:]]
    found_copies += [Copy(earlier=f.earlier, later=f.pair, kind=f.kind) for f in found]
    report = _Report(
        split_of=split_of,
        figures=figures(dataset, found_copies),
        allowed=allowed,
        one_place=len(found) < len(alike),
    )
    likest: dict[Pair, _Found] = {}
    # The most certain match of a picture stays first of those that are copies, and of those that are not.
    for f in sorted(found, key=lambda f: f.kind != "copy"):
        if f.match.certain:
            likest.setdefault(f.pair, f)
    problems = [p for pairs in same for p in report.of_same_files(pairs, facts)]
    problems += [p for f in likest.values() for p in report.of_look_alikes(f)]
    return problems, tuple(found_copies)


def figures(dataset: Dataset, found: Iterable[Copy]) -> dict[tuple[Split, Split], str]:
    """Return, by an earlier and a later split, how many images of the later have a copy in the earlier."""
    split_of = {pair: split for split, pairs in dataset.splits.items() for pair in pairs}
    copied: dict[tuple[Split, Split], set[Pair]] = defaultdict(set)
    for copy in found:
        between = split_of[copy.earlier], split_of[copy.later]
        if copy.kind == "copy" and between[0] != between[1]:
            copied[between].add(copy.later)
    return {
        (earlier, later): f"{len(pairs)} of {len(dataset.splits[later])} {later} images have a copy in {earlier}: the "
        f"{later} mean IoU is too good"
        for (earlier, later), pairs in copied.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """Makes the problems of copies.

    Attributes:
        split_of: Split of each pair.
        figures: What copies in an earlier and a later split mean.
        allowed: Whether copies in two splits are warnings.
        one_place: Whether a camera that does not move took the pictures.
    """

    split_of: Mapping[Pair, Split]
    figures: Mapping[tuple[Split, Split], str]
    allowed: bool
    one_place: bool

    def of_same_files(self, pairs: list[Pair], facts: Facts) -> Iterator[Problem]:
        """Yield the problems of pairs whose images have the same bytes."""
        first, *others = pairs
        by_split: dict[Split, Pair] = {}
        for pair in pairs:
            by_split.setdefault(self.split_of[pair], pair)
        if len(by_split) > 1:
            paths, last = " and ".join(printable(pair.image) for pair in by_split.values()), list(by_split.values())[-1]
            message = f"the same image in {' and '.join(by_split)}: {paths} — {self._across(first, last, 'remove all but one')}"
            yield problem(self._severity, "leak", last.image, message, f"copy of {printable(first.image)}")
        for other in others:
            if self.split_of[other] == self.split_of[first]:
                same = facts[other][1].digest == facts[first][1].digest
                masks = "and the same mask" if same else "with different masks"
                message = f"the same image twice in {self.split_of[first]}, {masks}: {printable(first.image)} and {printable(other.image)} — expected it once — remove one"
                yield problem(
                    "warning", "duplicate", other.image, message, f"copy of {printable(first.image)}, {masks}"
                )

    def of_look_alikes(self, found: _Found) -> Iterator[Problem]:
        """Yield the problem of a picture that looks like an earlier one, if it is one."""
        pair, earlier, match = found.pair, found.earlier, found.match
        split, before = self.split_of[pair], self.split_of[earlier]
        change = f", {match.change}" if match.change else ""
        files = (
            f"in {split if split == before else f'{before} and {split}'}: {printable(earlier.image)} and "
            f"{printable(pair.image)} (correlation {match.correlation:.3f}{change})"
        )
        detail = f"like {printable(earlier.image)}{change}"
        if found.likeness == "copy" and split != before:
            message = f"copies of one picture {files} — {self._across(earlier, pair, 'remove one')}"
            yield problem(self._severity, "near_duplicate", pair.image, message, detail)
        elif found.likeness == "copy":
            message = f"copies of one picture {files} — `train` keeps both on one side of its split — remove one if it adds nothing"
            yield problem("warning", "near_duplicate", pair.image, message, detail)
        elif found.likeness == "other masks":
            message = f"pictures that look the same, with different masks, {files} — expected the same objects — correct one mask, or remove one"
            yield problem("warning", "near_duplicate", pair.image, message, f"{detail}, with a different mask")
        elif split != before and not self.one_place:
            message = f"pictures that look the same, without an object, {files} — right for a camera that does not move — remove one if it is a copy"
            yield problem("warning", "near_duplicate", pair.image, message, f"{detail}, without an object")

    @property
    def _severity(self) -> Literal["error", "warning"]:
        return "warning" if self.allowed else "error"

    def _across(self, earlier: Pair, later: Pair, remedy: str) -> str:
        """Return what copies in two splits mean, and the remedy."""
        figure = self.figures[self.split_of[earlier], self.split_of[later]]
        return f"{figure} — {remedy}{'' if self.allowed else ', or pass --allow-copies'}"


def sequences(dataset: Dataset, pattern: str | None) -> tuple[dict[Pair, str] | None, list[Problem]]:
    """Return the groups of a dataset, if it has any, and warnings about groups that are in two splits.

    Args:
        dataset: Pairs by split.
        pattern: Pattern of ``groups`` in ``dataset.yaml``.
    """
    where = str(dataset.root)
    try:
        groups = find_groups(dataset, pattern)
    except DataError as error:
        return None, [problem("error", "groups", where, str(error))]
    if groups is not None:
        return groups, _of_two_sources(dataset, groups, pattern) + [
            problem(
                "warning",
                "group_leak",
                group,
                f"group '{printable(group)}' — in {' and '.join(splits)} — expected in one split: its images are alike — "
                "move them together",
                f"in {' and '.join(splits)}",
            )
            for group, splits in leaking_groups(dataset, groups).items()
        ]
    suggestion = suggest_groups([pair.stem for pair in dataset.pairs()])
    return None, [] if suggestion is None else _of_videos(dataset, suggestion)


def _of_two_sources(dataset: Dataset, groups: Mapping[Pair, str], pattern: str | None) -> list[Problem]:
    """Warn about a ``groups.csv`` that is not used, because ``dataset.yaml`` has a pattern that gives other groups."""
    path = dataset.root / GROUPS_FILE
    if pattern is None or not path.is_file():
        return []
    try:
        of_file = find_groups(dataset) or {}
    except DataError:
        of_file = {}
    both = {(group, of_file.get(pair)) for pair, group in groups.items()}
    if len(both) == len(set(groups.values())) == len(set(of_file.values())):
        return []  # the same images are together, whatever their groups are called
    message = (
        f"{printable(path)} — other groups than those of groups in dataset.yaml, which are used — expected one of the two — "
        "remove the other"
    )
    return [problem("warning", "unread_settings", path, message)]


def unsplittable(dataset: Dataset, groups: Mapping[Pair, str] | None, found: Sequence[Copy]) -> list[Problem]:
    """Find a dataset that training refuses: nothing to train on, or nothing that it could hold out to validate on.

    That all images are of one group is a warning, because ``train --group-by`` can name other groups.

    Args:
        dataset: Pairs by split.
        groups: Group of each pair, if there are any.
        found: Pairs whose pictures look the same.
    """
    train = dataset.splits.get("train", ())
    if not train:
        filled = " and ".join(f"{split}/" for split, pairs in dataset.splits.items() if pairs)
        message = (
            f"dataset {printable(dataset.root)} — nothing to train on — expected images in train/ — add them beside {filled}, "
            "or rename that folder"
        )
        return [problem("error", "too_few", dataset.root, message)]
    if dataset.splits.get("val"):
        return []
    try:
        groups_to_split(dataset, keep_together(train, groups, found).groups)
    except DataError as error:
        severity: Literal["error", "warning"] = "error" if groups is None or len(train) < 2 else "warning"
        return [problem(severity, "too_few", dataset.root, str(error))]
    return []


def _of_videos(dataset: Dataset, suggestion: str) -> list[Problem]:
    """Warn if names look like video frames, and neighbouring frames are, or would be, on both sides of a split."""
    if sum(bool(pairs) for pairs in dataset.splits.values()) > 1:
        leaking = leaking_groups(dataset, find_groups(dataset, suggestion) or {})
        if not leaking:
            return []
        names = ", ".join(f"'{printable(name)}'" for name in list(leaking)[:3])
        what = f"{len(leaking)} of them ({names}{', …' if len(leaking) > 3 else ''}) are in more than one split"
    else:
        what = "a split by seed puts neighbouring frames on both sides"
    message = (
        f"dataset {printable(dataset.root)} — names look like frames of several videos, and {what}: metrics will flatter — "
        f"set groups: '{suggestion}' in dataset.yaml, and split by video"
    )
    return [problem("warning", "video_frames", dataset.root, message)]


def _same_files(dataset: Dataset, facts: Facts) -> list[list[Pair]]:
    """Return the pairs of each picture, file by file: those whose images have the same bytes are together."""
    places: dict[str, list[Pair]] = defaultdict(list)
    for pair in dataset.pairs():
        digest = facts[pair][0].digest
        if digest is not None:
            places[digest].append(pair)
    return list(places.values())


def _matches(
    firsts: list[tuple[Pair, ImageFacts]], split_of: Mapping[Pair, Split], on_progress: OnProgress
) -> Iterator[tuple[Pair, Pair, Match]]:
    """Yield a pair, an earlier pair, and the match of their pictures: across splits, and within a ``train`` without ``val``."""
    members: dict[Split, list[Pair]] = defaultdict(list)
    thumbs: dict[Split, list[NDArray[np.uint8]]] = defaultdict(list)
    for pair, image in firsts:
        if image.thumbnail is not None:
            members[split_of[pair]].append(pair)
            thumbs[split_of[pair]].append(image.thumbnail)
    before: list[Pair] = []
    known: list[NDArray[np.uint8]] = []
    for split, pairs in members.items():
        if split == "train" and "val" not in members:
            for match in near_duplicates(thumbs[split], scenes=True, on_progress=on_progress):
                yield pairs[match.query], pairs[match.reference], match
        for match in near_duplicates(thumbs[split], known, on_progress=on_progress):
            yield pairs[match.query], before[match.reference], match
        before += pairs
        known += thumbs[split]


def _compared(matches: Iterator[tuple[Pair, Pair, Match]], comparison: Comparison) -> list[_Found]:
    """Return what the two pictures of each match are; of a camera that does not move, not all matches are read."""

    def of_one(candidates: list[tuple[Pair, Pair, Match]]) -> list[_Found]:
        found: list[_Found] = []
        for pair, earlier, match in candidates:
            likeness = comparison.likeness(pair, earlier, match.variant)
            found.append(_Found(pair=pair, earlier=earlier, match=match, likeness=likeness))
            if sum(f.likeness == "one place" for f in found) == _OTHERS:
                break
        return found

    by_pair = [list(candidates) for _, candidates in groupby(matches, key=lambda match: match[0])]
    with ThreadPoolExecutor() as pool:
        return [found for of_pair in pool.map(of_one, by_pair) for found in of_pair]
