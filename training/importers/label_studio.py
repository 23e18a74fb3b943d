"""Import Label Studio's JSON and JSON-MIN: tasks with an image and annotations.

Reference: https://labelstud.io/guide/export
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import FileFinder, folder_splits, source_files, unlisted_images
from training.importers.glance import files, peek
from training.importers.label_studio_regions import DATA_URL, GEOMETRY, Area, read_areas
from training.importers.painting import Drawing, Shape
from training.importers.plan import Findings, Item, Labels, Plan, label_classes
from training.importers.shapes import Size

UNNAMED = "object"
"""Class of the regions of a project without labels."""
_UPLOAD_PREFIX = re.compile(r"(?<![^/\\=])[0-9a-f]{8}-(?=[^/\\]*$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Image with its regions."""

    where: str
    image: Path | bytes
    name: str
    areas: list[Area]
    size: Size | None


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".json"}):
        if re.search(r'"(from_name|polygonlabels|rectanglelabels|ellipselabels|brushlabels)"\s*:', peek(path)):
            return f"{path.relative_to(src).as_posix()} has regions of Label Studio"
    return None


def plan(src: Path) -> Plan:
    """Read the exports of Label Studio below a folder.

    Raises:
        DataError: There is no export, or none can be read.
    """
    found, finder = Findings(), FileFinder(src)
    exports = _exports(src, found)
    has_annotations = any(_annotations(task) for tasks in exports.values() for task in tasks)
    tasks: dict[Path | bytes, _Task] = {}
    for path, entries in exports.items():
        for index, entry in enumerate(entries):
            where = f"{printable(path)}: task {entry.get('id', index)}"
            try:
                result = _result(entry, where, has_annotations, found)
                task = _task(entry, result, where, path, src, finder, found) if result is not None else None
            except DataError as error:
                found.problems.append(str(error))
                continue
            if task and task.image in tasks:
                found.problems.append(
                    f"{where} — image {printable(task.name)}, which {tasks[task.image].where} has, too — expected it once — keep one export"
                )
            elif task:
                tasks[task.image] = task
    if not has_annotations:
        found.notes.add("exports have no annotations: their predictions are taken", count=len(exports))
    labels, items = _labels(tasks.values(), src, found), []
    splits = folder_splits([task.name for task in tasks.values()], found.notes)
    for task, split in zip(tasks.values(), splits, strict=True):
        shapes = [
            Shape(where=area.where, kind=area.kind, class_id=labels.ids[area.label], regions=area.regions)
            for area in task.areas
            if area.label in labels.ids
        ]
        items.append(Item(name=task.name, image=task.image, draw=Drawing(shapes=shapes), split=split, size=task.size))
    for image in unlisted_images(src, tasks.keys()):
        found.notes.add("images that no task lists: not imported", finder.name(image))
    return found.plan(labels.classes, items)


def _labels(tasks: Iterable[_Task], src: Path, found: Findings) -> Labels:
    """Number the labels sorted by name; a project without labels has one class."""
    areas = [area for task in tasks for area in task.areas]
    names = sorted({area.label for area in areas} - {""})
    for area in areas:
        if not area.label and names:
            found.undrawn.add("regions without a label: not drawn", area.where)
        elif not area.label:
            found.notes.add(f"regions have no label: their class is {UNNAMED}", area.where)
    labels = label_classes(names or [UNNAMED], where=printable(src))
    return labels if names else replace(labels, ids={"": 1})


def _exports(src: Path, found: Findings) -> dict[Path, list[dict[str, Any]]]:
    """Return the tasks of each export below a folder; other JSON files are named."""
    exports, errors = {}, []
    for path in source_files(src):
        if path.suffix.lower() != ".json":
            continue
        try:
            tasks = _tasks(documents.read_json_value(path))
        except DataError as error:
            errors.append(str(error))
            continue
        if tasks:
            exports[path] = tasks
        else:
            found.left_out.append(f"{printable(path)} — no export of Label Studio: no tasks with annotations")
    if not exports and errors:
        raise ImportProblemsError(errors)
    if not exports:
        raise DataError(f"{printable(src)} — no JSON export of Label Studio — expected project.json beside images/")
    found.left_out += errors
    return exports


def _tasks(document: Any) -> list[dict[str, Any]]:
    """Return the tasks of an export: of JSON, of JSON-MIN, or of one annotation that a storage received."""
    entries = document if isinstance(document, list) else [document]
    if not all(isinstance(entry, dict) for entry in entries):
        return []
    if all(isinstance(entry.get("task"), dict) and isinstance(entry.get("result"), list) for entry in entries):
        entries = [{**entry["task"], "annotations": [entry]} for entry in entries]
    elif not any(isinstance(entry.get("data"), dict) for entry in entries):
        entries = _joined([_from_min(entry) for entry in entries if _is_min(entry)])
    return [entry for entry in entries if isinstance(entry.get("data"), dict)]


