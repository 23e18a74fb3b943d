"""Find files, copies of pictures and sequences that are in two splits, where metrics would measure memorising."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from edge_runtime.dataset.pairs import Pair, Problem, Split
from edge_runtime.storage import printable
from training.data.check.duplicates import Match, near_duplicates
from training.data.check.files import ImageFacts, MaskFacts, problem
from training.data.dataset import Dataset
from training.data.splits import find_groups, leaking_groups, suggest_groups
from training.errors import DataError

Facts = Mapping[Pair, tuple[ImageFacts, MaskFacts]]


def copies(dataset: Dataset, facts: Facts) -> list[Problem]:
    """Find pictures that occur more than once in the dataset: an error across splits, a warning within one split.

    In a dataset of one split all pictures are compared, because a later split may put copies on both sides.
    """
    split_of = {pair: split for split, pairs in dataset.splits.items() for pair in pairs}
    found, firsts = _same_files(dataset, facts, split_of)
    for one, other, match in _matches(firsts, split_of):
        change = f", {match.change}" if match.change else ""
        across = split_of[one] != split_of[other]
        splits = f"{split_of[other]} and {split_of[one]}" if across else split_of[one]
        message = (
            f"copies of one picture in {splits}: {printable(other.image)} and {printable(one.image)} (correlation "
            f"{match.correlation:.3f}{change}) — expected it in one split — remove one of them"
        )
        found.append(problem("error" if across else "warning", "near_duplicate", one.image, message))
    return found


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
        return groups, [
            problem(
                "warning",
                "group_leak",
                group,
                f"group '{printable(group)}' — in {' and '.join(splits)} — expected in one split: its images are alike — "
                "move them together",
            )
            for group, splits in leaking_groups(dataset, groups).items()
        ]
    suggestion = suggest_groups([pair.stem for pair in dataset.pairs()])
    return None, [] if suggestion is None else _of_videos(dataset, suggestion)


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


def _same_files(
    dataset: Dataset, facts: Facts, split_of: Mapping[Pair, Split]
) -> tuple[list[Problem], list[tuple[Pair, ImageFacts]]]:
    """Return the problems of files with the same bytes, and the first pair of each picture."""
    places: dict[str, list[Pair]] = defaultdict(list)
    for pair in dataset.pairs():
        digest = facts[pair][0].digest
        if digest is not None:
            places[digest].append(pair)
    found = []
    for first, *others in places.values():
        by_split = {split_of[p]: p for p in reversed([first, *others])}
        if len(by_split) > 1:
            in_order = [by_split[split] for split in dataset.splits if split in by_split]
            paths = " and ".join(printable(p.image) for p in in_order)
            message = f"the same image in {' and '.join(split_of[p] for p in in_order)}: {paths} — expected it in one split — remove all but one"
            found.append(problem("error", "leak", in_order[-1].image, message))
        for other in others:
            if split_of[other] == split_of[first]:
                same = facts[other][1].digest == facts[first][1].digest
                masks = "and the same mask" if same else "with different masks"
                message = f"the same image twice in {split_of[first]}, {masks}: {printable(first.image)} and {printable(other.image)} — expected it once — remove one"
                found.append(problem("warning", "duplicate", other.image, message))
    return found, [(first, facts[first][0]) for first, *_ in places.values()]


def _matches(
    firsts: list[tuple[Pair, ImageFacts]], split_of: Mapping[Pair, Split]
) -> Iterator[tuple[Pair, Pair, Match]]:
    """Yield a pair, an earlier pair, and the match of their pictures: across splits, or within the only split."""
    by_split: dict[Split, list[tuple[Pair, ImageFacts]]] = defaultdict(list)
    for pair, image in firsts:
        by_split[split_of[pair]].append((pair, image))
    members = list(by_split.values())
    thumbs = [[image.thumbnail for _, image in pairs if image.thumbnail is not None] for pairs in members]
    if len(members) == 1:
        for match in near_duplicates(thumbs[0]):
            yield members[0][match.query][0], members[0][match.reference][0], match
    for later in range(1, len(members)):
        before = [pair for pairs in members[:later] for pair in pairs]
        for match in near_duplicates(thumbs[later], [thumb for part in thumbs[:later] for thumb in part]):
            yield members[later][match.query][0], before[match.reference][0], match
