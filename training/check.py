"""The dataset linter: every problem in one pass, before TensorFlow is loaded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from edge_runtime.image import decode, read_header
from edge_runtime.labels import IGNORE, MaskEncoding, binary_or_index, class_table, decode_mask
from edge_runtime.pairs import Pair, Problem, Split
from edge_runtime.preprocess import Channels
from edge_runtime.storage import printable, read_bytes
from training.dataset import Dataset, DatasetInfo, find_dataset, infer_info, read_info
from training.errors import DataError

MIN_SIDE_PX = 16
"""Smaller pictures hold nothing that a U-Net could find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScan:
    """What reading one pair found.

    Attributes:
        image_digest: SHA-256 of the image file, None if it cannot be read.
        mask_digest: SHA-256 of the mask file, likewise.
        grey: The image has one channel.
        palette: The mask is a palette PNG.
        counts: (256,) pixels of the mask by stored value, None if it cannot be read.
        problems: What is wrong with these two files alone.
    """

    image_digest: str | None
    mask_digest: str | None
    grey: bool
    palette: bool
    counts: NDArray[np.int64] | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReport:
    """The result of a check.

    Attributes:
        dataset: The pairs by split.
        info: Classes and ignore id, from ``dataset.yaml`` or made up from the masks.
        encoding: How the masks are stored.
        channels: 1 when every image is grey, else 3.
        pixels: (classes,) pixels of each class.
        images_with: (classes,) images that have the class.
        fingerprint: SHA-256 over the names and contents of all files.
        problems: Errors first.
    """

    dataset: Dataset
    info: DatasetInfo
    encoding: MaskEncoding
    channels: Channels
    pixels: NDArray[np.int64]
    images_with: NDArray[np.int64]
    fingerprint: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """No problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object, keys as documented for ``data check --json``."""
        total = max(1, int(self.pixels.sum()))
        return {
            "ok": self.ok,
            "images": len(self.dataset.pairs()),
            "splits": {split: len(pairs) for split, pairs in self.dataset.splits.items()},
            "classes": [
                {
                    "id": c.id,
                    "name": c.name,
                    "color": list(c.color),
                    "images": int(self.images_with[c.id]),
                    "pixel_share": float(self.pixels[c.id] / total),
                }
                for c in self.info.classes
            ],
            "ignore_id": self.info.ignore_id,
            "mask_encoding": self.encoding,
            "channels": self.channels,
            "fingerprint": self.fingerprint,
            "problems": [
                {"severity": p.severity, "code": p.code, "file": p.file, "message": p.message} for p in self.problems
            ],
        }

    def require_ok(self) -> None:
        """Raise if there are errors.

        Raises:
            DataError: Names the first and counts the rest.
        """
        errors = [p for p in self.problems if p.severity == "error"]
        if errors:
            rest = f" (and {len(errors) - 1} more: `edge-unet data check` lists all)" if len(errors) > 1 else ""
            raise DataError(f"{errors[0].message}{rest}")


def check_dataset(root: Path, on_pair: Callable[[], None] = lambda: None) -> DatasetReport:
    """Read every file of a dataset once and report everything that is wrong with it.

    Args:
        root: The dataset's folder.
        on_pair: Called after each pair, for a progress bar.

    Raises:
        InputError: There is no dataset, or its ``dataset.yaml`` is wrong, so that nothing else can be judged.
    """
    stated = read_info(root)
    dataset = find_dataset(root)
    pairs = dataset.pairs()
    if not pairs:
        raise DataError(
            f"dataset {printable(root)} — no image with a mask of the same name — expected images/a.jpg and masks/a.png"
        )

    def scan(pair: Pair) -> PairScan:
        result = scan_pair(pair)
        on_pair()
        return result

    with ThreadPoolExecutor() as pool:  # reading, hashing and decoding release the interpreter lock
        scans = list(pool.map(scan, pairs))
    info = stated or infer_info({int(v) for s in scans if s.counts is not None for v in np.flatnonzero(s.counts)})
    encoding = _encoding(info, scans)
    problems = [*dataset.problems, *(problem for s in scans for problem in s.problems)]
    pixels, images_with = np.zeros((2, len(info.classes)), np.int64)
    present: dict[Split, NDArray[np.int64]] = {}
    split_of = {pair.image: split for split, members in dataset.splits.items() for pair in members}
    for pair, s in zip(pairs, scans, strict=True):
        try:
            counts = _class_counts(pair, s, info, encoding)
        except InputError as error:
            problems.append(_error("unknown_id", pair.mask, str(error)))
            continue
        if counts is None:
            continue
        if s.palette != (encoding == "palette"):
            problems.append(_mixed_encoding(pair, s, encoding))
            continue
        pixels += counts
        images_with += counts > 0
        split = split_of[pair.image]
        present[split] = present.get(split, np.zeros(len(info.classes), np.int64)) + counts
    problems += _absent_classes(info, present) + _leaks(dataset, dict(zip(pairs, scans, strict=True)))
    return DatasetReport(
        dataset=dataset,
        info=info,
        encoding=encoding,
        channels=1 if all(s.grey for s in scans if s.image_digest) else 3,
        pixels=pixels,
        images_with=images_with,
        fingerprint=_fingerprint(pairs, scans, info),
        problems=tuple(sorted(problems, key=lambda p: (p.severity, p.file))),
    )


