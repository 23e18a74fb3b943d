"""Find the beginning or ending that all names of one folder have more than those of another: ``a`` and ``a_mask``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_SEPARATORS = "_-. "
_SAMPLE = 200
"""Number of names that are tried; all of a folder have the same affix."""
_MASK_WORDS = frozenset(
    {
        *(
            "mask",
            "masks",
            "matte",
            "alpha",
            "label",
            "labels",
            "labelled",
            "labeled",
            "labelids",
            "labeltrainids",
            "l",
        ),
        *("gt", "gts", "truth", "groundtruth", "target", "manual", "annotation", "annotations", "annot", "ann"),
        *("seg", "segs", "segmentation", "segmentations"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affix:
    """Text that all stems of a folder begin and end with; one of the two is empty."""

    before: str = ""
    after: str = ""

    def __bool__(self) -> bool:
        """Tell whether there is any text."""
        return bool(self.before or self.after)

    def __str__(self) -> str:
        """Return the names as a pattern, such as ``*_mask``."""
        return f"{self.before}*{self.after}"

    def off(self, key: str) -> str:
        """Return a name below a folder without the affix of its last part."""
        folder, slash, stem = key.rpartition("/")
        return folder + slash + stem[len(self.before) : len(stem) - len(self.after)]

    def says_mask(self) -> bool:
        """Tell whether a word of it means a mask."""
        return not _MASK_WORDS.isdisjoint(re.findall("[a-z]+", self.before + self.after))


def common_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affix, Affix] | None:
    """Return the affix of the images' and of the masks' names without which most of them pair; None if there is none.

    The names of one side are usually plain. If both sides have an affix, as in ``image_1`` and ``mask_1``, that of the
    masks must say so, because the frames of two cameras look the same way.

    Args:
        images: Names below the folder of the images, without suffix and case.
        masks: Names below the folder of the masks, without suffix and case.
    """
    sample = sorted(masks)[:_SAMPLE]
    of_masks = list(_affixes([key.rpartition("/")[2] for key in masks]))
    best, most = None, 0
    for of_image in _affixes([key.rpartition("/")[2] for key in images]):
        names = {of_image.off(key) for key in images}
        for of_mask in of_masks:
            if of_image and of_mask and not of_mask.says_mask():
                continue
            found = sum(of_mask.off(key) in names for key in sample)
            if found > most:
                best, most = (of_image, of_mask), found
    return best if best is not None and 2 * most >= min(len(sample), len(images)) else None


def parts_of_name(name: str) -> Iterator[str]:
    """Yield what is left of a name without a beginning or an ending, cut at separators."""
    for place, character in enumerate(name):
        if character in _SEPARATORS:
            yield name[:place]
            yield name[place + 1 :]


def _affixes(stems: Sequence[str]) -> Iterator[Affix]:
    """Yield the affixes that all stems share, the empty one first, then the shortest endings and beginnings."""
    yield Affix()
    yield from (Affix(after=ending) for ending in _endings(stems))
    yield from (Affix(before=ending[::-1]) for ending in _endings([stem[::-1] for stem in stems]))


def _endings(stems: Sequence[str]) -> Iterator[str]:
    """Yield the common endings that have a letter, begin at a separator or a change from digit, and leave a name."""
    for length in range(1, min(map(len, stems))):
        ending = stems[0][-length:]
        if not all(stem.endswith(ending) for stem in stems):
            return
        left = [stem[:-length] for stem in stems]
        is_cut = ending[0] in _SEPARATORS or not any(name[-1].isalpha() for name in left)
        if is_cut and any(character.isalpha() for character in ending):
            yield ending
