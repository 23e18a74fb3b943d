"""What becomes of the labels of YOLO, Label Studio, VIA and Supervisely: shapes, paths, splits, and what is left out."""

from __future__ import annotations

import base64
import json
import math
import unicodedata
import zlib

import exif
import numpy as np
import pytest
from datasets import png
from foreign_datasets import (
    HEIGHT,
    WIDTH,
    brush,
    brush_rle,
    imported,
    rings,
    scene,
    studio_result,
    supervisely_bitmap,
    supervisely_object,
    via_region,
    write,
)

from edge_runtime.errors import UsageError
from training.errors import DataError
from training.importers import import_dataset
from training.importers.brush import brush_mask

PICTURE = png(scene(0)[0])


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def area(*boxes, size=(HEIGHT, WIDTH)):
    """Return a mask of boxes (left, top, right, bottom, class), the later on top."""
    mask = np.zeros(size, np.uint8)
    for left, top, right, bottom, class_id in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


def run(kind, src, **options):
    """Import and return the summary and the masks by image."""
    summary = import_dataset(kind, src, src.parent / "data", **options)
    return summary, imported(src.parent / "data")


def only(masks):
    (mask,) = masks.values()
    return mask


def refused(kind, src, **options):
    """Return the message of a refused import, without the folder."""
    with pytest.raises(DataError) as caught:
        import_dataset(kind, src, src.parent / "data", **options)
    assert not (src.parent / "data").exists()
    return "\n".join(getattr(caught.value, "problems", [str(caught.value)])).replace(f"{src}/", "")


def turned_picture():
    """Return a JPEG stored in 64x40 and shown in 40x64."""
    return exif.jpeg(scene(0)[0], exif.block(6))


def yolo_line(class_number, *corners):
    return " ".join([str(class_number), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners)])


