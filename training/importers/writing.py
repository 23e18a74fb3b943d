"""Write a dataset from a plan: copy images byte for byte and draw masks, completely or not at all.

The decoder rotates an image by its EXIF orientation, so that its mask must fit the rotated image. Most tools show and
annotate the rotated image; some annotate the stored pixels. For a quarter turn the sizes tell which one was annotated.
Otherwise the rotated image is assumed, because that is what a person saw.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import InputError, UsageError
from edge_runtime.headers import exif_orientation, oriented, read_header
from edge_runtime.image import IMAGE_SUFFIXES, decode, encode_png
from edge_runtime.progress import OnProgress
from edge_runtime.storage import new_folder, printable, read_bytes, translated, write_bytes
from training.data.dataset import CONFIG
from training.errors import DataError
from training.importers.errors import ImportProblemsError
from training.importers.files import new_stems
from training.importers.plan import BACKGROUND, ImportSummary, Item, Plan, counted

GROUPS = "groups.csv"
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WebP": ".webp", "TIFF": ".tif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """Result of importing one image; ``file`` is its name in the new dataset, None if it was not written."""

    file: str | None = None
    problem: str | None = None
    left_out: str | None = None
    is_empty: bool = False
    was_turned: bool = False


def write_plan(plan: Plan, src: Path, dst: Path, on_progress: OnProgress) -> ImportSummary:
    """Write a dataset from a plan.

    Args:
        plan: Classes and images to write.
        src: Folder of the source, for messages.
        dst: Folder to write, new or empty.
        on_progress: Called with "importing" and the number of images done and in all.

    Raises:
        ImportProblemsError: The plan, an image or a mask has a problem; nothing is written.
        DataError: There is no image to write.
        UsageError: ``dst`` is not empty.
        StorageError: ``dst`` cannot be written.
    """
    if not plan.items and not plan.problems:
        reason = f": {plan.left_out[0]}" if plan.left_out else ""
        raise DataError(f"{printable(src)} — no image with an annotation{reason} — check that the folder is complete")
    with new_folder(dst, overwrite=dst.exists()) as folder:
        outcomes = _write_images(plan, folder, on_progress)
        problems = [*plan.problems, *(outcome.problem for outcome in outcomes if outcome.problem)]
        if problems:
            raise ImportProblemsError(problems)
        written = [(item, outcome.file) for item, outcome in zip(plan.items, outcomes, strict=True) if outcome.file]
        if not written:
            raise DataError(f"{printable(src)} — every mask is all ignored — expected pixels of a class")
        _write_groups(folder, [(file, item.group) for item, file in written if item.group is not None])
        write_bytes(folder / CONFIG, _config(plan))
        require_free(dst)  # again: an empty folder is replaced, but not if it was filled in the meantime
    images: dict[str, int] = {}
    for item, _ in written:
        images[item.split or "all"] = images.get(item.split or "all", 0) + 1
    empty = sum(o.is_empty for o in outcomes) if plan.classes[0].name == BACKGROUND else 0
    notes = {
        "images without any object: their masks are all background": empty,
        "images are turned by their EXIF orientation, and their masks with them": sum(o.was_turned for o in outcomes),
    }
    return ImportSummary(
        root=dst,
        classes=plan.classes,
        images=images,
        left_out=(*plan.left_out, *(outcome.left_out for outcome in outcomes if outcome.left_out)),
        notes=(*plan.notes, *counted(notes)),
    )


def require_free(dst: Path) -> None:
    """Refuse an output folder that is not empty or is a file.

    Raises:
        UsageError: It is not empty or is a file.
    """
    with translated("read", dst):
        if dst.exists() and not dst.is_dir():
            raise UsageError(f"output folder {printable(dst)} — is a file — choose another name")
        if dst.is_dir() and any(dst.iterdir()):
            raise UsageError(f"output folder {printable(dst)} — is not empty — choose another name or empty it")


def _write_images(plan: Plan, folder: Path, on_progress: OnProgress) -> list[_Outcome]:
    for split in {item.split for item in plan.items}:
        for kind in ("images", "masks"):
            (folder / (split or "") / kind).mkdir(parents=True)
    outcomes: list[_Outcome] = []
    on_progress("importing", 0, len(plan.items))
    failed = Event()
    if plan.problems:
        failed.set()
    pool = ThreadPoolExecutor()  # decoding, encoding and the disk release the interpreter lock
    try:
        stems = new_stems(plan.items)
        for outcome in pool.map(lambda item, stem: _write_item(item, stem, folder, failed), plan.items, stems):
            outcomes.append(outcome)
            on_progress("importing", len(outcomes), len(plan.items))
    finally:
        pool.shutdown(cancel_futures=True)  # or Ctrl-C would wait for the whole dataset
    return outcomes


def _write_item(item: Item, stem: str, folder: Path, failed: Event) -> _Outcome:
    """Write an image and its mask; a problem is returned as text, so that one pass finds all problems.

    Once ``failed`` is set, nothing will be published: the remaining images are checked but not written.
    """
    try:
        where = item.name if isinstance(item.image, bytes) else printable(item.image)
        data = item.image if isinstance(item.image, bytes) else read_bytes(item.image, DataError)
        header, orientation = read_header(data, where), exif_orientation(data)
        shown = decode(data, where).shape[:2]
        fitting = {shown, (header.height_px, header.width_px)} if orientation >= 5 else {shown}
        _require_size(item.size or shown, fitting, shown, where)  # before drawing: a size could fill the memory
        mask = item.draw(item.size or (shown[0], shown[1]))
        _require_size(mask.shape, fitting, shown, where)
        was_turned = mask.shape != shown
        if was_turned:
            mask = oriented(mask, orientation)
    except InputError as error:
        failed.set()
        return _Outcome(problem=str(error))
    if (mask == IGNORE).all():
        return _Outcome(left_out=f"{where} — every pixel of its mask is ignored")
    suffix = Path(item.name).suffix.lower()
    file = stem + (suffix if suffix in IMAGE_SUFFIXES else _SUFFIXES[header.kind])
    place = folder / (item.split or "")
    if failed.is_set():
        return _Outcome()
    write_bytes(place / "images" / file, data, sync_folder=False)  # names are made durable at the end, all at once
    write_bytes(place / "masks" / f"{stem}.png", encode_png(mask, where), sync_folder=False)
    return _Outcome(file=file, was_turned=was_turned, is_empty=not np.any((mask > 0) & (mask < IGNORE)))


def _require_size(
    size: tuple[int, ...], fitting: Collection[tuple[int | None, ...]], shown: tuple[int, ...], where: str
) -> None:
    if size not in fitting:
        raise DataError(
            f"{where} — the image is {shown[1]}x{shown[0]}, its annotation is for {size[1]}x{size[0]} — expected one size "
            "— it was made for another copy of the image"
        )


def _write_groups(folder: Path, groups: list[tuple[str, str]]) -> None:
    if groups:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("file", "group"), *groups])
        write_bytes(folder / GROUPS, text.getvalue().encode("utf-8", "surrogateescape"))


def _config(plan: Plan) -> bytes:
    """Return the content of dataset.yaml, written by a YAML library because class names may need quotes."""
    import yaml

    value = {
        "classes": [c.name for c in plan.classes],
        "ignore_id": IGNORE,
        "mask_encoding": "index",
        "colors": [list(c.color) for c in plan.classes],
    }
    data: bytes = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=None, encoding="utf-8")
    return data
