"""Find the remedy for mask values that stand for no class, from the values of all masks together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from edge_runtime.dataset.detect import two_scales
from edge_runtime.dataset.label_key import IGNORE, VOC_GREYS, LabelKey, fits, stored_values
from edge_runtime.dataset.mask_files import MaskContents
from training.data.dataset import DatasetInfo
from training.data.yaml_text import scalar

_FEW = 16
"""Largest number of different values that may be a value per class, unless they are evenly spaced."""
_SHOWN = 8


def remedy_of_values(masks: Sequence[MaskContents], info: DatasetInfo, key: LabelKey, *, stated: bool) -> str:
    """Return the remedy for unknown values as text for a message; empty if the single mask tells more.

    Args:
        masks: Contents of all masks.
        info: Classes of the dataset.
        key: Meaning of the values.
        stated: Whether ``dataset.yaml`` names the classes; if not, they are inferred.
    """
    known = dict(key.meanings)
    if info.ids is not None and 0 not in known and 0 not in (info.ignore_id, *info.ids):
        zeros = any(0 in mask.counts for mask in masks)
        return f"add 0: {scalar(info.classes[0].name)} to ids in dataset.yaml" if zeros else ""
    if key.encoding == "color" or info.ids is not None:
        return ""
    read = [mask for mask in masks if mask.form == "grey" or fits(mask, key)]
    values = {value for mask in read for value in stored_values(mask, key).values()}
    unknown = values - known.keys()
    names = [c.name for c in info.classes]
    scales = two_scales(masks) if key.encoding != "palette" else None
    if scales is not None and info.ignore_id != 255:
        meanings = dict(enumerate(names)) | {255: names[1] if len(names) == 2 else "CLASS"}
        # Where most masks are black and white, ignoring white would leave them without an object.
        other = "ignore_id: 255 if white counts nowhere" if scales[0] >= scales[1] else "correct the fewer masks"
        return (
            f"{scales[0]} masks hold ids as 1 and {scales[1]} hold white (255) in their place: write {_yaml(names, meanings, stated)} "
            f"to read both, or {other}"
        )
    if len(names) == 2 and len(unknown) == 1 and values - unknown <= {0, 1}:
        value = next(iter(unknown))
        with_one, with_other = (sum(number in mask.counts for mask in masks) for number in (1, value))
        if with_one and not any({1, value} <= mask.counts.keys() for mask in masks):
            return (
                f"{with_one} masks hold 1 and {with_other} hold {value} in its place: write "
                f"{_yaml(names, {0: names[0], 1: names[1], value: names[1]}, stated)} to read both"
            )
    ids = values - {255, info.ignore_id}
    if info.encoding in ("binary", "soft") and values <= set(range(len(names))):
        return f"the masks hold class ids: set mask_encoding: index in dataset.yaml in place of {info.encoding}"
    if stated and 0 not in values and ids and ids <= set(range(1, len(names) + 1)) and len(names) in ids:
        return f"ids seem to start at 1: write {_yaml(names, dict(enumerate(names, 1)), stated)}"
    if stated and unknown == {len(names)} and len(names) in ids:
        from_one = {0: None} | dict(enumerate(names, 1))
        return (
            "add the class or set ignore_id in dataset.yaml, or correct the mask; if 0 is none of the classes, ids start at "
            f"1: write {_yaml(names, from_one, stated)}"
        )
    levels = sorted(values - ({info.ignore_id} if info.ignore_id is not None else set()))
    of_voc = unknown <= VOC_GREYS and unknown != {128}
    if not unknown or of_voc or (values & known.keys()) - {0, 255} or not _is_one_per_class(levels):
        return ""
    return f"say which class each value is: write {_yaml(*_by_level(levels, names, known, stated), stated)}"


def _is_one_per_class(levels: Sequence[int]) -> bool:
    """Tell whether values may be one per class: few, or evenly spaced as when ids were scaled to be seen."""
    steps = {b - a for a, b in pairwise(levels)}
    return len(levels) <= _FEW or (max(steps) - min(steps) <= 1 and min(steps) > 1)


def _by_level(
    levels: Sequence[int], names: list[str], known: Mapping[int, int], stated: bool
) -> tuple[list[str], dict[int, str | None]]:
    """Return class names, and the name for each value: in order if there are as many, else a word to fill in."""
    if not stated:
        names = ["background", *(f"class_{i}" for i in range(1, len(levels)))]
    if len(levels) == len(names):
        return names, dict(zip(levels, names, strict=True))
    ids = [known.get(level, IGNORE) for level in levels]
    return names, {
        level: names[class_id] if class_id < len(names) else "CLASS"
        for level, class_id in zip(levels, ids, strict=True)
    }


def _yaml(names: Collection[str], meanings: Mapping[int, str | None], stated: bool) -> str:
    """Return the lines for dataset.yaml on one line of a message."""
    shown = [f"{value}: {'null' if name is None else scalar(name)}" for value, name in meanings.items()]
    ids = ", ".join(shown[:_SHOWN]) + (", …" if len(shown) > _SHOWN else "")
    listed = ", ".join(map(scalar, list(names)[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
    classes = "" if stated else f"`classes: [{listed}]` and "
    return f"{classes}`ids: {{{ids}}}` in dataset.yaml"