def square(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


SQUARE = yolo_line(0, *square(8, 8, 24, 24))


def yolo(src, labels, config="names: [red, blue]\n", images="images", folder="labels"):
    """Write a folder of images with label files by name; None is an image without one."""
    for i, (name, text) in enumerate(labels.items()):
        write(src / images / f"{name}.png", png(scene(i)[0]))
        if text is not None:
            write(src / folder / f"{name}.txt", text)
    if config is not None:
        write(src / "data.yaml", config)


class TestYolo:
    def test_the_smaller_polygon_is_on_top_whatever_the_order(self, src):
        lines = [yolo_line(1, *square(10, 10, 20, 20)), yolo_line(0, *square(5, 5, 30, 30))]
        yolo(src, {"a": "\n".join(lines), "b": "\n".join(lines[::-1])})
        _, masks = run("yolo", src)
        expected = area((5, 5, 30, 30, 1), (10, 10, 20, 20, 2))
        assert all(np.array_equal(mask, expected) for mask in masks.values())

    def test_parts_that_are_joined_by_a_line_are_filled_without_it(self, src):
        first, second = square(4, 4, 14, 14), square(40, 20, 60, 36)
        joined = [*first, first[0], second[0], *second[1:], second[0], first[0]]
        yolo(src, {"a": yolo_line(0, *joined)}, "names: [red]\n")
        _, masks = run("yolo", src)
        assert np.array_equal(only(masks), area((4, 4, 14, 14, 1), (40, 20, 60, 36, 1)))

    def test_shares_are_of_the_image_as_it_is_shown(self, src):
        write(src / "images" / "a.jpg", turned_picture())
        write(src / "labels" / "a.txt", "0 0 0 0.5 0 0.5 0.25 0 0.25\n")
        write(src / "data.yaml", "names: [red]\n")
        _, masks = run("yolo", src)
        assert np.array_equal(only(masks), area((0, 0, 20, 16, 1), size=(WIDTH, HEIGHT)))

    @pytest.mark.parametrize(
        ("config", "images", "folder"),
        [
            ("path: .\ntrain: images/train\nnames: {0: red}\n", "images/train", "labels/train"),
            ("path: ../datasets/mine\ntrain: images/train\nnames: {0: red}\n", "images/train", "labels/train"),
            ("path: C:\\Users\\me\\mine\ntrain: images\\train\nnames: {0: red}\n", "images/train", "labels/train"),
            ("train: ../train/images\nnames: [red]\n", "train/images", "train/labels"),
            ("train: /content/mine/train/images\nnames: [red]\n", "train/images", "train/labels"),
            ("train: [images/first, images/train]\nnames: [red]\n", "images/train", "labels/train"),
            ("train: ./train\nnames: [red]\n", "train", "train"),
            ("train: train.txt\nnames: [red]\n", "images/train", "labels/train"),
            ("path: ./\ntrain: lists/train.txt\nnames: [red]\n", "images/train", "labels/train"),
            ("\ufefftrain: images/train\r\nnames:\r\n- red\r\n", "images/train", "labels/train"),
            ("train: gone\nnames: [red]\n", "train/images", "train/labels"),
            (None, "images/train", "labels/train"),
        ],
    )
    def test_train_is_found_wherever_the_paths_of_another_machine_lead(self, src, config, images, folder):
        yolo(src, {"a": SQUARE}, config, images, folder)
        write(src / "train.txt", f"./{images}/a.png\n")
        write(src / "lists" / "train.txt", f"/home/me/mine/{images}/a.png\n")
        summary, masks = run("yolo", src)
        assert summary.images == {"train": 1}
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 1)))
        is_lost = any("lists no image that is there" in line for line in summary.left_out)
        assert is_lost == ("gone" in (config or ""))

    @pytest.mark.parametrize("folder", ["images", ".", "mine/first"])
    def test_labels_may_lie_beside_their_images(self, src, folder):
        yolo(src, {"a": SQUARE}, None, images=folder, folder=folder)
        _, masks = run("yolo", src)
        assert only(masks).sum() == 256

    def test_lists_name_images_in_any_unicode_form_and_name_what_is_not_there(self, src):
        yolo(src, {unicodedata.normalize("NFD", "café"): SQUARE}, "train: train.txt\nnames: [red]\n")
        long = "x" * 300
        write(src / "train.txt", f"..\\images\\{unicodedata.normalize('NFC', 'Café')}.PNG\nother/{long}.png\n..\n")
        summary, masks = run("yolo", src)
        assert only(masks).any()
        assert [line.split(" — ")[0] for line in summary.left_out] == [f"other/{long}.png", ".."]

    def test_nothing_outside_of_the_folder_is_read(self, src, tmp_path):
        write(tmp_path / "other" / "images" / "secret.png", PICTURE)
        write(tmp_path / "other" / "labels" / "secret.txt", SQUARE)
        yolo(src, {"a": SQUARE}, f"path: ../other\ntrain: images\nval: {tmp_path}/other/images\nnames: [red]\n")
        summary, _ = run("yolo", src)
        assert summary.images == {"train": 1}
        assert not [line for line in summary.left_out if "secret" in line or "lists no image" in line]

    def test_an_image_of_two_splits_is_taken_once_and_that_is_said(self, src):
        yolo(src, {"a": SQUARE, "b": SQUARE}, "train: images\nval: images\ntest: gone\nnames: [red]\n")
        summary, _ = run("yolo", src)
        assert summary.images == {"train": 2}
        assert any(
            note.startswith("2 images of val are images of train, too: they are taken once, in train")
            for note in summary.notes
        )
        assert [line.split(" — ")[1] for line in summary.left_out] == ["test: gone"]

    @pytest.mark.parametrize(
        ("config", "names"),
        [
            ("nc: 2\nnames: [yes, 010]\n", ["yes", "010"]),
            ("names: {1: 'null', 0: 'a: b'}\n", ["a: b", "null"]),
            ("names:\n  0: собака\n  5: no\n", ["собака"]),
            ("nc: 2\n", ["class_0", "class_1"]),
            (None, ["Ä", "#b"]),
        ],
    )
    def test_names_are_texts_from_a_list_a_mapping_or_classes_txt(self, src, config, names):
        lines = [SQUARE, yolo_line(1, *square(40, 0, 50, 10))] if len(names) > 1 else [SQUARE]
        yolo(src, {"a": "\n".join(lines)}, config)
        if config is None:
            write(src / "classes.txt", "\ufeffÄ\r\n#b\r\n")
        summary, _ = run("yolo", src)
        assert [c.name for c in summary.classes] == ["background", *names]

    def test_images_without_labels_are_background_and_counted(self, src):
        yolo(src, {"a": SQUARE, "b": "", "c": None, "d": " \r\n"})
        summary, masks = run("yolo", src)
        assert [int(mask.sum()) for mask in masks.values()] == [256, 0, 0, 0]
        assert (
            "1 images without a label file: all background, as Ultralytics takes them (first: images/c.png)"
            in summary.notes
        )
        assert "3 images without any object: their masks are all background" in summary.notes

    def test_label_files_without_an_image_are_named(self, src):
        yolo(src, {"a": SQUARE})
        write(src / "labels" / "b.txt", SQUARE)
        write(src / "labels" / "classes.txt", "red\n")
        summary, _ = run("yolo", src)
        assert [line.replace(f"{src}/", "") for line in summary.left_out] == ["labels/b.txt — no image of this name"]

    def test_images_elsewhere_are_counted(self, src):
        yolo(src, {"a": SQUARE}, None)
        write(src / "preview.png", PICTURE)
        summary, _ = run("yolo", src)
        assert summary.images == {"all": 1}
        assert "1 images outside of images/ and without labels: not imported (first: preview.png)" in summary.notes

    def test_names_are_paired_in_any_unicode_form(self, src):
        name = "café"
        write(src / "images" / f"{unicodedata.normalize('NFD', name)}.png", PICTURE)
        write(src / "labels" / f"{unicodedata.normalize('NFC', name)}.txt", SQUARE)
        summary, masks = run("yolo", src)
        assert only(masks).any()
        assert [c.name for c in summary.classes] == ["background", "class_0"]

    def test_boxes_among_polygons_are_counted(self, src):
        yolo(src, {"a": f"{SQUARE}\n1 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1 0.97"})
        summary, masks = run("yolo", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 1)))
        assert any(note.startswith("2 boxes without a polygon: not drawn (first: ") for note in summary.notes)

    def test_a_confidence_behind_the_corners_is_not_used(self, src):
        yolo(src, {"a": f"{SQUARE} 0.87"})
        summary, masks = run("yolo", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 1)))
        assert any("confidence or track id" in note for note in summary.notes)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0 0.5 0.5 0.1 0.1", "boxes without a polygon: not drawn (first: labels/a.txt: line 1)"),
            ("", "no polygon in its label files"),
            ("0 320 240 400 240 400 300", "labels/a.txt: line 1 — a coordinate of 400 — expected shares of 1"),
            (
                "3 0.1 0.1 0.5 0.1 0.5 0.5",
                "labels/a.txt: line 1 — class 3 — expected one of the 2 classes, from 0 to 1",
            ),
            ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "labels/a.txt: line 1 — class -1 — expected a whole number from 0"),
            ("red 0.1 0.1 0.5 0.1 0.5 0.5", "labels/a.txt: line 1 — class is 'red' — expected a number"),
            ("\n0 0.1 0.1", "labels/a.txt: line 2 — 2 numbers after the class"),
            ("0 0.1,0.1,0.5,0.1,0.5,0.5", "labels/a.txt: line 1 — 1 numbers after the class"),
            ("0 0.1 0.1 0.5 x 0.5 0.5", "labels/a.txt: line 1 — points are"),
            (b"\xff\xfe0", "labels/a.txt — not UTF-8"),
        ],
    )
    def test_labels_that_cannot_be_used_are_refused(self, src, text, message):
        yolo(src, {"a": text})
        assert message in refused("yolo", src)

    def test_a_bad_line_may_be_left_out(self, src):
        yolo(src, {"a": f"{SQUARE}\n0 0.1 0.1", "b": SQUARE})
        summary, masks = run("yolo", src, skip_bad=True)
        assert all(np.array_equal(mask, area((8, 8, 24, 24, 1))) for mask in masks.values())
        assert "labels/a.txt: line 2 — 2 numbers after the class" in "\n".join(summary.left_out)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"data.yaml": "names: [a"}, "data.yaml — not valid YAML"),
            ({"data.yaml": "names: a\n"}, "data.yaml — names is 'a' — expected a list"),
            ({"data.yaml": "names: {a: 0}\n"}, "data.yaml — names is {'a': '0'}"),
            ({"data.yaml": "kpt_shape: [17, 3]\nnames: [a]\n"}, "labels of key points"),
            ({"data.yaml": "train: {a: b}\nnames: [a]\n"}, "data.yaml — train is"),
            ({"one.yaml": "names: [a]\n", "two.yaml": "names: [a]\n"}, "one.yaml, two.yaml — expected one of them"),
            ({"labels/a.txt": None}, "1 images, none with a label file"),
        ],
    )
    def test_a_folder_that_cannot_be_used_is_refused(self, src, files, message):
        yolo(src, {"a": SQUARE}, None)
        for name, text in files.items():
            write(src / name, text) if text else (src / name).unlink()
        assert message in refused("yolo", src)


def studio_task(*results, image="/data/upload/1/a.png", **more):
    return {"id": 7, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results)}], **more}