def scan_pair(pair: Pair) -> PairScan:
    """Read and decode both files of a pair and compare their sizes."""
    problems: list[Problem] = []
    image_digest = mask_digest = counts = None
    image_size = stored_size = None
    grey = palette = False
    try:
        data = read_bytes(pair.image, DataError)
        header = read_header(data, printable(pair.image))
        image_size = decode(data, printable(pair.image)).shape[:2]
        image_digest = hashlib.sha256(data).hexdigest()
        grey, stored_size = header.channels in (1, 2), (header.height_px, header.width_px)
        if min(image_size) < MIN_SIDE_PX:
            message = f"{printable(pair.image)} — {_size(image_size)} pixels — expected at least {MIN_SIDE_PX} a side — remove it"
            problems.append(_error("too_small", pair.image, message))
    except InputError as error:
        problems.append(_error("bad_image", pair.image, str(error)))
    try:
        data = read_bytes(pair.mask, DataError)
        values, palette = decode_mask(data, printable(pair.mask))
        mask_digest = hashlib.sha256(data).hexdigest()
        if image_size and image_size != values.shape:
            problems.append(_size_mismatch(pair, image_size, values.shape, rotated=stored_size == values.shape))
        else:
            counts = np.bincount(values.reshape(-1), minlength=256)
    except InputError as error:
        problems.append(_error("bad_mask", pair.mask, str(error)))
    return PairScan(
        image_digest=image_digest,
        mask_digest=mask_digest,
        grey=grey,
        palette=palette,
        counts=counts,
        problems=tuple(problems),
    )


def _encoding(info: DatasetInfo, scans: list[PairScan]) -> MaskEncoding:
    """Return the stated encoding, or the one that most masks have."""
    if info.encoding != "auto":
        return info.encoding
    readable = [s for s in scans if s.counts is not None]
    if 2 * sum(s.palette for s in readable) > len(readable):
        return "palette"
    total = sum((s.counts for s in readable if s.counts is not None), np.zeros(256, np.int64))
    return binary_or_index(total, len(info.classes), info.ignore_id)


def _class_counts(pair: Pair, scan: PairScan, info: DatasetInfo, encoding: MaskEncoding) -> NDArray[np.int64] | None:
    """Return (classes,) pixels of each class in a mask, None if it could not be read."""
    if scan.counts is None:
        return None
    table = class_table(scan.counts, encoding, len(info.classes), info.ignore_id, printable(pair.mask))
    by_id = np.bincount(table, weights=scan.counts, minlength=IGNORE + 1)
    return by_id[: len(info.classes)].astype(np.int64)


def _absent_classes(info: DatasetInfo, present: dict[Split, NDArray[np.int64]]) -> list[Problem]:
    """Warn of classes that a split has no pixel of: nothing can be learnt or measured about them there."""
    return [
        Problem(
            severity="warning",
            code="absent_class",
            file=split,
            message=f"split {split} — no pixel of class '{c.name}' — expected some — add images that show it",
        )
        for split, counts in present.items()
        if split != "test"
        for c in info.classes
        if not counts[c.id]
    ]


def _leaks(dataset: Dataset, scans: dict[Pair, PairScan]) -> list[Problem]:
    """Find images that stand, byte for byte, in more than one split: metrics on them would flatter."""
    places: dict[str, dict[Split, Path]] = defaultdict(dict)
    for split, pairs in dataset.splits.items():
        for pair in pairs:
            digest = scans[pair].image_digest
            if digest is not None:
                places[digest].setdefault(split, pair.image)
    problems = []
    for by_split in places.values():
        if len(by_split) > 1:
            paths = " and ".join(printable(path) for path in by_split.values())
            message = (
                f"the same image in {' and '.join(by_split)}: {paths} — expected it in one split — remove all but one"
            )
            problems.append(_error("leak", list(by_split.values())[-1], message))
    return problems


def _fingerprint(pairs: list[Pair], scans: list[PairScan], info: DatasetInfo) -> str:
    digest = hashlib.sha256(repr((info.classes, info.ignore_id)).encode())
    for pair, scan in zip(pairs, scans, strict=True):
        digest.update(
            f"{pair.image.name}\0{scan.image_digest}\0{scan.mask_digest}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def _mixed_encoding(pair: Pair, scan: PairScan, encoding: MaskEncoding) -> Problem:
    found = "a palette PNG" if scan.palette else "no palette PNG"
    message = (
        f"{printable(pair.mask)} — {found} — expected '{encoding}' as most masks of this dataset: the same number may "
        "mean another class — save it as the others are, or set mask_encoding in dataset.yaml"
    )
    return _error("mixed_encoding", pair.mask, message)


def _size_mismatch(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...], *, rotated: bool) -> Problem:
    hint = "make them the same size"
    if rotated:
        hint = (
            "the image is rotated by its EXIF orientation and the mask is not: rotate the mask, or strip the EXIF tag"
        )
    elif image == mask[::-1]:
        hint = "they are transposed: rotate one of them"
    message = (
        f"{printable(pair.mask)} — mask is {_size(mask)}, image {printable(pair.image)} is {_size(image)} — {hint}"
    )
    return _error("size_mismatch", pair.mask, message)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _error(code: str, file: Path, message: str) -> Problem:
    return Problem(severity="error", code=code, file=str(file), message=message)
