"""Check a dataset in one pass that reads every file once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.layout import describe
from edge_runtime.dataset.mask_files import MaskContents
from edge_runtime.dataset.pairs import BROKEN_LINK, UNPAIRED, Pair, Problem
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable
from training.data.check.balance import absent_classes, background_only, one_class, rare_classes, uncounted_splits
from training.data.check.files import ImageFacts, MaskFacts, problem, scan_image, scan_mask, size
from training.data.check.findings import DatasetReport
from training.data.check.labels import judge_labels, shared_masks, smeared_binary
from training.data.check.leaks import Facts, copies, sequences, unsplittable
from training.data.check.remedies import remedy_of_values
from training.data.check.unused import ignored_files, unused_files
from training.data.dataset import Dataset, DatasetInfo, find_dataset
from training.data.infer import resolve_labels
from training.data.settings import read_info
from training.errors import DataError


def check_dataset(
    root: str | Path,
    *,
    on_progress: OnProgress = silent,
    allow_unpaired: bool = False,
    allow_lossy_mask: bool = False,
    skip_bad: bool = False,
    empty_without_mask: bool = False,
    allow_copies: bool = False,
) -> DatasetReport:
    """Read every file of a dataset once and report every problem.

    Args:
        root: Folder of the dataset.
        on_progress: Called with "checking", then "comparing", and the number of pairs done and in all.
        allow_unpaired: Leave out images without a mask and masks without an image, with a warning.
        allow_lossy_mask: Accept JPEG masks, with a warning, if their values can be told apart.
        skip_bad: Leave out pairs whose files are damaged or do not fit each other or the dataset, with a warning.
        empty_without_mask: Take images that have no mask as all background; ``dataset.yaml`` may say so, too.
        allow_copies: Accept pictures that are in two splits, with a warning.

    Raises:
        InputError: There is no dataset, its ``dataset.yaml`` is wrong, or the classes of its masks' colours are
            unknown.

    Example:
        >>> from training import check_dataset
        >>> report = check_dataset(data)
        >>> report.ok, [problem.message for problem in report.problems if problem.severity == "error"]
        (True, [])
    """
    root = Path(root)
    stated = read_info(root)
    are_empty = empty_without_mask or (stated is not None and stated.empty_without_mask)
    dataset = find_dataset(root, empty_without_mask=are_empty)
    pairs = dataset.pairs()
    if all(pair.mask is None for pair in pairs):
        raise DataError(_nothing_pairs(root, dataset))
    facts: dict[Pair, tuple[ImageFacts, MaskFacts]] = {}
    on_progress("checking", 0, len(pairs))
    with ThreadPoolExecutor() as pool:  # reading, hashing and decoding release the interpreter lock
        for pair, found in zip(pairs, pool.map(_scan_pair, pairs), strict=True):
            facts[pair] = found
            on_progress("checking", len(facts), len(pairs))
    masks = {pair: mask.contents for pair, (_, mask) in facts.items() if mask.contents is not None}
    # Lossy masks would make a black and white dataset look soft.
    exact = [m for m in masks.values() if not m.lossy] or list(masks.values())
    info, key = resolve_labels(stated, exact, lossy=allow_lossy_mask)

    remedy = remedy_of_values(exact, info, key, stated=stated is not None)
    of_pairs, counts = _judge_pairs(facts, masks, key, allow_lossy_mask, remedy)
    bad = [pair for pair in pairs if any(p.severity == "error" for p in of_pairs[pair])]
    if skip_bad:
        dataset = dataset.without(bad)
        if not dataset.pairs():
            raise DataError(f"dataset {printable(root)} — every pair is bad — `edge-unet data check` lists why")
    tolerated = (*(UNPAIRED if allow_unpaired else ()), *([BROKEN_LINK] if skip_bad else []))
    groups, of_sequences = sequences(dataset, info.groups)
    of_copies, links = copies(dataset, facts, key, allowed=allow_copies, on_progress=on_progress)
    problems = [
        *_as_warnings(dataset.problems, lambda p: p.code in tolerated),
        *_as_warnings((p for pair in pairs for p in of_pairs[pair]), lambda p: skip_bad),
        *smeared_binary({p: m for p, m in masks.items() if p in counts}, info, key),
        *shared_masks(facts, counts),
        *of_copies,
        *of_sequences,
        *unsplittable(dataset, groups, links),
        *unused_files(dataset),
    ]
    report = DatasetReport(
        dataset=dataset,
        info=info,
        key=key,
        channels=1 if all(image.grey for image, _ in facts.values() if image.digest) else 3,
        counts=counts,
        shapes={pair: image.shape for pair, (image, _) in facts.items() if image.shape is not None},
        digests={pair: (i.digest, m.digest or "") for pair, (i, m) in facts.items() if i.digest},
        forms=Counter(image.form for image, _ in facts.values() if image.form),
        groups=groups,
        copies=links,
        fingerprint=_fingerprint(dataset.pairs(), facts, info, key),
        ignored_files=ignored_files(dataset),
        quarantined=tuple(bad) if skip_bad else (),
        problems=(),
    )
    problems += background_only(counts, info.classes[0].name)
    problems += uncounted_splits(report.split_pixels())
    problems += one_class(info.classes, report.split_pixels())
    problems += absent_classes(info.classes, report.split_pixels()) + rare_classes(info.classes, report.pixels)
    return replace(report, problems=tuple(sorted(problems, key=lambda p: (p.severity, p.file))))


def _scan_pair(pair: Pair) -> tuple[ImageFacts, MaskFacts]:
    return scan_image(pair.image), MaskFacts() if pair.mask is None else scan_mask(pair.mask)


def _judge_pairs(
    facts: Facts, masks: Mapping[Pair, MaskContents], key: LabelKey, allow_lossy: bool, remedy: str
) -> tuple[dict[Pair, list[Problem]], dict[Pair, NDArray[np.int64]]]:
    """Return the problems of each pair, and the pixels of each class in each usable mask."""
    problems: dict[Pair, list[Problem]] = {}
    counts: dict[Pair, NDArray[np.int64]] = {}
    for pair, (image, mask) in facts.items():
        found = [*image.problems, *mask.problems]
        fit = _misfits(pair, image, mask)
        found += fit
        if pair in masks and not fit:
            in_mask, of_labels = judge_labels(
                pair.mask or pair.image, masks[pair], key, allow_lossy=allow_lossy, remedy=remedy
            )
            found += of_labels
            if in_mask is not None:
                counts[pair] = in_mask
        elif pair.mask is None and image.shape is not None:
            counts[pair] = np.zeros(key.classes, np.int64)
            counts[pair][0] = image.shape[0] * image.shape[1]
        problems[pair] = found
    return problems, counts


def _misfits(pair: Pair, image: ImageFacts, mask: MaskFacts) -> list[Problem]:
    """Compare the size and the EXIF orientation of an image and its mask."""
    if pair.mask is None:
        return []
    where = printable(pair.mask)
    if mask.orientation != 1:
        message = (
            f"{where} — has EXIF orientation {mask.orientation}, its image {image.orientation} — masks are read as stored — "
            "turn its pixels as the image is shown, and strip the tag"
        )
        return [problem("error", "exif_mask", pair.mask, message)]
    if image.shape is None or mask.shape is None:
        return []
    if image.shape == mask.shape:
        if image.orientation == 1:
            return []
        message = (
            f"{printable(pair.image)} — has EXIF orientation {image.orientation}: it is turned as it is shown, and its mask is "
            "not — make sure that the mask was drawn on the image as shown (`edge-unet data preview`), or strip the tag"
        )
        return (
            []
            if image.orientation >= 5 and image.stored_shape != image.shape
            else [problem("warning", "exif_image", pair.image, message)]
        )
    hint = "make them the same size"
    if image.stored_shape == mask.shape and image.orientation >= 5:
        hint = (
            "the image is rotated by its EXIF orientation and the mask is not: rotate the mask, or strip the EXIF tag"
        )
    elif image.shape == mask.shape[::-1]:
        hint = "they are transposed: rotate one of them"
    message = f"{where} — mask is {size(mask.shape)}, image {printable(pair.image)} is {size(image.shape)} — {hint}"
    return [problem("error", "size_mismatch", pair.mask, message, f"{size(mask.shape)}, image {size(image.shape)}")]


def _as_warnings(problems: Iterable[Problem], which: Callable[[Problem], bool]) -> list[Problem]:
    return [replace(p, severity="warning") if which(p) else p for p in problems]


def _nothing_pairs(root: Path, dataset: Dataset) -> str:
    """Return the message for a dataset without a mask that fits an image: how many there are, and the first problem."""
    counts = Counter(p.code for p in dataset.problems)
    images, masks = counts["missing_mask"] + len(dataset.pairs()), counts["orphan_mask"]
    found = "no image with a mask of the same name"
    if images or masks or counts["broken_link"]:
        found += f" ({images} images and {masks} masks)"
    missing = [printable(f.masks) for f in dataset.layout.folders.values() if not f.masks.is_dir()]
    if missing:
        found += f", no {missing[0]}/"
    if missing or dataset.unread:
        found += f", but {describe(root)}"
    if not dataset.problems:
        return f"dataset {printable(root)} — {found} — expected images/a.jpg and masks/a.png"
    first = next((p for p in dataset.problems if p.code == "missing_mask"), dataset.problems[0])
    return f"dataset {printable(root)} — {found} — {first.message}"


def _fingerprint(pairs: list[Pair], facts: Facts, info: DatasetInfo, key: LabelKey) -> str:
    digest = hashlib.sha256(repr((info.classes, key)).encode())
    for pair in pairs:
        image, mask = facts[pair]
        digest.update(f"{pair.image.name}\0{image.digest}\0{mask.digest}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