def _is_min(entry: dict[str, Any]) -> bool:
    values = [value for content in entry.values() if isinstance(content, list) for value in content]
    return "annotation_id" in entry or any(isinstance(value, dict) and "original_width" in value for value in values)


def _from_min(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a task of JSON-MIN in the form of JSON: there, each key besides the task's data is a list of values."""
    results = []
    for key, values in entry.items():
        for value in values if isinstance(values, list) else []:
            if isinstance(value, dict):
                sizes = {name: value[name] for name in ("original_width", "original_height") if name in value}
                # One region has a value for each of its tags, alike but for the labels.
                region = json.dumps([value.get(name) for name in GEOMETRY])
                results.append({"id": region, "from_name": key, "type": "", "value": value, **sizes})
    times = {name: entry[name] for name in ("created_at", "updated_at") if name in entry}
    return {"id": entry.get("id"), "data": entry, "annotations": [{"result": results, **times}]}


def _joined(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each task of JSON-MIN once, with all of its annotations: there, every annotation is an entry of its own."""
    joined: dict[Any, dict[str, Any]] = {}
    for index, task in enumerate(tasks):
        first = joined.setdefault(f"entry {index}" if task["id"] is None else str(task["id"]), task)
        if first is not task:
            first["annotations"] += task["annotations"]
    return list(joined.values())


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations that were not skipped; before version 1.0 they were called completions."""
    entries = task.get("annotations", task.get("completions"))
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [entry for entry in entries if not entry.get("was_cancelled") and not entry.get("skipped")]


def _result(task: dict[str, Any], where: str, has_annotations: bool, found: Findings) -> list[Any] | None:
    """Return the result of the annotation that counts; None if there is none."""
    entries = _annotations(task)
    if not has_annotations:
        predictions = task.get("predictions")
        entries = [entry for entry in predictions if isinstance(entry, dict)] if isinstance(predictions, list) else []
    if not entries:
        skipped = bool(task.get("annotations") or task.get("completions"))
        why = "were skipped by their annotator" if skipped else "have no annotation"
        found.notes.add(f"tasks {why}: not imported", where)
        return None
    if len(entries) > 1:
        found.notes.add("tasks have several annotations: the ground truth, or else the last, is taken", where)
    best = max(
        enumerate(entries),
        key=lambda one: (
            bool(one[1].get("ground_truth")),
            str(one[1].get("updated_at") or one[1].get("created_at") or ""),
            one[0],
        ),
    )
    return documents.field(best[1], "result", list, where)


def _task(
    task: dict[str, Any], result: list[Any], where: str, path: Path, src: Path, finder: FileFinder, found: Findings
) -> _Task | None:
    """Return the image of a task with its regions; None if it is not there."""
    name = _image_name(task["data"], where)
    if inside := DATA_URL.match(name):
        image: Path | bytes | None = documents.base64_bytes(name[inside.end() :], where)
        name = f"task {task.get('id')}"
    else:
        image = _image(name, path.parent, src, where, finder)
    areas, sizes = read_areas(result, where, found.problems, found.undrawn, found.notes)
    if image is None:
        found.left_out.append(f"{printable(name)} — image not found ({len(areas)} regions, {where})")
        return None
    if len(sizes) > 1:
        raise DataError(f"{where} — regions for images of {sorted(sizes)} (height, width) — expected one size")
    return _Task(
        where=where,
        image=image,
        name=finder.name(image) if isinstance(image, Path) else name,
        areas=areas,
        size=next(iter(sizes), None),
    )


def _image_name(data: dict[str, Any], where: str) -> str:
    """Return the path or address of a task's image: its value ``image``, or the only one that looks like an image."""
    names = {key: value for key, value in data.items() if isinstance(value, str) and _is_image(value)}
    if isinstance(data.get("image"), str):
        return str(data["image"])
    if len(names) != 1:
        raise DataError(
            f"{where} — {len(names)} images in its data ({', '.join(names)}) — expected one, or one as 'image'"
        )
    return next(iter(names.values()))


def _is_image(value: str) -> bool:
    path = value.partition("?")[0] if "://" in value else value
    return bool(DATA_URL.match(value)) or Path(path).suffix.lower() in IMAGE_SUFFIXES


def _image(name: str, near: Path, src: Path, where: str, finder: FileFinder) -> Path | None:
    """Return the image of this path, also without the eight digits that an upload puts before its name."""
    for one in dict.fromkeys((name, _UPLOAD_PREFIX.sub("", name))):
        for folders in ([near, near / "images"], [src / "images", src]):
            if image := finder.find_image(one, folders, where):
                return image
    return None
