"""Import PASCAL VOC segmentation: its palette masks, and masks that CVAT and LabelMe write in its layout.

Reference: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (classes, colours, 255 for the border);
https://docs.cvat.ai/docs/dataset_management/formats/format-smask/ (labelmap.txt)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import SPLITS, Split, files_below
from edge_runtime.errors import InputError
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.data.color_tables import VOC, voc_color
from training.errors import DataError
from training.importers.documents import read_lines
from training.importers.files import FileFinder, source_files, split_of, unlisted_images
from training.importers.glance import folders
from training.importers.mask_files import draw_by_color, draw_by_value_or_color
from training.importers.painting import Drawing
from training.importers.plan import BACKGROUND_NAMES, Color, Draw, Item, Labels, Plan, Tally, label_classes

_NAMES = [name for name, _ in VOC.classes]
_BORDER: Color = (224, 224, 192)
_IGNORED = "__ignore__"
_LABELMAP = "labelmap.txt"
_NAME_LISTS = ("class_names.txt", "labels.txt", "classes.txt")


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for folder in folders(src, depth=3):
        if folder.name.startswith("SegmentationClass"):
            return f"it has {folder.relative_to(src).as_posix()}/"
    return None


def plan(src: Path) -> Plan:
    """Find the images and masks of a VOC folder.

    Raises:
        DataError: The folder is not VOC, its list of labels is wrong, or its masks have ignored pixels alone.
    """
    root = _root(src)
    notes, finder = Tally(), FileFinder(src)
    masks, images = _mask_folder(root, notes), root / "JPEGImages"
    labels, read = _reader(root, src, notes)
    items: dict[Path, Item] = {}
    seen: set[Path] = set()
    problems, left_out = [], []
    for split, names, listed_in in _entries(root, masks, notes):
        try:
            found = {stem: finder.find(f"{stem}.png", [masks], listed_in) for stem in names}
            stem = next((stem for stem, mask in found.items() if mask), names[0])
            mask = found[stem]
            image = _image(finder, stem, images, listed_in)
        except DataError as error:
            problems.append(str(error))
            continue
        if mask is not None:
            seen.add(mask)
        if mask is None or image is None:
            missing = f"mask in {masks.name}" if mask is None else "image in JPEGImages"
            left_out.append(f"{printable(stem)} — no {missing}")
        elif image not in items:
            items[image] = Item(name=finder.name(image), image=image, draw=read(mask), split=split)
        elif split not in (None, items[image].split):
            problems.append(
                f"{listed_in} — '{printable(stem)}' — is in the list of {items[image].split}, too — expected one of them"
            )
    _require_objects((item.draw for item in items.values() if not isinstance(item.draw, Drawing)), labels, root)
    for path in unlisted_images(images, items.keys()):
        notes.add("images without a mask, or that no list names: not imported", finder.name(path))
    for path in unlisted_images(masks, seen):
        if path.suffix.lower() == ".png":
            notes.add("masks that no list names: not imported", finder.name(path))
        else:
            problems.append(f"{printable(path)} — a mask in another format — expected PNG — save it as PNG")
    return Plan(
        classes=labels.classes,
        items=tuple(items.values()),
        problems=tuple(problems),
        left_out=tuple(left_out),
        notes=notes.lines(),
    )


def _require_objects(draws: Iterable[Draw], labels: Labels, root: Path) -> None:
    """Refuse masks of background and ignored pixels alone: where white stands for the object, every object is lost.

    They are read up to the first one with an object, which is one of the first in most datasets.
    """
    ignored = 0
    for draw in draws:
        try:
            mask = draw((0, 0))
        except InputError:  # named when its image is written
            return
        if ((mask > 0) & (mask < IGNORE)).any():
            return
        ignored += bool((mask == IGNORE).any())
    if ignored:
        names = [printable(c.name) for c in labels.classes[1:]]
        raise DataError(
            f"{printable(root)} — {ignored} masks with ignored pixels (255), none with a pixel of a class — expected "
            f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} — if white is the object, put the pictures into images/ "
            "and their masks into masks/, and run edge-unet data check on that folder"
        )


def _image(finder: FileFinder, stem: str, images: Path, where: str) -> Path | None:
    found = (finder.find(f"{stem}{suffix}", [images], where) for suffix in sorted(IMAGE_SUFFIXES))
    return next((path for path in found if path), None)


def _mask_folder(root: Path, notes: Tally) -> Path:
    """Return the folder of the masks: the one of LabelMe, of VOC, or another that begins with that name."""
    folders = sorted(path for path in root.glob("SegmentationClass*") if path.is_dir())
    names = ("SegmentationClassPNG", "SegmentationClass")
    folders.sort(key=lambda path: names.index(path.name) if path.name in names else len(names))
    for other in folders[1:]:
        if any(other.glob("*.png")):
            notes.add(f"folders of masks beside {folders[0].name}: not read", other.name)
    return folders[0]


def _root(src: Path) -> Path:
    """Return the folder that holds SegmentationClass: the given folder, or the only one up to two levels below."""
    for pattern in ("", "*/", "*/*/"):
        found = sorted({path.parent for path in src.glob(f"{pattern}SegmentationClass*") if path.is_dir()})
        if len(found) > 1:
            raise DataError(
                f"{printable(src)} — {', '.join(path.name for path in found)} — expected one of them: pass it"
            )
        if found and not (found[0] / "JPEGImages").is_dir():
            raise DataError(f"{printable(found[0])} — no JPEGImages/ — expected the images there — export them too")
        if found:
            return found[0]
    raise DataError(
        f"{printable(src)} — no SegmentationClass/ — expected VOC2012/ with JPEGImages/ and SegmentationClass/"
    )


def _reader(root: Path, src: Path, notes: Tally) -> tuple[Labels, Callable[[Path], Draw]]:
    """Return the classes, and the function that reads a mask file into their ids."""
    lists = {root / file: names for file in _NAME_LISTS if (names := _listed_names(root / file))}
    labelmap = root / _LABELMAP
    path = labelmap if labelmap.is_file() else next(iter(lists), None)
    for other in source_files(src):
        if other.name in (_LABELMAP, *_NAME_LISTS) and other != path:
            notes.add("lists of classes that are not read", other.relative_to(src).as_posix())
    if path == labelmap:
        colors = _labelmap(labelmap)
        labels = label_classes(colors, colors, where=printable(labelmap))
        by_color = {_BORDER: IGNORE, (0, 0, 0): 0} | {color: labels.ids[name] for name, color in colors.items()}
        return labels, partial(draw_by_color, ids=by_color)
    if path is None:
        what = f"classes are those of VOC itself, because neither {_LABELMAP} nor {_NAME_LISTS[0]} names others"
        notes.add(what, count=len(_NAMES) - 1)
    ordered = lists[path] if path else _NAMES
    labels = label_classes(
        ordered, {name: voc_color(i) for i, name in enumerate(ordered)}, where=printable(path or root)
    )
    by_value = {value: labels.ids[name] for value, name in enumerate(ordered)} | {255: IGNORE}
    by_color = {_BORDER: IGNORE} | {voc_color(value): labels.ids[name] for value, name in enumerate(ordered)}
    return labels, partial(draw_by_value_or_color, values=by_value, colors=by_color)


def _listed_names(path: Path) -> list[str]:
    """Return the names in a list of classes by value, the background first; none from a list of another tool without it.

    Raises:
        DataError: The list is the one of LabelMe and begins with another class: every name would be a value too low.
    """
    names = [name for name in read_lines(path) if name != _IGNORED] if path.is_file() else []
    if not names or names[0].casefold() in BACKGROUND_NAMES:
        return names
    if path.name == _NAME_LISTS[0]:
        raise DataError(
            f"{printable(path)} — its first class is '{printable(names[0])}' — expected the one of the value 0, the "
            "background — put a line _background_ before it"
        )
    return []


def _labelmap(path: Path) -> dict[str, Color]:
    """Read lines of "name:red,green,blue:parts:actions"."""
    colors: dict[str, Color] = {}
    for line in read_lines(path):
        match = re.fullmatch(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", line)
        if not match or max(int(v) for v in match.groups()[1:4]) > 255:
            raise DataError(
                f"{printable(path)} — line '{printable(line)}' — expected name:red,green,blue:parts:actions"
            )
        colors[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
    if len(set(colors.values())) < len(colors):
        raise DataError(f"{printable(path)} — two labels have one colour — expected different ones — export it again")
    return colors


def _entries(root: Path, masks: Path, notes: Tally) -> list[tuple[Split | None, list[str], str]]:
    """Return split, possible stems and file of each line of the lists; all masks if there are no lists."""
    found: list[tuple[Split | None, list[str], str]] = []
    read: set[Path] = set()
    exact = ("trainval", "default", *SPLITS)
    places = (
        sorted((root / "ImageSets" / "Segmentation").glob("*.txt")),
        sorted((root / "ImageSets").glob("*.txt")),
        sorted(path for path in root.glob("*.txt") if path.stem.lower() in exact),
        sorted((root / "ImageSets" / "Main").glob("*.txt")),
    )
    paths = next(
        (lists for lists in places if any(_is_list_of(s, p, lists) for s in (*SPLITS, None) for p in lists)), []
    )
    for split in (*reversed(SPLITS), None):
        lists = [path for path in paths if path not in read and _is_list_of(split, path, paths)]
        read.update(lists)
        # trainval.txt stands for train.txt: what it shares with val.txt and test.txt stays there.
        taken = {tuple(stems) for _, stems, _ in found}
        for path in lists:
            is_both = path.stem.lower() in ("trainval", "default")
            for line in read_lines(path):
                if not (is_both and tuple(_stems(line, masks)) in taken):
                    found.append((split, _stems(line, masks), printable(path)))
    for path in paths:
        if path not in read and path.stem.lower() != "trainval":
            notes.add("lists that are not read", path.name)
    found.sort(key=lambda entry: SPLITS.index(entry[0]) if entry[0] else len(SPLITS))
    stems = (
        path.relative_to(masks).with_suffix("").as_posix()
        for path in files_below(masks)
        if path.suffix.lower() == ".png"
    )
    return found or [(None, [stem], printable(masks)) for stem in stems]


def _is_list_of(split: Split | None, path: Path, paths: Sequence[Path]) -> bool:
    """Tell whether a list is of a split: train.txt; or else CVAT's Train.txt, Training.txt …; or else trainval.txt."""
    if split is None:
        return path.stem.lower() == "default"
    exact = [other for other in paths if other.stem.lower() == split]
    named = [other for other in paths if split_of(other.stem) == split and other.stem.lower() != "trainval"]
    both = [other for other in paths if split == "train" and other.stem.lower() == "trainval"]
    return path in (exact or named or both)


def _stems(line: str, masks: Path) -> list[str]:
    """Return the stems that a line may mean, the likeliest first.

    Names with spaces are in quotes, or not. A name may have a suffix or its folder, and -1, 0 or 1 or the path of the
    mask behind it.
    """
    if quoted := re.match(r'"((?:\\"|[^"])*)"', line):
        names = [quoted[1].replace('\\"', '"')]
    else:
        first = line.split()[0]
        names = [line, re.sub(r"\s+-?[01]$", "", line), *([first] if Path(first).suffix else [])]
    stems = []
    for name in (name.replace("\\", "/") for name in names):
        own = re.sub(rf"^(.*/)?(JPEGImages|{re.escape(masks.name)})/", "", name).lstrip("/")
        plain = own.removesuffix(Path(own).suffix) if Path(own).suffix.lower() in IMAGE_SUFFIXES else own
        stems += [own, plain]
    return list(dict.fromkeys(stem for stem in stems if stem))