def studio(src, *tasks, images=("images/a.png",)):
    for i, name in enumerate(images):
        write(src / name, png(scene(i)[0]))
    write(src / "project.json", json.dumps(tasks, ensure_ascii=False))


def percent(left, top, right, bottom):
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in square(left, top, right, bottom)]


def overlong(*, is_run):
    """Return a brush that stops before the end of the image, and then has a block that goes beyond it."""
    bits = f"{4 * WIDTH * HEIGHT:032b}{7:05b}" + f"{15:04b}" * 4
    bits += f"100{4 * WIDTH * HEIGHT - 2:016b}{0:08b}" + f"{is_run:b}00{9:016b}" + "1" * 8 * (1 if is_run else 10)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


POLYGON = studio_result("polygon", "red", points=percent(8, 8, 24, 24))


class TestLabelStudio:
    def test_boxes_are_turned_about_their_corner_and_ellipses_about_their_centre(self, src):
        studio(
            src,
            studio_task(
                studio_result("rectangle", "a", x=50, y=10, width=25, height=25, rotation=90),
                studio_result("ellipse", "b", x=75, y=70, radiusX=6.25, radiusY=20, rotation=90),
            ),
        )
        _, masks = run("label-studio", src)
        mask = only(masks)
        assert np.array_equal(mask == 1, area((22, 4, 32, 20, 1)) == 1)
        rows, columns = np.nonzero(mask == 2)
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (40, 55, 24, 31)
        assert (mask == 2).sum() == pytest.approx(math.pi * 8 * 4, abs=4)

    def test_the_later_region_is_on_top(self, src):
        studio(src, studio_task(studio_result("rectangle", "b", x=0, y=0, width=100, height=100), POLYGON))
        _, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((0, 0, WIDTH, HEIGHT, 1), (8, 8, 24, 24, 2)))

    @pytest.mark.parametrize("seed", range(4))
    def test_brushes_have_the_alpha_of_any_colours(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 256, (9, 13, 4), dtype=np.uint8)
        values[2:5] = (0, 0, 0, 0)
        values[6:, :9] = (1, 2, 3, 255)
        assert np.array_equal(brush_mask(brush_rle(values), (9, 13), "x"), values[..., 3] > 0)

    def test_long_runs_are_cut_into_blocks(self):
        inside = np.zeros((200, 300), np.bool_)
        inside[50:60, 7:290] = True
        white = np.repeat(inside[..., None], 4, axis=2).astype(np.uint8) * 255
        assert np.array_equal(brush_mask(brush_rle(white), inside.shape, "x"), inside)

    @pytest.mark.parametrize(
        ("rle", "message"),
        [
            (brush(np.ones((HEIGHT, WIDTH), np.bool_))[:9], "brush ends in the middle"),
            ([], "brush ends in the middle"),
            (brush(np.ones((9, 9), np.bool_)), "brush of 324 values — expected 10240, four for each pixel of 64x40"),
            (overlong(is_run=True), "brush of more than 10240 values"),
            (overlong(is_run=False), "brush of more than 10240 values"),
            ([1, 2, 999], "rle holds something else than bytes"),
            (["a"], "rle holds something else than bytes"),
            ("abc", "rle is 'abc' — expected list"),
        ],
    )
    def test_damaged_brushes_are_refused(self, src, rle, message):
        studio(src, studio_task(studio_result("brush", "red", format="rle", rle=rle)))
        assert message in refused("label-studio", src)

    def test_tags_of_shape_and_label_are_joined_by_their_id(self, src):
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        shape = {"points": percent(8, 8, 24, 24)}
        studio(
            src,
            studio_task(
                {"id": "x", "type": "polygon", "value": shape, **size},
                {
                    "id": "y",
                    "type": "brush",
                    "value": {"format": "rle", "rle": brush(area((40, 0, 50, 9, 1)) > 0)},
                    **size,
                },
                {"id": "x", "type": "labels", "value": {**shape, "labels": ["red"]}, **size},
                {"id": "y", "type": "labels", "value": {"labels": ["blue"]}, **size},
                {"id": "x", "type": "choices", "value": {"choices": ["occluded"]}},
            ),
        )
        summary, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 2), (40, 0, 50, 9, 1)))
        assert [c.name for c in summary.classes] == ["background", "blue", "red"]

    @pytest.mark.parametrize("kind", ["polygon", "rectangle"])
    def test_two_shapes_of_one_id_are_two_regions(self, src, kind):
        box = {"x": 100 * 40 / WIDTH, "y": 0, "width": 100 * 10 / WIDTH, "height": 100 * 9 / HEIGHT}
        other = {"points": percent(40, 0, 50, 9)} if kind == "polygon" else box
        studio(src, studio_task({**POLYGON, "id": "x"}, {**studio_result(kind, "blue", **other), "id": "x"}))
        _, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 2), (40, 0, 50, 9, 1)))

    @pytest.mark.parametrize(("times", "left"), [((None, None), 40), (("2026-01-02", "2026-01-01"), 8)])
    def test_of_several_annotations_of_a_task_in_json_min_the_last_is_taken_as_in_json(self, src, times, left):
        entries = []
        for x, time in zip((8, 40), times, strict=True):
            value = {"points": percent(x, 8, x + 9, 24), "polygonlabels": ["red"], "original_width": WIDTH}
            entry = {"id": 1, "image": "/data/upload/1/a.png", "label": [{**value, "original_height": HEIGHT}]}
            entries.append(entry | ({"updated_at": time} if time else {}))
        studio(src, *entries)
        summary, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((left, 8, left + 9, 24, 1)))
        assert any(
            note.startswith("1 tasks have several annotations: the ground truth, or else") for note in summary.notes
        )

    def test_bitmasks_are_pictures_of_the_whole_image(self, src):
        mask = area((5, 6, 30, 20, 255))
        rgba = np.repeat(mask[..., None], 4, axis=2)
        url = "data:image/png;base64," + base64.b64encode(png(rgba)).decode()
        studio(src, studio_task(studio_result("bitmask", "red", imageDataURL=url)))
        _, masks = run("label-studio", src)
        assert np.array_equal(only(masks), mask // 255)

    @pytest.mark.parametrize(
        ("image", "file"),
        [
            ("/data/upload/1/1a2b3c4d-a.png", "images/1a2b3c4d-a.png"),
            ("/data/upload/1/1a2b3c4d-a.png", "images/a.png"),
            ("/data/local-files/?d=set%20one/sub/a%2Bb.png", "set one/sub/a+b.png"),
            ("/data/local-files/?d=mine/a+b.png", "a+b.png"),
            ("http://localhost:8080/data/local-files/?d=mine/a.png", "other/mine/a.png"),
            ("s3://bucket/folder/a.png", "folder/a.png"),
            ("https://host/x/%D0%B0%20b.png?X-Amz-Signature=1&d2=3#top", "а b.png"),
            ("../../../../root/media/upload/4/a.png", "images/a.png"),
            ("C:\\data\\Images\\A.PNG", "images/a.png"),
            ("/data/upload/1/a%20b.png", "images/a b.png"),
            ("/data/upload/1/cafe\u0301.png", "images/caf\u00e9.png"),
        ],
    )
    def test_images_are_found_by_the_end_of_their_path(self, src, image, file):
        studio(src, studio_task(POLYGON, image=image), images=(file,))
        summary, masks = run("label-studio", src)
        assert only(masks).sum() == 256
        assert not summary.left_out

    def test_the_longest_common_path_decides_between_images_of_one_name(self, src):
        names = ("x/1/a.png", "x/2/a.png", "y/2/a.png")
        studio(src, studio_task(POLYGON, image="/data/local-files/?d=far/y/2/a.png"), images=names)
        summary, _ = run("label-studio", src)
        assert (src.parent / "data" / "images" / "a.png").read_bytes() == png(scene(2)[0])
        assert "2 images that no task lists: not imported (first: x/1/a.png)" in summary.notes

    def test_two_images_that_fit_equally_are_refused(self, src):
        studio(src, studio_task(POLYGON), images=("x/a.png", "y/a.png"))
        assert "may be x/a.png or y/a.png — expected one: add its folder to the name" in refused("label-studio", src)

    def test_a_folder_images_comes_before_others(self, src):
        studio(src, images=("copies/a.png", "images/a.png"))
        write(src / "export" / "project.json", json.dumps([studio_task(POLYGON)]))
        (src / "project.json").unlink()
        run("label-studio", src)
        assert (src.parent / "data" / "images" / "a.png").read_bytes() == png(scene(1)[0])

    def test_an_image_inside_the_task_is_used(self, src):
        url = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
        studio(src, studio_task(POLYGON, image=url), images=())
        _, masks = run("label-studio", src)
        assert only(masks).sum() == 256
        assert next((src.parent / "data" / "images").iterdir()).read_bytes() == PICTURE

    def test_an_image_that_is_not_there_is_named(self, src):
        studio(src, studio_task(POLYGON), {**studio_task(POLYGON, image="gone.png"), "id": 8})
        summary, _ = run("label-studio", src)
        assert summary.left_out[0].startswith("gone.png — image not found (1 regions, ")

    def test_of_several_annotations_the_ground_truth_or_else_the_last_is_taken(self, src):
        other = studio_result("polygon", "red", points=percent(0, 0, 10, 10))
        truth = {"id": 1, "ground_truth": True, "created_at": "2024-01-01", "result": [POLYGON]}
        early = {"id": 2, "created_at": "2024-01-02T10:00:00Z", "result": [other]}
        late = {"id": 3, "created_at": "2024-01-03T10:00:00Z", "result": [POLYGON]}
        skipped = {"id": 4, "created_at": "2025-01-01", "was_cancelled": True, "result": [other]}
        tasks = [
            {"id": i, "data": {"image": f"{i}.png"}, "annotations": annotations}
            for i, annotations in enumerate(([truth, early], [late, early], [early, late, skipped]))
        ]
        studio(src, *tasks, images=("0.png", "1.png", "2.png"))
        summary, masks = run("label-studio", src)
        assert all(np.array_equal(mask, area((8, 8, 24, 24, 1))) for mask in masks.values())
        assert any(note.startswith("3 tasks have several annotations: the ground truth") for note in summary.notes)

    def test_tasks_that_nobody_did_are_left_out_and_empty_ones_are_background(self, src):
        tasks = [
            {"id": 0, "data": {"image": "0.png"}, "annotations": [{"result": [POLYGON]}]},
            {"id": 1, "data": {"image": "1.png"}, "annotations": [{"result": []}]},
            {"id": 2, "data": {"image": "2.png"}, "annotations": []},
            {"id": 3, "data": {"image": "3.png"}, "annotations": [{"was_cancelled": True, "result": [POLYGON]}]},
        ]
        studio(src, *tasks, images=[f"{i}.png" for i in range(4)])
        summary, masks = run("label-studio", src)
        assert [int(mask.sum()) for mask in masks.values()] == [256, 0]
        assert any(note.startswith("1 tasks have no annotation: not imported") for note in summary.notes)
        assert any(note.startswith("1 tasks were skipped by their annotator: not imported") for note in summary.notes)

    def test_predictions_are_taken_only_if_there_are_no_annotations(self, src):
        studio(src, {"id": 1, "data": {"image": "a.png"}, "annotations": [], "predictions": [{"result": [POLYGON]}]})
        summary, masks = run("label-studio", src)
        assert only(masks).sum() == 256
        assert "1 exports have no annotations: their predictions are taken" in summary.notes

    def test_json_min_is_read_too(self, src):
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        shape = {"points": percent(8, 8, 24, 24), **size}
        entry = {
            "image": "/data/upload/1/1a2b3c4d-a.png",
            "id": 3,
            "poly": [shape],
            "label": [
                {**shape, "labels": ["red"]},
                {"x": 50, "y": 0, "width": 25, "height": 50, "rotation": 0, "rectanglelabels": ["blue"], **size},
            ],
            "annotator": 1,
            "annotation_id": 1,
            "created_at": "2026-01-01T00:00:00Z",
        }
        studio(src, entry)
        summary, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 2), (32, 0, 48, 20, 1)))
        assert not [note for note in summary.notes if "label" in note]

    def test_files_of_one_annotation_from_a_storage_are_read_too(self, src):
        write(src / "a.png", PICTURE)
        write(
            src / "annotations" / "1.json",
            {"id": 1, "result": [POLYGON], "task": {"id": 3, "data": {"image": "a.png"}}},
        )
        _, masks = run("label-studio", src)
        assert only(masks).sum() == 256

    def test_old_exports_call_annotations_completions(self, src):
        studio(
            src,
            {
                "id": 1,
                "data": {"img": "a.png"},
                "completions": [
                    {"created_at": 1600000000, "result": [POLYGON]},
                    {"created_at": 1600000001, "skipped": True, "result": []},
                ],
            },
        )
        _, masks = run("label-studio", src)
        assert only(masks).sum() == 256

    def test_a_closed_vector_is_a_polygon_and_an_open_one_has_no_area(self, src):
        points = POLYGON["value"]["points"]
        vertices = [{"id": str(i), "x": x, "y": y, "isBezier": i == 0} for i, (x, y) in enumerate(points)]
        closed = studio_result("vector", "red", vertices=vertices, closed=True)
        opened = studio_result("vector", "red", vertices=vertices[:2], closed=False)
        studio(src, studio_task(closed, opened))
        summary, masks = run("label-studio", src)
        assert only(masks).sum() == 256
        assert sorted(note.partition(" (first")[0] for note in summary.notes) == [
            "1 curves of vectors are taken for straight lines",
            "1 vector results without an area: not drawn",
        ]

    def test_what_has_no_area_is_counted(self, src):
        keypoint = studio_result("keypoint", "nose", x=3, y=3, width=0.5)
        studio(src, studio_task(POLYGON, keypoint, {"type": "choices", "value": {"choices": ["sharp"]}}))
        summary, _ = run("label-studio", src)
        assert [c.name for c in summary.classes] == ["background", "red"]
        assert [note.partition(" (first")[0] for note in summary.notes] == [
            "1 keypoint results without an area: not drawn",
            "1 choices results without an area: not drawn",
        ]

    @pytest.mark.parametrize("labels", [{}, {"polygonlabels": []}, {"polygonlabels": [" "]}, {"labels": None}])
    def test_regions_without_any_label_are_one_class(self, src, labels):
        bare = {**POLYGON, "type": "polygon", "value": {"points": percent(8, 8, 24, 24), **labels}}
        studio(src, studio_task(bare))
        summary, masks = run("label-studio", src)
        assert [c.name for c in summary.classes] == ["background", "object"]
        assert only(masks).sum() == 256

    def test_a_region_without_a_label_among_others_is_counted(self, src):
        bare = {**POLYGON, "value": {"points": percent(40, 0, 50, 10)}}
        studio(src, studio_task(POLYGON, bare))
        summary, masks = run("label-studio", src)
        assert only(masks).sum() == 256
        assert any(note.startswith("1 regions without a label: not drawn") for note in summary.notes)

    def test_sizes_of_another_copy_are_refused(self, src):
        studio(src, studio_task({**POLYGON, "original_width": 6400, "original_height": 4000}))
        assert "the image is 64x40, its annotation is for 6400x4000" in refused("label-studio", src)

    def test_turned_images_are_annotated_as_they_are_shown(self, src):
        shown = {"original_width": HEIGHT, "original_height": WIDTH}
        studio(
            src, studio_task({**studio_result("rectangle", "red", x=0, y=0, width=50, height=25), **shown}), images=()
        )
        write(src / "a.png", turned_picture())
        _, masks = run("label-studio", src)
        assert np.array_equal(only(masks), area((0, 0, 20, 16, 1), size=(WIDTH, HEIGHT)))

    def test_folders_of_splits_become_splits(self, src):
        tasks = [studio_task(POLYGON, image=f"/data/local-files/?d=mine/{split}/a.png") for split in ("train", "valid")]
        studio(src, *tasks, images=("train/a.png", "valid/a.png"))
        summary, _ = run("label-studio", src)
        assert summary.images == {"train": 1, "val": 1}

    def test_other_json_files_are_named(self, src):
        studio(src, studio_task(POLYGON))
        write(src / "notes.json", {"categories": []})
        write(src / "damaged.json", "[{")
        summary, _ = run("label-studio", src)
        assert [line.replace(f"{src}/", "").split(" — ")[:2] for line in summary.left_out] == [
            ["notes.json", "no export of Label Studio: no tasks with annotations"],
            ["damaged.json", summary.left_out[1].split(" — ")[1]],
        ]

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            (studio_task("x"), "task 7 — result 0 is 'x' — expected an object"),
            (studio_task(studio_result("polygon", "a", points=[[1, 2], [3]])), "task 7: polygon 0 — points are"),
            (
                studio_task(studio_result("rectangle", "a", x=1, y=None, width=2, height=3)),
                "task 7: rectangle 0 — y is None",
            ),
            (studio_task(studio_result("polygon", 5, points=percent(0, 0, 9, 9))), "task 7: polygon 0 — label is 5"),
            (
                studio_task(studio_result("polygon", {"a": 1}, points=percent(0, 0, 9, 9))),
                "label is {'a': 1} — expected a text",
            ),
            (studio_task(POLYGON, image=["a.png"]), "task 7 — 0 images in its data"),
            ({"id": 7, "data": {"image": "a.png"}, "annotations": [{"result": None}]}, "task 7 — result is None"),
        ],
    )
    def test_tasks_that_cannot_be_used_are_refused(self, src, task, message):
        studio(src, task)
        assert message in refused("label-studio", src)

    def test_one_image_in_two_exports_is_refused(self, src):
        studio(src, studio_task(POLYGON))
        write(src / "older.json", (src / "project.json").read_bytes())
        assert "expected it once — keep one export" in refused("label-studio", src)


