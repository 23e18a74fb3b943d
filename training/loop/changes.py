"""Say what has changed between a run and the setup with which it is to go on, and whether its weights still fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.mask_files import unpack_color
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.loop.run_record import DataRecord, RunSetup

RESUMABLE_CHANGES = frozenset({"epochs", "max_minutes", "patience"})
_SHOWN = 5
"""Maximum number of names that a line lists."""
_Pairs: TypeAlias = dict[str, tuple[str, str | None]]
"""Split and digest, None if it is not recorded, of each pair by the path of its image."""


def misfit(before: RunSetup, config: TrainConfig, now: RunSetup) -> str | None:
    """Return why the weights of a run cannot go on with another setup, even if that is forced; None if they can.

    Args:
        before: Setup that the run has recorded.
        config: Configuration with which the run is to go on.
        now: Setup with which the run is to go on.
    """
    then, here = before.contract, now.contract
    if len(then.classes) != len(here.classes):
        return f"a run with {len(then.classes)} classes cannot go on with {len(here.classes)}"
    if then.channels != here.channels:
        kinds = {1: "grey", 3: "colour"}
        return f"a run with {kinds[then.channels]} images cannot go on with {kinds[here.channels]} ones"
    places = {c.name: c.id for c in then.classes}
    moved = next((c for c in here.classes if places.get(c.name, c.id) != c.id), None)
    if moved is not None:
        return f"the output {places[moved.name]} of the network means '{moved.name}' and cannot become {moved.id}"
    for setting in ("preset", "encoder"):
        if before.config.get(setting) != getattr(config, setting):
            return f"the weights are those of {setting} {before.config.get(setting)}"
    if (before.config.get("start_from") is None) != (config.start_from is None):
        return "the network that starts from public weights has no batch normalisation"
    size = before.config["height_px"], before.config["width_px"]
    if size != (config.height_px, config.width_px):
        return f"the best model so far takes {size[0]}x{size[1]} pixels"
    if (before.config.get("accumulate", 1) == 1) != (config.accumulate == 1):
        return "the optimizer's state is that of a run with or without --accumulate"
    return None


def changes(before: RunSetup, config: TrainConfig, now: RunSetup) -> list[str]:
    """Return a line for each setting, each kind of change in the data, and for Keras, if it differs.

    Args:
        before: Setup that the run has recorded.
        config: Configuration with which the run is to go on.
        now: Setup with which the run is to go on.
    """
    lines = [line for line in config.differences(before.config) if line.split(":")[0] not in RESUMABLE_CHANGES]
    in_data = [*_of_classes(before, now), *_of_masks(before, now), *_of_files(before.data, now.data)]
    recorded = before.data.digests is not None
    if not recorded and not in_data and before.data.fingerprint != now.data.fingerprint:
        in_data = [f"data: {before.data.fingerprint[:12]} → {now.data.fingerprint[:12]}"]
    lines += in_data
    if before.versions["keras"] != now.versions["keras"]:
        lines.append(f"keras: {before.versions['keras']} → {now.versions['keras']}")
    return lines


def _of_classes(before: RunSetup, now: RunSetup) -> list[str]:
    then, here = (tuple(c.name for c in setup.contract.classes) for setup in (before, now))
    added, removed = [n for n in here if n not in then], [n for n in then if n not in here]
    lines = []
    if then != here:
        if set(then) == set(here):
            lines.append(f"order of the classes: {_listed(then)} → {_listed(here)}")
        elif len(then) == len(here) and [n in here for n in then] == [n in then for n in here]:
            lines.append(f"classes: renamed {', '.join(f'{a} → {b}' for a, b in zip(removed, added, strict=True))}")
        else:
            parts = [f"{what} {_listed(names)}" for what, names in (("added", added), ("removed", removed)) if names]
            lines.append(f"classes: {' and '.join(parts)}")
    elif before.contract.classes != now.contract.classes:
        lines.append("colours of the classes")
    return lines


def _of_masks(before: RunSetup, now: RunSetup) -> list[str]:
    """Compare how the masks are read: encoding, ignored values, and the class of each other value by its name."""
    lines = []
    if before.data.mask_encoding != now.data.mask_encoding:
        lines.append(f"encoding of the masks: {before.data.mask_encoding} → {now.data.mask_encoding}")
    if before.contract.ignore_id != now.contract.ignore_id:
        ids = ("none" if s.contract.ignore_id is None else s.contract.ignore_id for s in (before, now))
        lines.append(f"ignore_id: {' → '.join(map(str, ids))}")
    if before.data.labels.lossy != now.data.labels.lossy:
        lines.append(
            f"JPEG masks: {' → '.join('accepted' if s.data.labels.lossy else 'refused' for s in (before, now))}"
        )
    if before.data.mask_encoding == now.data.mask_encoding:
        then, here = _meanings(before), _meanings(now)
        names = {c.name for s in (before, now) for c in s.contract.classes}
        common = {c.name for c in before.contract.classes} & {c.name for c in now.contract.classes}
        differing = [
            (value, then.get(value, "unknown"), here.get(value, "unknown"))
            for value in sorted(then.keys() | here.keys())
            if then.get(value) != here.get(value)
            # A class that is new, gone or renamed has its own line.
            and not {then.get(value), here.get(value)} & (names - common)
        ]
        shown = [f"{_value(now, value)} {a} → {b}" for value, a, b in differing[:_SHOWN]]
        if differing:
            lines.append(f"meaning of mask values: {', '.join(shown)}{_more(len(differing))}")
    return lines


def _meanings(setup: RunSetup) -> Mapping[int, str]:
    """Return the name of the class of each stored value, without ``ignore_id``."""
    names = {c.id: c.name for c in setup.contract.classes} | {IGNORE: "ignored"}
    labels = setup.data.labels
    ignored = None if labels.encoding == "color" else setup.contract.ignore_id
    return {value: names[class_id] for value, class_id in labels.meanings if value != ignored}


def _value(setup: RunSetup, value: int) -> str:
    return str(unpack_color(value)) if setup.data.labels.encoding == "color" else str(value)


def _of_files(before: DataRecord, now: DataRecord) -> list[str]:
    then, here = _pairs(before), _pairs(now)
    if before.digests is None:
        here = {image: (split, None) for image, (split, _) in here.items()}
    gone, new = [i for i in then if i not in here], [i for i in here if i not in then]
    old_of = {digest: image for image in gone if (digest := then[image][1])}
    renamed = [image for image in new if here[image][1] in old_of]
    lost = {old_of[digest] for image in renamed if (digest := here[image][1])}
    both = [image for image in here if image in then]
    kinds = {
        "added": [image for image in new if image not in renamed],
        "removed": [image for image in gone if image not in lost],
        "renamed": renamed,
        "changed": [image for image in both if then[image][1] != here[image][1]],
    }
    for image in both:
        a, b = then[image][0], here[image][0]
        if a != b:
            kinds.setdefault(f"moved from {a} to {b}", []).append(image)
    parts = [f"{len(images)} {kind} (first: {printable(images[0])})" for kind, images in kinds.items() if images]
    return [f"pairs: {', '.join(parts)}"] if parts else []


def _pairs(data: DataRecord) -> _Pairs:
    return {
        image: (split, None if data.digests is None else data.digests[split][place])
        for split, pairs in data.splits.items()
        for place, (image, _) in enumerate(pairs)
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names[:_SHOWN]) + _more(len(names))


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""
