"""Small datasets in the layouts of other tools, with the masks that an import has to come to."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from datasets import jpeg, png, squares
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

Ids = NDArray[np.uint8]
Expected = dict[str, Ids]
"""Mask by path of the image in the new dataset, without its suffix: "train/images/a"."""
HEIGHT, WIDTH = 40, 64


def write(path: Path, data: bytes | str | Mapping[str, Any]) -> Path:
    """Write bytes, text or JSON, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, Mapping):
        data = json.dumps(data, ensure_ascii=False)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def scene(seed: int) -> tuple[Ids, Ids]:
    return squares(seed, HEIGHT, WIDTH)


def corners(ids: Ids, class_id: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a class's square, the last two exclusive."""
    rows, columns = np.nonzero(ids == class_id)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def outline(ids: Ids, class_id: int) -> list[tuple[int, int]]:
    left, top, right, bottom = corners(ids, class_id)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def columns(cells: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths, down the columns."""
    flat = np.concatenate(([False], cells.T.reshape(-1), [not cells[-1, -1]]))
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate(([0], ends))).tolist()


def flat_points(ids: Ids, class_id: int) -> list[float]:
    return [float(v) for point in outline(ids, class_id) for v in point]


def coco(root: Path) -> Expected:
    """As downloaded: two splits, captions beside the instances, ids with gaps, run lengths, a crowd, an empty image."""
    expected: Expected = {}
    categories = [
        {"id": 18, "name": "собака", "supercategory": "animal"},
        {"id": 1, "name": "red", "supercategory": "x"},
    ]
    for split, first in (("train", 0), ("val", 10)):
        images, annotations = [], []
        for i in range(first, first + 3):
            image_bgr, ids = scene(i)
            ids = ids.copy()
            name = f"{i:012d}.jpg"
            write(root / f"{split}2017" / name, jpeg(image_bgr))
            images.append({"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH})
            here = {"image_id": i, "iscrowd": 0}
            if i == first + 2:
                ids[:] = 0
            else:
                rle = coco_mask.encode(np.asfortranarray((ids == 2).astype(np.uint8)))
                compressed = {"size": rle["size"], "counts": rle["counts"].decode()}
                annotations.append({**here, "id": 10 * i, "category_id": 1, "segmentation": [flat_points(ids, 1)]})
                annotations.append({**here, "id": 10 * i + 1, "category_id": 18, "segmentation": compressed})
                crowd = np.zeros((HEIGHT, WIDTH), np.bool_)
                crowd[-3:, 20:50] = True
                counts = {"size": [HEIGHT, WIDTH], "counts": columns(crowd)}
                annotations.append({**here, "id": 10 * i + 2, "category_id": 1, "segmentation": counts, "iscrowd": 1})
                ids[crowd & (ids == 0)] = 255
            expected[f"{split}/images/{i:012d}"] = ids
        document = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
        write(root / "annotations" / f"instances_{split}2017.json", document)
        write(
            root / "annotations" / f"captions_{split}2017.json", {"images": images, "annotations": [{"caption": "a"}]}
        )
    return expected


def labelme_shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme_document(name: str, shapes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **size, **more}


def labelme(root: Path) -> Expected:
    """One folder of JSON and pictures, with a path from Windows and an unlabelled picture."""
    expected: Expected = {}
    for i in range(3):
        image_bgr, ids = scene(i)
        left, top, right, bottom = corners(ids, 2)
        shapes = [
            labelme_shape("red", outline(ids, 1)),
            labelme_shape("blau – ü", [(right, bottom), (left, top)], "rectangle"),
            labelme_shape("red", [(3, 3)], "point"),
        ]
        name = f"кадр {i}.png"
        write(root / name, png(image_bgr))
        path = name if i else f"C:\\Users\\me\\Bilder\\{name}"
        write(root / f"кадр {i}.json", labelme_document(path, shapes))
        # sorted by name, "blau – ü" comes before "red"
        expected[f"images/кадр {i}"] = np.array([0, 2, 1], np.uint8)[ids]
    write(root / "unlabelled.png", png(scene(9)[0]))
    return expected


def yolo(root: Path) -> Expected:
    """As Roboflow exports it: paths upwards in data.yaml, valid/, a picture without objects, one without a label file."""
    expected: Expected = {}
    for split, folder, first in (("train", "train", 0), ("val", "valid", 10)):
        for i in range(first, first + 3):
            image_bgr, ids = scene(i)
            ids = ids.copy()
            write(root / folder / "images" / f"кадр {i}.jpg", jpeg(image_bgr))
            lines = []
            for class_id in (1, 2) if i < first + 2 else ():
                shares = (f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in outline(ids, class_id))
                lines.append(f"{class_id - 1} {' '.join(shares)}")
            if i < 12:
                write(root / folder / "labels" / f"кадр {i}.txt", "\r\n".join(lines))
            if not lines:
                ids[:] = 0
            expected[f"{split}/images/кадр {i}"] = ids
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['red', 'no']\n"
    write(root / "data.yaml", text)
    return expected


def brush_rle(values: NDArray[np.uint8]) -> list[int]:
    """Pack (H, W, 4) values as Label Studio does: runs of equal values, and single values, in the shortest width."""
    flat, widths = values.reshape(-1).tolist(), (3, 4, 8, 16)
    bits = f"{len(flat):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0

    def block(is_run: bool, own: list[int]) -> str:
        index = next(i for i, width in enumerate(widths) if len(own) <= 1 << width)
        written = own[:1] if is_run else own
        return f"{is_run:b}{index:02b}{len(own) - 1:0{widths[index]}b}" + "".join(f"{value:08b}" for value in written)

    single: list[int] = []
    while place < len(flat):
        end = place + 1
        while end < len(flat) and flat[end] == flat[place] and end - place < 1 << 16:
            end += 1
        if end - place > 1:
            bits += block(False, single) if single else ""
            bits += block(True, flat[place:end])
            single = []
        else:
            single.append(flat[place])
            if len(single) == 1 << 16:
                bits, single = bits + block(False, single), []
        place = end
    bits += block(False, single) if single else ""
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def brush(inside: NDArray[np.bool_]) -> list[int]:
    """Return a brush of one colour, whose alpha is the mask."""
    return brush_rle(np.where(inside[..., None], np.array([30, 144, 255, 255]), 0).astype(np.uint8))


def studio_result(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    named = {f"{kind}labels": [label]}
    return {"type": f"{kind}labels", "from_name": "label", "to_name": "image", **size, "value": {**value, **named}}


def studio_points(ids: Ids, class_id: int) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in outline(ids, class_id)]


def label_studio(root: Path) -> Expected:
    """A project's JSON: uploaded pictures, polygons and brushes, an empty annotation, and a task that nobody did."""
    expected: Expected = {}
    tasks = []
    for i in range(4):
        image_bgr, ids = scene(i)
        ids = ids.copy()
        write(root / "images" / f"{i}a2b3c4d-bild {i}.png", png(image_bgr))
        result = [
            {**studio_result("polygon", "rot", points=studio_points(ids, 1)), "id": "p"},
            {**studio_result("brush", "ähre", format="rle", rle=brush(ids == 2)), "id": "b"},
            {**studio_result("keypoint", "rot", x=3, y=3, width=0.5), "id": "k"},
        ]
        guess = [studio_result("polygon", "guess", points=studio_points(ids, 1))]
        if i == 2:
            result, ids[:] = [], 0
        annotations = [{"id": i, "was_cancelled": False, "ground_truth": False, "result": result}] if i < 3 else []
        tasks.append(
            {
                "id": i,
                "annotations": annotations,
                "predictions": [{"result": guess}],
                "file_upload": f"{i}a2b3c4d-bild {i}.png",
                "data": {"image": f"/data/upload/1/{i}a2b3c4d-bild {i}.png"},
            }
        )
        if i < 3:
            expected[f"images/{i}a2b3c4d-bild {i}"] = np.array([0, 1, 2], np.uint8)[ids]
    write(root / "project-1-at-2026.json", json.dumps(tasks, ensure_ascii=False))
    return expected


def via_polygon(ids: Ids, class_id: int) -> dict[str, Any]:
    x, y = zip(*outline(ids, class_id), strict=True)
    return {"name": "polygon", "all_points_x": list(x), "all_points_y": list(y)}


def via_region(shape: Mapping[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": dict(shape), "region_attributes": attributes}


def via(root: Path) -> Expected:
    """A JSON of version 1 beside the pictures of each split, as Mask R-CNN's balloons have it, and a point."""
    expected: Expected = {}
    for split, first in (("train", 0), ("val", 10)):
        images = {}
        for i in range(first, first + 2):
            image_bgr, ids = scene(i)
            left, top, right, bottom = corners(ids, 2)
            rect = {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top}
            regions = [
                via_region(via_polygon(ids, 1), name="red"),
                via_region(rect, name="blü"),
                via_region({"name": "point", "cx": 3, "cy": 3}, name="red"),
            ]
            data = jpeg(image_bgr)
            write(root / split / f"{i}.jpg", data)
            entry = {
                "fileref": "",
                "size": len(data),
                "filename": f"{i}.jpg",
                "base64_img_data": "",
                "file_attributes": {},
            }
            images[f"{i}.jpg{len(data)}"] = {**entry, "regions": {str(k): region for k, region in enumerate(regions)}}
            expected[f"{split}/images/{i}"] = np.array([0, 2, 1], np.uint8)[ids]
        write(root / split / "via_region_data.json", images)
    return expected


def supervisely_bitmap(inside: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a bitmap as Supervisely's SDK writes it: a palette PNG whose background is transparent, packed again."""
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    image = Image.fromarray(inside[top : rows.max() + 1, left : columns.max() + 1].astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    data = io.BytesIO()
    image.save(data, "PNG", transparency=0, optimize=0)
    return {"data": base64.b64encode(zlib.compress(data.getvalue())).decode(), "origin": [left, top]}


def supervisely_object(title: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": 1, "classId": 7, "classTitle": title, "geometryType": kind, "tags": [], "labelerLogin": "me", **more}


def rings(exterior: Any, *interior: Any) -> dict[str, Any]:
    return {"exterior": exterior, "interior": list(interior)}


def supervisely(root: Path) -> Expected:
    """A project of two datasets: a polygon, a bitmap, a line, a picture without objects and one without annotation."""
    expected: Expected = {}
    classes = [
        {"title": "rot", "shape": "polygon", "color": "#FA3253", "geometry_config": {}},
        {"title": "blü", "shape": "bitmap", "color": "#3D3DF5", "geometry_config": {}},
    ]
    write(root / "project" / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})
    for split, first in (("train", 0), ("val", 10)):
        for i in range(first, first + 3):
            image_bgr, ids = scene(i)
            ids = ids.copy()
            dataset = root / "project" / split
            objects = [
                supervisely_object("rot", "polygon", points=rings(outline(ids, 1))),
                supervisely_object("blü", "bitmap", bitmap=supervisely_bitmap(ids == 2)),
                supervisely_object("rot", "line", points=rings([[1, 1], [9, 9]])),
            ]
            if i == first + 2:
                objects, ids[:] = [], 0
            size = {"height": HEIGHT, "width": WIDTH}
            write(dataset / "img" / f"{i}.jpg", jpeg(image_bgr))
            write(dataset / "ann" / f"{i}.jpg.json", {"description": "", "tags": [], "size": size, "objects": objects})
            expected[f"{split}/images/{i}"] = ids
        write(dataset / "img" / "more.jpg", jpeg(scene(first + 9)[0]))
    return expected


def voc_color(index: int) -> tuple[int, int, int]:
    """Return the colour that VOC's own devkit gives an index, written down from its table for those used here."""
    return {0: (0, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}[index]


def voc_png(ids: Ids) -> bytes:
    """Encode ids as VOC does: a palette of 256 colours, the border the last."""
    image = Image.fromarray(ids).convert("P")
    colors = [voc_color(i) if i in (0, 8, 15, 255) else (i, i, i) for i in range(256)]
    image.putpalette([v for color in colors for v in color])
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def voc(root: Path) -> Expected:
    """VOCdevkit with lists, a mask's border and pictures that have none."""
    base, expected = root / "VOCdevkit" / "VOC2012", Expected()
    for i in range(5):
        image_bgr, ids = scene(i)
        ids = np.array([0, 8, 15], np.uint8)[ids]  # cat, person
        ids[0, :] = 255
        write(base / "JPEGImages" / f"2007_{i:06d}.jpg", jpeg(image_bgr))
        write(base / "Annotations" / f"2007_{i:06d}.xml", "<annotation/>")
        if i < 4:
            write(base / "SegmentationClass" / f"2007_{i:06d}.png", voc_png(ids))
            write(base / "SegmentationObject" / f"2007_{i:06d}.png", voc_png(ids // 5))
            expected[f"{'train' if i < 2 else 'val'}/images/2007_{i:06d}"] = ids
    lists = base / "ImageSets" / "Segmentation"
    write(lists / "train.txt", "2007_000000\n2007_000001\n")
    write(lists / "val.txt", "2007_000002\r\n2007_000003\r\n")
    write(lists / "trainval.txt", "".join(f"2007_{i:06d}\n" for i in range(4)))
    return expected


CVAT_LABELS = """<labels>
  <label><name>red</name><color>#fa3253</color><type>any</type><attributes></attributes></label>
  <label><name>blue</name><color>#3d3df5</color><type>any</type><attributes></attributes></label>
  <label><name>joint</name><color>#000001</color><type>points</type><parent>body</parent></label>
</labels>"""


def cvat_xml(images: str, labels: str = CVAT_LABELS) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>t</name><mode>annotation</mode>{labels}</task><dumped>2026</dumped></meta>
  {images}
</annotations>
"""


def cvat(root: Path) -> Expected:
    """A task's export: polygon under a mask by z_order, folders in names, an image without shapes."""
    images, expected = [], Expected()
    for i in range(3):
        image_bgr, ids = scene(i)
        ids = ids.copy()
        name = f"ordner/bild {i}.png"
        write(root / "images" / name, png(image_bgr))
        left, top, right, bottom = corners(ids, 2)
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline(ids, 1))
        shapes = f"""<mask label="blue" source="manual" occluded="0" rle="0, {(right - left) * (bottom - top)}"
              left="{left}" top="{top}" width="{right - left}" height="{bottom - top}" z_order="1"></mask>
            <polygon label="red" source="manual" occluded="0" points="{points}" z_order="0">
              <attribute name="a">b</attribute></polygon>
            <polyline label="red" source="manual" occluded="0" points="1.00,1.00;9.00,9.00" z_order="0"></polyline>"""
        if i == 2:
            shapes, ids[:] = "", 0
        images.append(f'<image id="{i}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>')
        expected[f"images/bild {i}"] = ids
    write(root / "annotations.xml", cvat_xml("\n".join(images)))
    return expected


def oxford_pet(root: Path) -> Expected:
    """The two archives unpacked into one folder, with the macOS files that are in them."""
    expected: Expected = {}
    for i, name in enumerate(("Abyssinian_1", "Abyssinian_2", "beagle_1", "samoyed_7")):
        image_bgr, ids = scene(i)
        trimap = np.array([2, 1, 3], np.uint8)[ids]
        write(root / "images" / f"{name}.jpg", jpeg(image_bgr))
        write(root / "annotations" / "trimaps" / f"{name}.png", png(trimap))
        write(root / "annotations" / "trimaps" / f"._{name}.png", b"\0\5\x16\7")
        expected[f"{'train' if i < 3 else 'test'}/images/{name}"] = np.array([0, 1, 255], np.uint8)[ids]
    write(root / "images" / "Abyssinian_1.mat", b"MATLAB")
    write(root / "annotations" / "list.txt", "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\n")
    write(root / "annotations" / "trainval.txt", "Abyssinian_1 1 1 1\nAbyssinian_2 1 1 1\nbeagle_1 5 2 1\n")
    write(root / "annotations" / "test.txt", "samoyed_7 9 2 6\n")
    return expected


def bands(seed: int, count: int) -> tuple[Ids, Ids]:
    """Return a picture of vertical bands in so many greys, and the number of each pixel's band."""
    numbers = np.repeat(np.arange(WIDTH) * count // WIDTH, 1)[None, :].repeat(HEIGHT, 0).astype(np.uint8)
    numbers = np.roll(numbers, seed, axis=1)
    noise = np.random.default_rng(seed).integers(0, 9, (HEIGHT, WIDTH, 3))
    return (numbers[..., None] * (200 // count) + 20 + noise).astype(np.uint8), numbers


def camvid(root: Path) -> Expected:
    """SegNet's copy: index masks, void is 11, lists with paths of another machine."""
    expected: Expected = {}
    frames = {
        "train": ("0001TP_006690", "0001TP_006720", "0006R0_f00930"),
        "val": ("0016E5_07959",),
        "test": ("Seq05VD_f00000",),
    }
    for split, names in frames.items():
        for name in names:
            image_bgr, ids = bands(zlib.crc32(name.encode()), 12)
            write(root / split / f"{name}.png", png(image_bgr))
            write(root / f"{split}annot" / f"{name}.png", png(ids))
            expected[f"{split}/images/{name}"] = np.where(ids == 11, 255, ids).astype(np.uint8)
        listed = "".join(f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png\n" for n in names)
        write(root / f"{split}.txt", listed)
    return expected


def cityscapes(root: Path) -> Expected:
    """Two cities, all files of a release beside the label ids, and the test split without its annotations."""
    train_ids = np.full(34, 255, np.uint8)
    train_ids[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = np.arange(19)
    expected: Expected = {}
    frames = {
        "train": ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"),
        "val": ("lindau_000000_000019",),
        "test": ("berlin_000000_000019",),
    }
    for split, names in frames.items():
        for name in names:
            image_bgr, ids = bands(zlib.crc32(name.encode()), 34)
            if split == "test":
                ids[:] = 3
            city = name.partition("_")[0]
            write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", png(image_bgr))
            masks = root / "gtFine" / split / city
            write(masks / f"{name}_gtFine_labelIds.png", png(ids))
            write(masks / f"{name}_gtFine_color.png", png(image_bgr))
            write(masks / f"{name}_gtFine_instanceIds.png", png(ids.astype(np.uint16) * 1000))
            write(masks / f"{name}_gtFine_polygons.json", {"objects": []})
            if split != "test":
                expected[f"{split}/images/{name}_leftImg8bit"] = train_ids[ids]
    return expected


def roboflow(root: Path) -> Expected:
    """A version with three splits, values with a gap, and an image whose mask is missing."""
    expected: Expected = {}
    for i, split in enumerate(("train", "train", "valid", "test")):
        image_bgr, ids = scene(i)
        name = f"bild-{i}_png.rf.{i:04x}"
        write(root / split / f"{name}.jpg", jpeg(image_bgr))
        write(root / split / f"{name}_mask.png", png(np.array([0, 3, 1], np.uint8)[ids]))
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, unlabeled\n1, blue\n3, red\n")
        expected[f"{'val' if split == 'valid' else split}/images/{name}"] = np.array([0, 2, 1], np.uint8)[ids]
    write(root / "README.roboflow.txt", "text")
    return expected


def object_masks(root: Path) -> Expected:
    """Data Science Bowl: a folder per image, a mask per nucleus; images of the test have no masks."""
    expected: Expected = {}
    for i in range(3):
        image_bgr, ids = scene(i)
        name = f"{i:02d}ae65c1c6"
        write(root / "stage1_train" / name / "images" / f"{name}.png", png(image_bgr))
        for class_id in (1, 2):
            mask = 255 * (ids == class_id).astype(np.uint8)
            write(root / "stage1_train" / name / "masks" / f"{class_id:02d}7793a70d.png", png(mask))
        expected[f"train/images/{name}"] = (ids > 0).astype(np.uint8)
    write(root / "stage1_test" / "ff" / "images" / "ff.png", png(scene(9)[0]))
    return expected


BUILDERS: dict[str, Callable[[Path], Expected]] = {
    "coco": coco,
    "labelme": labelme,
    "yolo": yolo,
    "label-studio": label_studio,
    "via": via,
    "supervisely": supervisely,
    "voc": voc,
    "cvat": cvat,
    "oxford-pet": oxford_pet,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "roboflow": roboflow,
    "object-masks": object_masks,
}


def imported(root: Path) -> Expected:
    """Read the masks of a dataset as they are stored."""
    found: Expected = {}
    for path in sorted(root.rglob("masks/*")):
        data = np.frombuffer(path.read_bytes(), np.uint8)
        key = path.relative_to(root).with_suffix("").as_posix().replace("masks/", "images/")
        found[key] = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
    return found


def same(found: Expected, expected: Expected) -> bool:
    """Tell whether the same images have the same masks."""
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found)