RECT = {"name": "rect", "x": 8, "y": 8, "width": 16, "height": 16}


def via_entry(name, *regions):
    return {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}


def via(src, *entries, images=("a.png",), name="via_region_data.json"):
    for i, image in enumerate(images):
        write(src / image, png(scene(i)[0]))
    return write(src / name, {f"{entry['filename']}{i}": entry for i, entry in enumerate(entries)})


class TestVia:
    def test_all_shapes_with_an_area_are_filled(self, src):
        circle = {"name": "circle", "cx": 12, "cy": 12, "r": 6}
        ellipse = {"name": "ellipse", "cx": 48, "cy": 20, "rx": 12, "ry": 4, "theta": math.pi / 2}
        line = {"name": "polyline", "all_points_x": [0, 9], "all_points_y": [0, 9]}
        regions = [via_region(shape, kind=shape["name"]) for shape in (circle, ellipse, line)]
        via(src, via_entry("a.png", *regions))
        summary, masks = run("via", src)
        assert (only(masks) == 1).sum() == pytest.approx(math.pi * 36, abs=5)
        rows, columns = np.nonzero(only(masks) == 2)
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (44, 51, 8, 31)
        assert [c.name for c in summary.classes] == ["background", "circle", "ellipse"]
        assert any(note.startswith("1 polyline shapes without an area: not drawn") for note in summary.notes)

    def test_the_later_region_is_on_top(self, src):
        whole = {"name": "rect", "x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
        via(src, via_entry("a.png", via_region(whole, c="b"), via_region(RECT, c="a")))
        _, masks = run("via", src)
        assert np.array_equal(only(masks), area((0, 0, WIDTH, HEIGHT, 2), (8, 8, 24, 24, 1)))

    def test_regions_without_attributes_are_one_class(self, src):
        via(src, via_entry("a.png", via_region(RECT)), {**via_entry("b.png"), "regions": {}}, images=("a.png", "b.png"))
        summary, masks = run("via", src)
        assert [c.name for c in summary.classes] == ["background", "object"]
        assert [int(mask.sum()) for mask in masks.values()] == [256, 0]
        assert "1 images without any object: their masks are all background" in summary.notes

    @pytest.mark.parametrize(
        ("attributes", "name"),
        [
            ({"what": "cell"}, "cell"),
            ({"what": {"cell": True, "dead": False}}, "cell"),
            ({"quality": {"blurred": True}, "Label": "cell"}, "cell"),
            ({"note": "", "kind": "cell"}, "cell"),
            ({"name": "big", "class": "cell"}, "cell"),
            ({"name": "", "type": "cell", "quality": "good"}, "cell"),
            ({"id": 5}, "5"),
        ],
    )
    def test_the_class_is_the_attribute_that_names_one(self, src, attributes, name):
        via(src, via_entry("a.png", via_region(RECT, **attributes)))
        summary, masks = run("via", src)
        assert [c.name for c in summary.classes] == ["background", name]
        assert only(masks).sum() == 256

    @pytest.mark.parametrize("pair", [("colour", "size"), ("name", "type"), ("Class", "label")])
    def test_several_attributes_of_which_any_may_be_the_class_are_refused(self, src, pair):
        via(src, via_entry("a.png", via_region(RECT, **dict.fromkeys(pair, "x"))))
        message = refused("via", src)
        assert f"regions have the attributes {', '.join(pair)} — expected one, or one named class or label" in message
        assert "edge-unet data import via … --attribute NAME" in message

    def test_the_user_may_name_the_attribute(self, src):
        via(src, via_entry("a.png", via_region(RECT, colour="red", size="big", label="x")))
        message = refused("via", src, attribute="weight")
        assert "no region has a value of the attribute 'weight' — expected one of colour, size, label" in message
        assert [c.name for c in run("via", src, attribute="size")[0].classes] == ["background", "big"]

    def test_other_formats_have_no_attribute(self, src):
        src.mkdir()
        with pytest.raises(UsageError, match="attribute 'size' — of a coco dataset — expected it for via only"):
            import_dataset("coco", src, src.parent / "out", attribute="size")

    def test_a_region_of_two_classes_or_none_is_refused_or_left_out(self, src):
        both = via_region(RECT, kind={"a": True, "b": True})
        via(src, via_entry("a.png", via_region(RECT, kind="a"), both, via_region(RECT)))
        message = refused("via", src)
        assert "a.png: region 1 — kind is {'a': True, 'b': True} — expected one class" in message
        assert "a.png: region 2 — kind is None — expected one class" in message
        summary, masks = run("via", src, skip_bad=True)
        assert only(masks).sum() == 256
        assert len(summary.left_out) == 2

    def test_a_project_has_its_options_in_their_order(self, src):
        project = {
            "_via_settings": {"core": {"default_filepath": "D:\\"}},
            "_via_img_metadata": {"a.png1": via_entry("a.png", via_region(RECT, k="z"), via_region(RECT, k="a"))},
            "_via_attributes": {
                "region": {"k": {"type": "radio", "options": {"z": "", "a": "", "unused": ""}}},
                "file": {},
            },
            "_via_data_format_version": "2.0.10",
        }
        write(src / "images" / "a.png", PICTURE)
        write(src / "via_project.json", b"\xef\xbb\xbf" + json.dumps(project, indent=1).replace("\n", "\r\n").encode())
        summary, _ = run("via", src)
        assert [c.name for c in summary.classes] == ["background", "z", "a"]

    @pytest.mark.parametrize("header", ["filename", "#filename"])
    @pytest.mark.parametrize(("delimiter", "end"), [(",", "\n"), (";", "\r\n")])
    def test_csv_has_a_row_per_region(self, src, header, delimiter, end):
        columns = [
            "file_size",
            "file_attributes",
            "region_count",
            "region_id",
            "region_shape_attributes",
            "region_attributes",
        ]
        cell = lambda value: '"' + json.dumps(value).replace('"', '""') + '"'  # noqa: E731
        other = {"name": "rect", "x": 40, "y": 0, "width": 10, "height": 10}
        rows = [
            [header, *columns],
            ["a.png", "1", '"{}"', "2", "0", cell(RECT), cell({"name": "red"})],
            ["a.png", "1", '"{}"', "2", "1", cell(other), cell({"name": "blue"})],
            ["b.png", "1", '"{}"', "0", "0", '"{}"', '"{}"'],
        ]
        write(src / "via_csv.csv", "\ufeff" + end.join(delimiter.join(row) for row in rows) + end)
        write(src / "a.png", PICTURE)
        write(src / "b.png", png(scene(1)[0]))
        _, masks = run("via", src)
        assert np.array_equal(masks["images/a"], area((8, 8, 24, 24, 2), (40, 0, 50, 10, 1)))
        assert not masks["images/b"].any()

    def test_csv_may_have_polygons_of_many_corners(self, src):
        corners = 40_000
        edge = np.linspace(8, 24, corners // 2).round(3).tolist()
        shape = {
            "name": "polygon",
            "all_points_x": edge + edge[::-1],
            "all_points_y": [8] * len(edge) + [24] * len(edge),
        }
        cell = json.dumps(shape).replace('"', '""')
        header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
        write(src / "via.csv", f'{header}\na.png,1,"{{}}",1,0,"{cell}","{{}}"\n')
        write(src / "a.png", PICTURE)
        _, masks = run("via", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 1)))

    def test_csv_beside_json_is_not_read_and_that_is_said(self, src):
        via(src, via_entry("a.png", via_region(RECT)))
        header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
        write(src / "b.csv", f'{header}\nx.png,1,"{{}}",0,0,"{{}}","{{}}"\n')
        write(src / "other.csv", "a,b\n1,2\n")
        summary, _ = run("via", src)
        assert [line.replace(f"{src}/", "") for line in summary.left_out] == [
            "other.csv — no file of VIA: it has no images with regions",
            "b.csv — not read, because there is JSON of VIA, too",
        ]

    def test_a_project_and_its_export_list_an_image_alike(self, src):
        entry = via_entry("a.png", via_region(RECT))
        via(src, entry)
        write(
            src / "via_project.json",
            {"_via_settings": {}, "_via_img_metadata": {"a.png1": entry}, "_via_attributes": {}},
        )
        summary, _ = run("via", src)
        assert summary.images == {"all": 1}

    def test_each_file_means_the_images_beside_it(self, src):
        for i, split in enumerate(("train", "val")):
            via(src / split, via_entry("a.png", via_region({**RECT, "x": 8 + i})))
            write(src / split / "a.png", png(scene(i)[0]))
        summary, masks = run("via", src)
        assert summary.images == {"train": 1, "val": 1}
        assert np.array_equal(masks["val/images/val_a"], area((9, 8, 25, 24, 1)))

    def test_two_files_that_differ_are_refused(self, src):
        via(src, via_entry("a.png", via_region(RECT)))
        via(src, via_entry("a.png"), name="old.json")
        assert "lists it with other regions — expected it once" in refused("via", src)

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("https://host/x/a%20b.png?v=1", "images/a b.png"),
            ("C:\\pictures\\A.png", "a.png"),
            ("../secret/a.png", "deep/er/a.png"),
        ],
    )
    def test_images_are_found_by_the_end_of_their_path(self, src, name, file):
        via(src, via_entry(name, via_region(RECT)), images=(file,))
        _, masks = run("via", src)
        assert only(masks).sum() == 256

    @pytest.mark.parametrize(
        ("region", "message"),
        [
            (via_region({"name": "star"}), "a.png: region 0 — shape 'star' — expected polygon, rect, circle, ellipse"),
            (via_region({"name": "rect", "x": 1, "y": 2, "width": "x"}), "a.png: region 0: rect — width is 'x'"),
            (via_region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}), "3 x and 1 y"),
            (via_region({"name": "polygon", "all_points_x": [1, 2, None], "all_points_y": [1, 2, 3]}), "points are"),
            (via_region({}), "a.png: region 0 — name is None — expected str"),
            ({"shape_attributes": RECT, "region_attributes": 5}, "region_attributes is 5"),
            (5, "a.png: region 0 — shape_attributes is None"),
        ],
    )
    def test_regions_that_cannot_be_used_are_refused(self, src, region, message):
        via(src, via_entry("a.png", region))
        assert message in refused("via", src)

    def test_version_3_is_refused_by_its_name(self, src):
        write(src / "via.json", {"project": {}, "config": {}, "attribute": {}, "file": {}, "view": {}, "metadata": {}})
        assert "a project of VIA 3 — expected VIA 1 or 2" in refused("via", src)


