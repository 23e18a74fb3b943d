"""Check a dataset in one pass that reads every file once."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.mask_files import MaskContents
from edge_runtime.dataset.pairs import Pair, Problem, split_folders
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable
from training.data.check.balance import absent_classes, background_only, rare_classes
from training.data.check.files import ImageFacts, MaskFacts, problem, scan_image, scan_mask, size
from training.data.check.findings import DatasetReport
from training.data.check.labels import judge_labels, smeared_binary
from training.data.check.leaks import Facts, copies, sequences
from training.data.dataset import Dataset, DatasetInfo, find_dataset, read_info
from training.data.infer import resolve_labels
from training.errors import DataError

_UNPAIRED = ("missing_mask", "orphan_mask")


def check_dataset(
    root: Path,
    *,
    on_progress: OnProgress = silent,
    allow_unpaired: bool = False,
    allow_lossy_mask: bool = False,
    skip_bad: bool = False,
) -> DatasetReport:
    """Read every file of a dataset once and report every problem.

    Args:
        root: Folder of the dataset.
        on_progress: Called with "checking" and the number of pairs done and in all.
        allow_unpaired: Leave out images without a mask and masks without an image, with a warning.
        allow_lossy_mask: Accept JPEG masks, with a warning, if their values can be told apart.
        skip_bad: Leave out pairs whose files are damaged or do not fit each other or the dataset, with a warning.

    Raises:
        InputError: There is no dataset, its ``dataset.yaml`` is wrong, or the classes of its masks' colours are
            unknown.

    Example:
        >>> from training import check_dataset
        >>> report = check_dataset(data)
        >>> report.ok, [problem.message for problem in report.problems if problem.severity == "error"]
        (True, [])
    """
    stated, dataset = read_info(root), find_dataset(root)
    pairs = dataset.pairs()
    if not pairs:
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

    of_pairs, counts = _judge_pairs(facts, masks, key, allow_lossy_mask)
    bad = [pair for pair in pairs if any(p.severity == "error" for p in of_pairs[pair])]
    if skip_bad:
        dataset = dataset.without(bad)
        if not dataset.pairs():
            raise DataError(f"dataset {printable(root)} — every pair is bad — `edge-unet data check` lists why")
    groups, of_sequences = sequences(dataset, info.groups)
    problems = [
        *_as_warnings(dataset.problems, allow_unpaired, lambda p: p.code in _UNPAIRED),
        *_as_warnings((p for pair in pairs for p in of_pairs[pair]), skip_bad, lambda p: True),
        *smeared_binary({p: m for p, m in masks.items() if p in counts}, info, key),
        *copies(dataset, facts),
        *of_sequences,
    ]
    report = DatasetReport(
        dataset=dataset,
        info=info,
        key=key,
        channels=1 if all(image.grey for image, _ in facts.values() if image.digest) else 3,
        counts=counts,
        shapes={pair: image.shape for pair, (image, _) in facts.items() if image.shape is not None},
        forms=Counter(image.form for image, _ in facts.values() if image.form),
        groups=groups,
        fingerprint=_fingerprint(dataset.pairs(), facts, info, key),
        ignored_files=_ignored_files(root),
        quarantined=tuple(bad) if skip_bad else (),
        problems=(),
    )
    problems += background_only(counts, info.classes[0].name)
    problems += absent_classes(info.classes, report.split_pixels()) + rare_classes(info.classes, report.pixels)
    return replace(report, problems=tuple(sorted(problems, key=lambda p: (p.severity, p.file))))


def _scan_pair(pair: Pair) -> tuple[ImageFacts, MaskFacts]:
    return scan_image(pair.image), scan_mask(pair.mask)


def _judge_pairs(
    facts: Facts, masks: Mapping[Pair, MaskContents], key: LabelKey, allow_lossy: bool
) -> tuple[dict[Pair, list[Problem]], dict[Pair, NDArray[np.int64]]]:
    """Return the problems of each pair, and the pixels of each class in each usable mask."""
    problems: dict[Pair, list[Problem]] = {}
    counts: dict[Pair, NDArray[np.int64]] = {}
    for pair, (image, mask) in facts.items():
        found = [*image.problems, *mask.problems]
        fit = _misfits(pair, image, mask)
        found += fit
        if pair in masks and not fit:
            in_mask, of_labels = judge_labels(pair, masks[pair], key, allow_lossy=allow_lossy)
            found += of_labels
            if in_mask is not None:
                counts[pair] = in_mask
        problems[pair] = found
    return problems, counts


def _misfits(pair: Pair, image: ImageFacts, mask: MaskFacts) -> list[Problem]:
    """Compare the size and the EXIF orientation of an image and its mask."""
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
    return [problem("error", "size_mismatch", pair.mask, message)]


def _as_warnings(problems: Iterable[Problem], allowed: bool, which: Callable[[Problem], bool]) -> list[Problem]:
    return [replace(p, severity="warning") if allowed and which(p) else p for p in problems]


def _nothing_pairs(root: Path, dataset: Dataset) -> str:
    images = [p.file for p in dataset.problems if p.code == "missing_mask"]
    masks = [p.file for p in dataset.problems if p.code == "orphan_mask"]
    found = "no image with a mask of the same name"
    if images or masks:
        names = " and ".join(printable(Path(files[0]).name) for files in (images, masks) if files)
        found += f" ({len(images)} images and {len(masks)} masks, as {names})"
    return f"dataset {printable(root)} — {found} — expected images/a.jpg and masks/a.png"


def _ignored_files(root: Path) -> int:
    """Count the files in image and mask folders that are not images, or are hidden."""
    count = 0
    for folder in (split_folders(root) or {"train": root}).values():
        for part in (folder / "images", folder / "masks"):
            if part.is_dir():
                with os.scandir(part) as entries:
                    count += sum(
                        e.name.startswith(".") or Path(e.name).suffix.lower() not in IMAGE_SUFFIXES
                        for e in entries
                        if not e.is_dir()
                    )
    return count


def _fingerprint(pairs: list[Pair], facts: Facts, info: DatasetInfo, key: LabelKey) -> str:
    digest = hashlib.sha256(repr((info.classes, key)).encode())
    for pair in pairs:
        image, mask = facts[pair]
        digest.update(f"{pair.image.name}\0{image.digest}\0{mask.digest}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
