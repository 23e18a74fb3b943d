"""Write a dataset from a plan: copy images byte for byte and draw masks, completely or not at all.

The decoder rotates an image by its EXIF orientation, so that its mask must fit the rotated image. Most tools show and
annotate the rotated image; some annotate the stored pixels. For a quarter turn the sizes tell which one was annotated,
and the shapes, if they reach out of the size that is stated. Otherwise the rotated image is assumed, because that is
what a person saw.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Literal, TypeAlias

import numpy as np

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import InputError, UsageError
from edge_runtime.headers import IMAGE_SUFFIXES, exif_orientation, oriented, read_header, suffixes_of
from edge_runtime.image import decode, encode_png
from edge_runtime.progress import OnProgress
from edge_runtime.storage import new_folder, printable, read_bytes, translated, write_bytes
from training.data.dataset import CONFIG
from training.errors import DataError
from training.importers.errors import ImportProblemsError
from training.importers.files import new_stems
from training.importers.painting import Drawing, Painted, paint
from training.importers.plan import BACKGROUND, ImportSummary, Item, Plan, Tally
from training.importers.shapes import Size

GROUPS = "groups.csv"
_NO_MASK = np.zeros((0, 0), np.uint8)
_Way: TypeAlias = Literal["stated", "other", "either"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """Result of importing one image.

    Attributes:
        file: Name in the new dataset; None if the image was not written.
        problems: Faults of the image, or of shapes that were not painted.
        left_out: Why an image without a fault was not written.
        painted: Its painted shapes, without the mask; None if its mask is a file.
        is_empty: Whether its mask is all background.
        has_no_object: Whether its mask is background and ignored pixels alone.
        was_turned: Whether its mask was turned by the image's EXIF orientation.
        way: Which way round its shapes say that the image was annotated: "stated" by its size, "other", or "either".
    """

    file: str | None = None
    problems: tuple[str, ...] = ()
    left_out: str | None = None
    painted: Painted | None = None
    is_empty: bool = False
    has_no_object: bool = False
    was_turned: bool = False
    way: _Way | None = None


def write_plan(plan: Plan, src: Path, dst: Path, on_progress: OnProgress, *, skip_bad: bool = False) -> ImportSummary:
    """Write a dataset from a plan.

    Args:
        plan: Classes and images to write.
        src: Folder of the source, for messages.
        dst: Folder to write, new or empty.
        on_progress: Called with "importing" and the number of images done and in all.
        skip_bad: Leave out faulty files and shapes.

    Raises:
        ImportProblemsError: The plan, an image, a shape or a mask has a problem; nothing is written.
        DataError: There is no image to write, or most shapes lie outside their images.
        UsageError: ``dst`` is not empty.
        StorageError: ``dst`` cannot be written.
    """
    if not plan.items and (skip_bad or not plan.problems):
        reason = next((f": {line}" for line in (*plan.left_out, *plan.problems)), "")
        raise DataError(f"{printable(src)} — no image with an annotation{reason} — check that the folder is complete")
    _require_splits(plan.items, src)
    with new_folder(dst, overwrite=dst.exists()) as folder:
        outcomes = _write_images(plan, folder, on_progress, skip_bad)
        problems = [*plan.problems, *(problem for outcome in outcomes for problem in outcome.problems)]
        if problems and not skip_bad:
            raise ImportProblemsError(problems)
        written = [(item, outcome.file) for item, outcome in zip(plan.items, outcomes, strict=True) if outcome.file]
        left_out = (*plan.left_out, *(outcome.left_out for outcome in outcomes if outcome.left_out), *problems)
        if not written and problems:
            raise DataError(f"{printable(src)} — every image has a problem: {problems[0]} — correct one of them")
        if not written:
            raise DataError(f"{printable(src)} — every mask is all ignored — expected pixels of a class")
        of_shapes = _notes_of_shapes(plan, [o.painted for o in outcomes if o.painted], src, skip_bad)
        _write_groups(folder, [(file, item.group) for item, file in written if item.group is not None])
        write_bytes(folder / CONFIG, _config(plan))
        require_free(dst)  # again: an empty folder is replaced, but not if it was filled in the meantime
    images: dict[str, int] = {}
    for item, _ in written:
        images[item.split or "all"] = images.get(item.split or "all", 0) + 1
    notes = Tally()
    notes.add("faulty files and shapes are left out", count=len(problems))
    if plan.classes[0].name == BACKGROUND:
        notes.add("images without any object: their masks are all background", count=sum(o.is_empty for o in outcomes))
        notes.add(
            "images without any object: their masks are background and ignored pixels",
            count=sum(o.has_no_object for o in outcomes),
        )
    notes.add(
        "images are turned by their EXIF orientation, and their masks with them",
        count=sum(o.was_turned for o in outcomes),
    )
    has_evidence = any(outcome.way in ("stated", "other") for outcome in outcomes)
    for item, outcome in zip(plan.items, outcomes, strict=True):
        if outcome.way == "other":
            notes.add(
                "images are annotated the other way round than their stated size, as their shapes show", item.name
            )
        elif outcome.way == "either" and outcome.was_turned and not has_evidence:
            notes.add("of the turned images may be annotated either way round: their stated size decides", item.name)
    return ImportSummary(
        root=dst,
        classes=plan.classes,
        images=images,
        left_out=left_out,
        notes=(*plan.notes, *of_shapes, *notes.lines()),
    )


def _require_splits(items: Sequence[Item], src: Path) -> None:
    without = [item for item in items if item.split is None]
    if without and len(without) < len(items):
        raise DataError(
            f"{printable(src)} — {len(without)} of {len(items)} images are in no split, the first {printable(without[0].name)} "
            "— expected train, val or test for each of them, or for none — name it where the others do"
        )


def _notes_of_shapes(plan: Plan, painted: Sequence[Painted], src: Path, skip_bad: bool) -> tuple[str, ...]:
    """Return the lines on shapes that cover nothing or lie outside their image.

    Raises:
        DataError: They are more than the others.
    """
    undrawn, misplaced, overlaps = Tally(), Tally(), Tally()
    for one in painted:
        for kind, where in one.without_area:
            undrawn.add(f"{kind} shapes without an area: not drawn", where)
        for finding, where in one.misplaced:
            misplaced.add(finding, where)
        for where, count in one.overlaps:
            overlaps.add("pixels are in several masks: the later one is on top", where, count=count)
    without_area = (*plan.undrawn, *undrawn.lines())
    shapes = sum(one.shapes for one in painted)
    if not shapes and without_area and len(painted) == len(plan.items):
        raise DataError(
            f"{printable(src)} — no shape with an area: {'; '.join(without_area)} — expected polygons, masks or other "
            "shapes that can be filled"
        )
    count = sum(len(one.misplaced) for one in painted)
    if 2 * count > shapes and not skip_bad:
        raise DataError(
            f"{printable(src)} — {count} of {shapes} shapes cover nothing: {'; '.join(misplaced.lines())} — expected "
            "coordinates in pixels of these images, not of larger copies and not shares of 1 — --skip-bad imports them as "
            "they are"
        )
    return (*without_area, *misplaced.lines(), *overlaps.lines())


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


def _write_images(plan: Plan, folder: Path, on_progress: OnProgress, skip_bad: bool) -> list[_Outcome]:
    for split in {item.split for item in plan.items}:
        for kind in ("images", "masks"):
            (folder / (split or "") / kind).mkdir(parents=True)
    outcomes: list[_Outcome] = []
    on_progress("importing", 0, len(plan.items))
    failed = Event()
    if plan.problems and not skip_bad:
        failed.set()
    pool = ThreadPoolExecutor()  # decoding, encoding and the disk release the interpreter lock
    try:
        stems = new_stems(plan.items)
        write = partial(_write_item, folder=folder, failed=failed, skip_bad=skip_bad)
        for outcome in pool.map(write, plan.items, stems):
            outcomes.append(outcome)
            on_progress("importing", len(outcomes), len(plan.items))
        ways = Counter(outcome.way for outcome in outcomes)
        if ways["other"] > ways["stated"] and not failed.is_set():
            # One tool made them all: where the shapes of an image fit both ways, it is as with the other images.
            for i, outcome in enumerate(outcomes):
                if outcome.way == "either":
                    outcomes[i] = write(plan.items[i], stems[i], other_way=True)
    finally:
        pool.shutdown(cancel_futures=True)  # or Ctrl-C would wait for the whole dataset
    return outcomes


def _write_item(
    item: Item, stem: str, *, folder: Path, failed: Event, skip_bad: bool, other_way: bool = False
) -> _Outcome:
    """Write an image and its mask; a problem is returned as text, so that one pass finds all problems.

    Once ``failed`` is set, nothing will be published: the remaining images are checked but not written.
    """
    painted, way = None, None
    try:
        where = item.name if isinstance(item.image, bytes) else printable(item.image)
        data = item.image if isinstance(item.image, bytes) else read_bytes(item.image, DataError)
        header, orientation = read_header(data, where), exif_orientation(data)
        height, width = decode(data, where).shape[:2]
        shown = (height, width)
        fitting = {shown, (width, height)} if orientation >= 5 else {shown}
        _require_size(item.size or shown, fitting, shown, where)  # before drawing: a size could fill the memory
        if isinstance(item.draw, Drawing):
            painted, way = _painted(item.draw, item.size or shown, fitting, other_way)
            mask, painted = painted.mask, replace(painted, mask=_NO_MASK)  # or the masks would fill the memory
        else:
            mask = item.draw(item.size or shown)
        _require_size(mask.shape, fitting, shown, where)
        was_turned = mask.shape != shown
        if was_turned:
            mask = oriented(mask, orientation)
    except InputError as error:
        if not skip_bad:
            failed.set()
        return _Outcome(problems=(str(error),))
    problems = painted.problems if painted else ()
    if problems and not skip_bad:
        failed.set()
    if failed.is_set():
        return _Outcome(problems=problems, painted=painted)
    if (mask == IGNORE).all():
        return _Outcome(problems=problems, left_out=f"{where} — every pixel of its mask is ignored", painted=painted)
    suffix = Path(item.name).suffix.lower()
    file = stem + (suffix if suffix in IMAGE_SUFFIXES else suffixes_of(header.kind)[0])
    place = folder / (item.split or "")
    write_bytes(place / "images" / file, data, sync_folder=False)  # names are made durable at the end, all at once
    write_bytes(place / "masks" / f"{stem}.png", encode_png(mask, where), sync_folder=False)
    has_object, has_ignored = bool(np.any((mask > 0) & (mask < IGNORE))), bool((mask == IGNORE).any())
    return _Outcome(
        file=file,
        problems=problems,
        painted=painted,
        is_empty=not has_object and not has_ignored,
        has_no_object=not has_object and has_ignored,
        was_turned=was_turned,
        way=way,
    )


def _painted(drawing: Drawing, stated: Size, fitting: Collection[Size], other_way: bool) -> tuple[Painted, _Way | None]:
    """Paint a drawing for the stated size, or for the other one that the image's EXIF orientation allows.

    Some tools state the size of the stored pixels, but annotate the picture as it is shown. Only shapes that reach out
    of one and fit the other can tell.
    """
    painted = paint(drawing, stated)
    other = next((size for size in fitting if size != stated), None)
    if other is None or (painted.extent is None and not painted.problems):
        return painted, None
    if painted.fits(stated) and not other_way:
        return painted, "either" if painted.fits(other) else "stated"
    turned = paint(drawing, other)
    return (turned, "other") if turned.fits(other) else (painted, "stated")


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