SIZE = {"height": HEIGHT, "width": WIDTH}
META = {"classes": [{"title": name, "shape": "any", "color": "#010203"} for name in ("b", "a")], "tags": []}


def supervisely(src, *objects, name="a.png", ann=None, meta=META, picture=PICTURE, **more):
    write(src / "ds" / "img" / name, picture)
    write(src / "ds" / "ann" / (ann or f"{name}.json"), {"size": SIZE, "objects": list(objects), **more})
    if meta:
        write(src / "meta.json", meta)


class TestSupervisely:
    def test_polygons_have_holes_and_the_later_object_is_on_top(self, src):
        outline = rings(square(4, 4, 34, 34), square(10, 10, 20, 20), square(24, 24, 30, 30))
        small = rings(square(12, 12, 16, 16))
        supervisely(
            src, supervisely_object("a", "polygon", points=outline), supervisely_object("b", "polygon", points=small)
        )
        summary, masks = run("supervisely", src)
        expected = area((4, 4, 34, 34, 2), (10, 10, 20, 20, 0), (24, 24, 30, 30, 0), (12, 12, 16, 16, 1))
        assert np.array_equal(only(masks), expected)
        assert [(c.name, c.color) for c in summary.classes[1:]] == [("b", (1, 2, 3)), ("a", (1, 2, 3))]

    @pytest.mark.parametrize(
        ("corners", "expected"),
        [
            ([[10, 5], [19, 14]], (10, 5, 20, 15)),
            ([[19, 14], [10, 5]], (10, 5, 20, 15)),
            ([[9.7, 5.2], [20.1, 15.4]], (10, 5, 20, 15)),
        ],
    )
    def test_boxes_in_whole_numbers_reach_to_the_end_of_their_last_pixel(self, src, corners, expected):
        supervisely(src, supervisely_object("a", "rectangle", points=rings(corners)))
        _, masks = run("supervisely", src)
        assert np.array_equal(only(masks), area((*expected, 1)))

    def test_corners_in_whole_numbers_are_centres_of_pixels(self, src):
        supervisely(src, supervisely_object("a", "polygon", points=rings([[0, 0], [20, 10], [0, 10]])))
        _, masks = run("supervisely", src)
        whole = only(masks).copy()
        (src.parent / "data").rename(src.parent / "whole")
        exact = rings([[0.5, 0.5], [20.5, 10.5], [0.5, 10.5]])
        supervisely(src, supervisely_object("a", "polygon", points=exact))
        _, masks = run("supervisely", src)
        assert np.array_equal(whole, only(masks))

    def test_turned_boxes_and_polygons_of_parts(self, src):
        box = supervisely_object("a", "oriented_bbox", points=[[10, 16], [29, 23]], angle=math.pi / 2)
        parts = [rings(square(40, 2, 50, 12), square(42, 4, 44, 6)), rings(square(52, 20, 60, 30))]
        supervisely(src, box, supervisely_object("b", "multipolygon", parts=parts))
        _, masks = run("supervisely", src)
        expected = area((16, 10, 24, 30, 2), (40, 2, 50, 12, 1), (42, 4, 44, 6, 0), (52, 20, 60, 30, 1))
        assert np.array_equal(only(masks), expected)

    def bitmap_forms():
        inside = area((30, 20, 50, 36, 1)) > 0
        inside[24:28, 35:40] = False
        crop = inside[20:36, 30:50]
        rgba = np.zeros((*crop.shape, 4), np.uint8)
        rgba[crop] = (0, 0, 0, 255)
        grey = crop.astype(np.uint8) * 255
        alpha = np.where(crop, 200, 60).astype(np.uint8)
        return inside, [
            ("bitmap", supervisely_bitmap(inside)["data"]),
            ("bitmap", base64.b64encode(zlib.compress(png(rgba))).decode()),
            ("bitmap", base64.b64encode(png(rgba)).decode()),
            ("bitmap", base64.b64encode(zlib.compress(png(grey))).decode()),
            ("alpha_mask", base64.b64encode(zlib.compress(png(alpha))).decode()),
        ]

    @pytest.mark.parametrize("form", range(5))
    def test_bitmaps_of_all_writers_lie_at_their_origin(self, src, form):
        inside, forms = TestSupervisely.bitmap_forms()
        kind, data = forms[form]
        supervisely(src, supervisely_object("a", kind, bitmap={"data": data, "origin": [30, 20]}))
        _, masks = run("supervisely", src)
        assert np.array_equal(only(masks), inside.astype(np.uint8))

    def test_a_bitmap_that_reaches_beyond_the_edge_is_cut(self, src):
        bitmap = {**supervisely_bitmap(area((0, 0, 30, 30, 1)) > 0), "origin": [-5, 20]}
        supervisely(src, supervisely_object("a", "bitmap", bitmap=bitmap))
        _, masks = run("supervisely", src)
        assert np.array_equal(only(masks), area((0, 20, 25, 40, 1)))

    def test_early_annotations_name_no_geometry_and_no_suffix(self, src):
        plain = {"classTitle": "a", "points": rings(square(8, 8, 24, 24)), "bitmap": None}
        bitmap = {"classTitle": "b", "points": rings([]), "bitmap": supervisely_bitmap(area((40, 0, 50, 9, 1)) > 0)}
        meta = {"classes": [{"title": "b", "shape": "bitmap", "color": "#F00"}, {"title": "a", "shape": "polygon"}]}
        supervisely(src, plain, bitmap, ann="a.json", meta=meta, tags=["red"])
        _, masks = run("supervisely", src)
        assert np.array_equal(only(masks), area((8, 8, 24, 24, 2), (40, 0, 50, 9, 1)))

    def test_without_meta_classes_are_sorted(self, src):
        objects = [supervisely_object(name, "rectangle", points=rings([[0, 0], [9, 9]])) for name in ("z", "y")]
        supervisely(src, *objects, meta=None)
        summary, _ = run("supervisely", src)
        assert [c.name for c in summary.classes] == ["background", "y", "z"]
        assert "2 classes are sorted by name, because there is no meta.json" in summary.notes

    def test_what_has_no_area_is_counted_and_its_class_left_out(self, src):
        line = supervisely_object("b", "line", points=rings([[1, 1], [9, 9]]))
        supervisely(src, supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]])), line)
        summary, _ = run("supervisely", src)
        assert [c.name for c in summary.classes] == ["background", "a"]
        assert any(note.startswith("1 line objects without an area: not drawn (first: ") for note in summary.notes)

    def test_tags_of_all_images_become_splits(self, src):
        box = supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]]))
        supervisely(src, box, tags=[{"name": "train", "value": None}])
        supervisely(src, box, name="b.png", picture=png(scene(1)[0]), tags=["val"])
        summary, _ = run("supervisely", src)
        assert summary.images == {"train": 1, "val": 1}

    def test_tags_of_some_images_do_not(self, src):
        box = supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]]))
        supervisely(src, box, tags=[{"name": "train"}])
        supervisely(src, box, name="b.png", picture=png(scene(1)[0]))
        summary, _ = run("supervisely", src)
        assert summary.images == {"all": 2}
        assert "1 of 2 images have a tag of a split: they are not split" in summary.notes

    def test_datasets_inside_datasets_are_read(self, src):
        box = supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]]))
        supervisely(src / "project", box)
        supervisely(src / "project" / "ds" / "datasets", box, picture=png(scene(1)[0]), meta=None)
        summary, _ = run("supervisely", src)
        assert summary.images == {"all": 2}

    def test_an_annotation_without_its_image_is_named(self, src):
        supervisely(src, supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]])))
        write(src / "ds" / "ann" / "gone.jpg.json", {"size": SIZE, "objects": [1, 2]})
        summary, _ = run("supervisely", src)
        assert [line.replace(f"{src}/", "") for line in summary.left_out] == [
            "ds/ann/gone.jpg.json — no image gone.jpg in img/ (2 objects)"
        ]

    def test_turned_images_are_annotated_as_they_are_shown(self, src):
        box = supervisely_object("a", "rectangle", points=rings([[0, 0], [19, 15]]))
        supervisely(src, box, name="a.jpg", picture=turned_picture(), size={"height": WIDTH, "width": HEIGHT})
        _, masks = run("supervisely", src)
        assert np.array_equal(only(masks), area((0, 0, 20, 16, 1), size=(WIDTH, HEIGHT)))

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (supervisely_object("a", "mesh"), "ds/ann/a.png.json: object 0 — geometryType 'mesh' — expected polygon"),
            (
                supervisely_object("c", "rectangle", points=rings([[0, 0], [9, 9]])),
                "class 'c' — expected one of meta.json",
            ),
            (
                supervisely_object("a", "polygon", points={**rings(square(0, 0, 9, 9)), "interior": 5}),
                "object 0 — interior is 5 — expected list",
            ),
            (supervisely_object("a", "polygon", points=None), "object 0: points — exterior is None"),
            (supervisely_object("a", "polygon", points=rings([[0, 0], [1, "x"]])), "object 0 — points are"),
            (supervisely_object("a", "rectangle", points=rings([[0, 0]])), "object 0 — 1 corners — expected 2"),
            (supervisely_object("a", "bitmap", bitmap={"data": "%", "origin": [0, 0]}), "object 0 — not valid base64"),
            (supervisely_object("a", "bitmap", bitmap={"data": "eJw=", "origin": [0, 0]}), "object 0 — empty"),
            (supervisely_object("a", "bitmap", bitmap={"data": "eHh4", "origin": [0, 0]}), "bitmap cannot be unpacked"),
            (supervisely_object("a", "bitmap"), "object 0 — bitmap is None"),
            (5, "object 0 — classTitle is None"),
        ],
    )
    def test_objects_that_cannot_be_used_are_refused_or_left_out(self, src, entry, message):
        good = supervisely_object("b", "rectangle", points=rings([[0, 0], [9, 9]]))
        supervisely(src, entry, good)
        assert message in refused("supervisely", src)
        summary, masks = run("supervisely", src, skip_bad=True)
        assert only(masks).sum() == 100
        assert len(summary.left_out) == 1

    def test_tags_that_are_no_list_are_refused(self, src):
        supervisely(src, tags=5)
        assert "ds/ann/a.png.json — tags is 5 — expected list" in refused("supervisely", src)

    def test_sizes_of_another_copy_are_refused(self, src):
        supervisely(src, size={"height": 400, "width": 640})
        supervisely(src, supervisely_object("a", "rectangle", points=rings([[0, 0], [9, 9]])), name="b.png")
        assert "the image is 64x40, its annotation is for 640x400" in refused("supervisely", src)


def test_classes_may_be_chosen_and_joined_in_all_four(tmp_path):
    from foreign_datasets import BUILDERS

    for kind in ("yolo", "label-studio", "via", "supervisely"):
        BUILDERS[kind](tmp_path / kind)
        names = [c.name for c in import_dataset(kind, tmp_path / kind, tmp_path / f"{kind}-all").classes[1:]]
        summary = import_dataset(kind, tmp_path / kind, tmp_path / f"{kind}-one", classes=names[:1])
        assert [c.name for c in summary.classes] == ["background", names[0]]
        summary = import_dataset(kind, tmp_path / kind, tmp_path / f"{kind}-joined", merge={"thing": names})
        assert [c.name for c in summary.classes] == ["background", "thing"]
