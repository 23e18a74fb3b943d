"""Name the kinds of problems, and gather the problems of a dataset by kind: worst first, each with one remedy."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.dataset.pairs import Problem
from edge_runtime.storage import printable

SEPARATOR = " — "
"""Text between the parts of a message."""

TITLES = {
    "leak": "images are in two splits",
    "near_duplicate": "images look the same as another",
    "groups": "images have no group",
    "group_leak": "groups are in two splits",
    "video_frames": "names look like frames of videos",
    "too_few": "datasets have too few images to train and to validate on",
    "uncounted_split": "splits have no pixel that counts",
    "one_class": "splits show a single class",
    "missing_mask": "images have no mask",
    "orphan_mask": "masks have no image",
    "duplicate_stem": "files have the name of another, apart from suffix or case",
    "broken_link": "files are links to nowhere",
    "size_mismatch": "masks have another size than their image",
    "exif_mask": "masks have an EXIF orientation",
    "mixed_encoding": "masks have another encoding than the dataset",
    "unknown_id": "masks have values that stand for no class",
    "sixteen_bit_mask": "masks have ids above 255 that stand for no class",
    "lossy_mask": "masks are JPEG or lossy WebP, which changes values at the borders",
    "smeared_mask": "masks have stray values between those of the classes",
    "transparent_mask": "masks have transparent pixels",
    "bad_mask": "masks have samples that are neither ids nor colours",
    "unreadable_file": "files cannot be read",
    "empty_file": "files are empty",
    "damaged_file": "files are damaged or cut off",
    "not_an_image": "files are no images",
    "sixteen_bit_image": "images have more than 8 bits a sample",
    "sample_format": "files have samples of a kind that is not read",
    "too_large": "pictures are too large",
    "too_small": "pictures are too small",
    "empty_split": "splits have no pair",
    "unused_files": "pictures are not used",
    "unread_settings": "settings files are not read",
    "shared_mask": "masks are those of other images",
    "exif_image": "images are turned by their EXIF orientation, and their masks are not",
    "empty_mask": "masks have no pixel that counts",
    "background_only": "masks show the background alone",
    "absent_class": "classes have no pixel in a split",
    "rare_class": "classes are rare",
    "duplicate": "images are in a split twice",
    "blank_image": "images are of one flat colour",
    "alpha_image": "images have an alpha channel, which is dropped",
    "alpha_mask": "masks have an alpha channel",
    "several_pages": "files have several pages",
    "cmyk_image": "images are CMYK JPEGs",
    "wrong_extension": "files have the extension of another format",
}
"""What is wrong with two files or more of a kind, as a phrase that follows their number; of one size, worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Problems of one severity and code, in order.

    Attributes:
        severity: Severity of all of them.
        code: Code of all of them.
        problems: The problems, at least one.
    """

    severity: Literal["error", "warning"]
    code: str
    problems: tuple[Problem, ...]

    @property
    def title(self) -> str:
        """What is wrong, with the number of files: "3 images have no mask"."""
        return f"{len(self.problems):,} {TITLES[self.code]}"

    @property
    def remedy(self) -> str:
        """Remedy of the problems, or of most of them: the last part of their messages."""
        remedies = Counter(problem.message.rpartition(SEPARATOR)[2] for problem in self.problems)
        (remedy, count), *_ = remedies.most_common(1)
        return remedy if len(remedies) == 1 else f"{remedy} (for {count:,} of them)"

    @property
    def heading(self) -> str:
        """What is wrong, without a number."""
        title = TITLES[self.code]
        return title[0].upper() + title[1:]

    def in_short(self, root: Path) -> str:
        """Return one line: the message of the only problem, or the title, the first file and the remedy."""
        if len(self.problems) == 1:
            return self.problems[0].message
        return (
            f"{self.title} (first: {self.examples(root, 1)[0]}; `edge-unet data check --all` lists all) — {self.remedy}"
        )

    def examples(self, root: Path, count: int) -> list[str]:
        """Return the first files, within the dataset, each with its own values: "masks/a.png: 24x20, image 32x32".

        What all messages say stands behind the first file only.
        """
        differ = len({own_values(problem) for problem in self.problems}) > 1
        values = [own_values(p) if differ or p.detail or not i else "" for i, p in enumerate(self.problems[:count])]
        return [
            within(root, f"{printable(problem.file)}: {value}" if value else printable(problem.file))
            for problem, value in zip(self.problems[:count], values, strict=True)
        ]


def by_kind(problems: Iterable[Problem]) -> list[Kind]:
    """Return the problems by kind: errors first, then by number, then in the order of ``TITLES``."""
    found: dict[tuple[Literal["error", "warning"], str], list[Problem]] = defaultdict(list)
    for problem in problems:
        found[problem.severity, problem.code].append(problem)
    order = list(TITLES)
    kinds = [Kind(severity=s, code=code, problems=tuple(members)) for (s, code), members in found.items()]
    return sorted(kinds, key=lambda kind: (kind.severity, -len(kind.problems), order.index(kind.code)))


def within(root: Path, text: str) -> str:
    """Return text with the paths of a dataset's files relative to its folder."""
    return text.replace(f"{printable(root)}{os.sep}", "")


def own_values(problem: Problem) -> str:
    """Return what a problem's message says about its file alone, without place and remedy."""
    place, *rest = problem.message.split(SEPARATOR)
    # A message that begins with the file goes on with what was found; another one begins with both.
    return problem.detail or SEPARATOR.join(rest[:1] if place == printable(problem.file) else rest[:-1])
