"""Turn the tracks of "CVAT for video 1.1" into images with shapes, as "CVAT for images 1.1" has them.

A track lists a shape per frame, with the number of the frame in the video; the frame's file has the same number. CVAT
exports every frame on which the object is seen. Other tools list key frames only: in between, boxes, ellipses and
polygons move linearly, and after the last one they stay to the end of the video, as CVAT itself shows them.

Reference: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/; get_interpolated_shapes in
https://github.com/cvat-ai/cvat/blob/develop/cvat/apps/dataset_manager/annotation.py
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.files import source_files
from training.importers.plan import Tally

_VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"})
_MOVED = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "polygon": ("points",),
}
"""Attributes that change linearly between key frames, by kind of shape; other kinds are drawn where they are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """Frames of the videos of one XML file, as elements of images.

    Attributes:
        images: An element per frame, with its shapes; ``name`` is the path of its file relative to the XML, ``group``
            the name of its video if there are several.
        problems: Faulty shapes, one line each.
        left_out: Frames that are not imported, one line each.
        notes: Remarks for the user, one line each.
    """

    images: tuple[Element, ...] = ()
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Video of a task.

    Attributes:
        name: Name of the task.
        subset: Subset of its project.
        frames: Numbers of its frames in the video; None if the file does not say.
        size: ``width`` and ``height`` of the frames; empty if the file does not say.
        is_images: The frames are pictures with names of their own.
    """

    name: str = ""
    subset: str = ""
    frames: range | None = None
    size: dict[str, str] = field(default_factory=dict)
    is_images: bool = False


@dataclass(slots=True, kw_only=True)
class _Shapes:
    """Shapes of one task by frame.

    Attributes:
        by_frame: Shapes that are seen on each frame.
        listed: Frames for which a track lists a shape, also one that is outside.
        unlisted: Frames for which a track lists no shape but has one, one for each shape.
        unmatched: Reason why a frame cannot be drawn.
        problems: Faulty shapes, one line each.
    """

    by_frame: dict[int, list[Element]] = field(default_factory=lambda: defaultdict(list))
    listed: set[int] = field(default_factory=set)
    unlisted: list[int] = field(default_factory=list)
    unmatched: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def frames_of_tracks(root: Element, path: Path, src: Path) -> Tracks:
    """Return the frames of the tracks in an XML file.

    Args:
        root: Root of the XML.
        path: Path of the XML.
        src: Folder of the export.

    Raises:
        DataError: A track is wrong, the frames are not there, or which file is which frame cannot be told.
    """
    tracks = root.findall("track")
    if not tracks:
        return Tracks()
    pictures = [file for file in source_files(src) if file.suffix.lower() in IMAGE_SUFFIXES]
    images: list[Element] = []
    problems: list[str] = []
    left_out: list[str] = []
    notes = Tally()
    of_tasks = _by_task(root, tracks, path)
    for task, own in of_tasks:
        files = _files(task, [other for other, _ in of_tasks], pictures, path, src)
        shapes = _shapes(own, task, sorted(files), path)
        if task.frames is None and shapes.listed:
            _refuse_shifted(files, shapes.listed, src)
        problems += shapes.problems
        for number in shapes.unlisted:
            notes.add("shapes are moved from key frame to key frame, as CVAT shows them", printable(files[number]))
        for number in sorted(files.keys() | shapes.by_frame.keys()):
            if number in shapes.unmatched:
                left_out.append(f"{printable(files[number])} — {shapes.unmatched[number]}")
                continue
            file = files.get(number)
            name = file.relative_to(path.parent).as_posix() if file else f"frame_{number:06d}"
            element = Element("image", {"name": name, "subset": task.subset} | task.size)
            if len(of_tasks) > 1:
                element.set("group", task.name)
            element.extend(shapes.by_frame.get(number, ()))
            images.append(element)
    return Tracks(images=tuple(images), problems=tuple(problems), left_out=tuple(left_out), notes=notes.lines())


def _by_task(root: Element, tracks: Sequence[Element], path: Path) -> list[tuple[_Task, list[Element]]]:
    """Return each task with its tracks; a file of one task or job need not number it."""
    elements = root.findall("./meta//task")
    if len(elements) < 2:
        task = _task(elements[0], path) if elements else _Task(is_images=root.findtext("./meta//mode") == "annotation")
        return [(task, list(tracks))]
    own: dict[str, list[Element]] = {element.findtext("id", ""): [] for element in elements}
    for track in tracks:
        task_id = track.get("task_id", "")
        if task_id not in own:
            raise DataError(
                f"{printable(path)} — a track of task '{printable(task_id)}' — expected the id of a task in <meta>"
            )
        own[task_id].append(track)
    return [(_task(element, path), own[element.findtext("id", "")]) for element in elements]


def _task(element: Element, path: Path) -> _Task:
    """Read a task: the numbers of its frames are those in the video, also if only every fifth is used."""
    where = f"{printable(path)}: task {printable(element.findtext('id', ''))}"
    step = re.search(r"step\s*=\s*(\d+)", element.findtext("frame_filter") or "")
    frames = None
    if (first := element.findtext("start_frame")) and (last := element.findtext("stop_frame")):
        start, stop = (int(documents.number(text, where, "a frame")) for text in (first, last))
        frames = range(start, stop + 1, max(1, int(step[1])) if step else 1)
    width, height = (element.findtext(f"./original_size/{key}") for key in ("width", "height"))
    return _Task(
        name=element.findtext("name") or element.findtext("id") or "",
        subset=element.findtext("subset") or "",
        frames=frames,
        size={"width": width, "height": height} if width and height else {},
        is_images=element.findtext("mode") == "annotation",
    )


def _files(task: _Task, tasks: Sequence[_Task], pictures: Sequence[Path], path: Path, src: Path) -> dict[int, Path]:
    """Return the file of each frame of a task that is there, by the number at the end of its name."""
    own = list(pictures)
    if len(tasks) > 1:  # a project's export has a folder per subset
        if sum(other.subset == task.subset for other in tasks) > 1:
            raise DataError(
                f"{printable(path)} — tasks {', '.join(printable(t.name) for t in tasks if t.subset == task.subset)} are "
                f"in subset {printable(task.subset)}, so that their frames have the same names — expected one — export "
                "each task by itself"
            )
        own = [file for file in own if task.subset in file.relative_to(src).parts[:-1]]
    named = [file for file in own if re.fullmatch(r"frame_\d+", file.stem, re.IGNORECASE)]
    if not named and task.is_images and own:
        raise DataError(
            f"{printable(path)} — tracks on images such as {printable(own[0].name)}, by number only — expected names — "
            "export the task as 'CVAT for images 1.1'"
        )
    files: dict[int, Path] = {}
    for file in named or own:
        number = re.search(r"\d+$", file.stem)
        if number is None:
            continue
        other = files.setdefault(int(number[0]), file)
        if other is not file:
            raise DataError(
                f"{printable(src)} — {printable(other)} and {printable(file)} are both frame {int(number[0])} — "
                "expected one file per frame — remove the others"
            )
    if not files:
        raise DataError(_no_frames(task, src))
    if task.frames is not None:
        _require_numbers(files, task.frames, src)
        files = {number: file for number, file in files.items() if number in task.frames}
    return files


def _no_frames(task: _Task, src: Path) -> str:
    """Return the problem of an export without its frames, with the way to get them."""
    video = next((file for file in source_files(src) if file.suffix.lower() in _VIDEO_SUFFIXES), None)
    found = f"the video {printable(video)}, but not its frames" if video else "no frames of the video"
    name = f"'{printable(video.name)}'" if video else "VIDEO"
    return (
        f"{printable(src)} — {found} — expected images/frame_000000.PNG … — export with 'Save images', or run: "
        f"ffmpeg -i {name} -fps_mode passthrough -start_number 0 images/frame_%06d.png"
    )


def _require_numbers(files: Collection[int], frames: range, src: Path) -> None:
    """Refuse files that are numbered otherwise than the frames; each would get the shapes of another.

    Raises:
        DataError: The files count from 1, or only the frames that are used.
    """
    shifted = min(files) == frames.start + 1 and max(files) == frames.stop and frames.step == 1
    in_a_row = 1 < len(files) <= len(frames) and max(files) - min(files) == len(files) - 1
    only_used = frames.step > 1 and in_a_row and max(files) < frames[-1]
    if shifted or only_used or not any(number in frames for number in files):
        raise DataError(
            f"{printable(src)} — files of frames {min(files)} to {max(files)} — expected the numbers in the video, "
            f"{frames.start} to {frames[-1]}{f' in steps of {frames.step}' if frames.step > 1 else ''} — rename them"
        )


def _refuse_shifted(files: Collection[int], listed: Collection[int], src: Path) -> None:
    """Refuse files that are numbered from one more than the frames that the tracks list, where nothing states the frames.

    An object may be gone before the last frame, so that more files than frames follow; without the first frame's file,
    the last file and the last frame would be the same.

    Raises:
        DataError: Each file would get the shapes of the next one.
    """
    if min(files) == min(listed) + 1 and max(files) > max(listed):
        raise DataError(
            f"{printable(src)} — files of frames {min(files)} to {max(files)}, shapes on frames {min(listed)} to {max(listed)} "
            f"— expected the numbers in the video, from {min(listed)} — rename the files, or add the one of frame "
            f"{min(listed)}"
        )


def _shapes(tracks: Sequence[Element], task: _Task, numbers: Sequence[int], path: Path) -> _Shapes:
    """Collect the shapes of tracks by frame, in the order of the XML."""
    found = _Shapes()
    for track in tracks:
        where = f"{printable(path)}: track {printable(track.get('id', ''))}"
        listed: list[tuple[int, Element]] = []
        for shape in track:
            try:
                listed.append((int(documents.number(shape.get("frame"), where, f"frame of a {shape.tag}")), shape))
            except DataError as error:
                found.problems.append(str(error))
        listed.sort(key=lambda pair: pair[0])
        found.listed.update(number for number, _ in listed)
        for number, shape in listed:
            if shape.get("outside") != "1":
                found.by_frame[number].append(_with_label(shape, track))
        for (number, shape), (next_number, next_shape) in pairwise(listed):
            if shape.get("outside") == "1" or shape.tag not in (*_MOVED, "mask"):
                continue
            for between in numbers[bisect_right(numbers, number) : bisect_left(numbers, next_number)]:
                try:
                    moved = _between(shape, next_shape, (between - number) / (next_number - number))
                except ValueError:
                    found.problems.append(
                        f"{where} — a {shape.tag} on frame {number} or {next_number} is no numbers — expected them — export it again"
                    )
                    break
                if moved is None:
                    found.unmatched[between] = (
                        f"is between frames {number} and {next_number} of track {printable(track.get('id', ''))}, whose "
                        "shapes differ in kind or corners"
                    )
                else:
                    found.by_frame[between].append(_with_label(moved, track))
                    found.unlisted.append(between)
        if not listed or task.frames is None:
            continue
        number, shape = listed[-1]
        # CVAT ends a shape of a single frame by an outside one, except near the end of the video.
        if shape.get("outside") != "1" and shape.tag in _MOVED and number + task.frames.step < task.frames[-1]:
            for after in numbers[bisect_right(numbers, number) :]:
                found.by_frame[after].append(_with_label(shape, track))
                found.unlisted.append(after)
    return found


def _with_label(shape: Element, track: Element) -> Element:
    """Return a shape as an image holds it: with its own label."""
    return Element(shape.tag, dict(shape.attrib) | {"label": track.get("label", "")})


def _between(first: Element, second: Element, share: float) -> Element | None:
    """Return the shape at a share of the way from one key frame to the next; None if they cannot be matched.

    Raises:
        ValueError: An attribute holds no numbers.
    """
    if second.tag != first.tag or first.tag not in _MOVED:
        return None
    moved = Element(first.tag, dict(first.attrib))
    for key in _MOVED[first.tag]:
        ends = [_numbers(shape.get(key, "")) for shape in (first, second)]
        if len(ends[0]) != len(ends[1]):
            return None
        points = ends[0] + (ends[1] - ends[0]) * share
        moved.set(key, ";".join(",".join(f"{v:.4f}" for v in point) for point in points))
    turns = [float(shape.get("rotation", "0")) for shape in (first, second)]
    moved.set("rotation", f"{turns[0] + ((turns[1] - turns[0] + 180) % 360 - 180) * share:.4f}")
    return moved


def _numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers of an attribute: "x,y;x,y" or one."""
    return np.array([[float(v) for v in pair.split(",")] for pair in text.split(";")], np.float64)
