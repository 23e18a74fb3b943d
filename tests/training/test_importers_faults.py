"""What is wrong in a download is said in lines that name the file and the remedy, and nothing half is written."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import jpeg, png
from foreign_datasets import (
    BUILDERS,
    HEIGHT,
    WIDTH,
    coco,
    cvat_xml,
    labelme_document,
    labelme_shape,
    scene,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.errors import InputError, StorageError, UsageError
from training.commands.importing import register
from training.errors import DataError
from training.importers import IMPORTERS, ImportProblemsError, import_dataset

SQUARE = [(0, 0), (9, 0), (9, 9), (0, 9)]


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def nothing_written(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir()) in (["src"], [])


def one_problem(kind, src):
    """Return the only problem of an import, after asserting what holds for all of them."""
    with pytest.raises(DataError) as caught:
        import_dataset(kind, src, src.parent / "data")
    assert "\n" not in str(caught.value)
    assert len(getattr(caught.value, "problems", [""])) == 1
    assert nothing_written(src.parent)
    return str(caught.value).replace(f"{src}/", "")


class TestFolders:
    @pytest.mark.parametrize("kind", IMPORTERS)
    def test_of_another_format_are_refused_with_what_was_expected(self, kind, src):
        write(src / "readme.txt", "nothing here")
        assert " — expected " in one_problem(kind, src)

    @pytest.mark.parametrize("kind", IMPORTERS)
    def test_that_do_not_exist_are_refused(self, kind, src):
        assert "no such folder" in one_problem(kind, src)

    def test_that_are_archives_have_to_be_unpacked(self, tmp_path):
        archive = write(tmp_path / "src.zip", b"PK\3\4")
        with pytest.raises(DataError, match="is a file: unpack it first"):
            import_dataset("coco", archive, tmp_path / "data")

    def test_to_write_must_be_absent_or_empty(self, src, tmp_path):
        coco(src)
        write(tmp_path / "full" / "x", "mine")
        with pytest.raises(UsageError, match="full — is not empty — choose another name or empty it"):
            import_dataset("coco", src, tmp_path / "full")
        with pytest.raises(UsageError, match="is a file"):
            import_dataset("coco", src, tmp_path / "full" / "x")
        assert (tmp_path / "full" / "x").read_text() == "mine"
        (tmp_path / "empty").mkdir()
        import_dataset("coco", src, tmp_path / "empty")
        assert (tmp_path / "empty" / "dataset.yaml").is_file()

    def test_filled_by_another_meanwhile_are_left_alone(self, src, tmp_path):
        coco(src)
        (tmp_path / "data").mkdir()
        with pytest.raises(UsageError, match="is not empty"):
            import_dataset(
                "coco",
                src,
                tmp_path / "data",
                on_progress=lambda what, done, total: done and (tmp_path / "data" / "mine").write_text("mine"),
            )
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]

    def test_that_cannot_be_written_are_a_storage_error(self, src, tmp_path):
        coco(src)
        write(tmp_path / "file", "x")
        with pytest.raises(StorageError, match=r"cannot (write|read)"):
            import_dataset("coco", src, tmp_path / "file" / "data")

    def test_unknown_formats_are_a_usage_error(self, src):
        with pytest.raises(UsageError, match="format 'darknet' — unknown — expected coco, labelme"):
            import_dataset("darknet", src, src)


class TestManyProblems:
    def test_come_in_one_pass_the_first_twenty_printed_and_the_rest_counted(self, src, tmp_path, capsys):
        for i in range(30):
            write(src / f"{i:02d}.png", png(scene(i)[0])[:-40] if i % 2 else png(scene(i)[0]))
            size = {} if i % 2 else {"imageHeight": 7}
            write(src / f"{i:02d}.json", labelme_document(f"{i:02d}.png", [labelme_shape("a", SQUARE)], **size))
        with pytest.raises(ImportProblemsError, match=r"\(and 29 more problems\)$") as caught:
            import_dataset("labelme", src, tmp_path / "data")
        assert len(caught.value.problems) == 30
        assert caught.value.exit_code == 3
        parser = argparse.ArgumentParser()
        register(parser.add_subparsers())
        args = parser.parse_args(["import", "labelme", str(src), str(tmp_path / "data")])
        with pytest.raises(ImportProblemsError):
            args.handler(args)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("problem: ")]
        assert len(lines) == 21
        assert lines[-1] == "problem: … and 10 more (30 in all)"
        assert nothing_written(tmp_path)

    def test_of_documents_and_of_pixels_come_together(self, src, tmp_path):
        coco(src)
        write(src / "train2017" / "000000000000.jpg", b"")
        document = (src / "annotations" / "instances_val2017.json").read_text()
        write(
            src / "annotations" / "instances_val2017.json", document.replace('"category_id": 18', '"category_id": 5', 1)
        )
        with pytest.raises(ImportProblemsError) as caught:
            import_dataset("coco", src, tmp_path / "data")
        first, second = caught.value.problems
        assert "category_id 5 — expected the id of a category" in first
        assert "000000000000.jpg — empty file (0 bytes)" in second


def labelme_with(src, shape, **more):
    write(src / "a.png", png(scene(0)[0]))
    write(src / "a.json", labelme_document("a.png", [labelme_shape("ok", SQUARE), shape], **more))
    return one_problem("labelme", src)


class TestLabelMe:
    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            (labelme_shape("b", [(0, 0), (1, "x"), (2, 2)]), "a.json: polygon 1 — points are"),
            (labelme_shape("b", None), "a.json: polygon 1 — points is None — expected list"),
            (labelme_shape(None, SQUARE), "a.json: shape 1 — label is None — expected str"),
            (labelme_shape("b", SQUARE, "mask"), "a.json: mask 1 — mask is None — expected str"),
            (labelme_shape("b", SQUARE, "mask", mask="%"), "a.json: mask 1 — not valid base64"),
            (labelme_shape("b", SQUARE, "mask", mask="aGVsbG8="), "a.json: mask 1 — not an image"),
            (labelme_shape("b", [(0, 0), (1e300, 1e300)], "circle"), "a.json: circle 1 — points are"),
        ],
    )
    def test_refuses_damaged_shapes(self, src, shape, message):
        assert message in labelme_with(src, shape)

    def test_refuses_labels_that_labels_txt_does_not_have(self, src):
        write(src / "labels.txt", "ok\n")
        problem = labelme_with(src, labelme_shape("oops\nb", SQUARE))
        assert "label 'oops\\nb' — expected one of labels.txt" in problem

    def test_refuses_annotations_of_another_copy_of_the_image(self, src):
        problem = labelme_with(src, labelme_shape("b", SQUARE), imageHeight=10**9, imageWidth=10**9)
        assert f"a.png — the image is {WIDTH}x{HEIGHT}, its annotation is for 1000000000x1000000000" in problem

    @pytest.mark.parametrize("name", ["../../secret.png", "..\\..\\secret.png", "x/../../../secret.png"])
    def test_reads_nothing_outside_the_folder_whatever_a_name_says(self, src, name):
        write(src.parent / "secret.png", png(scene(0)[0]))
        write(src / "json" / "a.json", labelme_document(name, [labelme_shape("a", SQUARE)]))
        with pytest.raises(DataError, match=r"no image with an annotation: .*is not found"):
            import_dataset("labelme", src, src.parent / "data")

    def test_never_opens_an_absolute_path(self, src):
        secret = write(src.parent / "secret.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document(str(secret), [labelme_shape("a", SQUARE)]))
        with pytest.raises(DataError, match=r"no image with an annotation: .*is not found"):
            import_dataset("labelme", src, src.parent / "data")

    @pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b"\xff\xfe{", b'{"shapes": [], "a": ' + b"9" * 5000 + b"}"])
    def test_refuses_what_is_no_json(self, src, data):
        write(src / "a.json", data)
        assert one_problem("labelme", src).startswith("a.json — ")


class TestCoco:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"file_name": "000000000000.jpg"', '"file_name": 5', "file_name is 5 — expected str"),
            ('"image_id": 0,', '"image_id": [0],', "image_id is [0] — expected int"),
            ('"image_id": 0,', '"image_id": 99,', "image_id 99 — expected the id of an image"),
            ('"height": 40', '"height": 41', "the image is 64x40, its annotation is for 64x41"),
            ('"id": 18, "name": "собака"', '"id": 18, "name": null', "name is None — expected str"),
            ('"segmentation": [[', '"segmentation": [[1, ', "expected pairs of numbers"),
            ('"segmentation": [[', '"segmentation": [3, [', "expected pairs of numbers"),
            ('"counts": [', '"counts": [1, ', "run lengths of 2561 pixels — expected 2560 (64x40)"),
            ('"counts": [', '"counts": [-1, ', "run lengths of"),
            ('"counts": "', '"counts": "~', "run lengths that cannot be decoded"),
            ('"size": [40, 64]', '"size": [64, 40]', "run lengths of size [64, 40] — expected the image's [40, 64]"),
            ('"annotations"', '"annos"', "annotations is None — expected list"),
        ],
    )
    def test_names_what_is_wrong(self, src, old, new, message):
        coco(src)
        path = src / "annotations" / "instances_train2017.json"
        text = path.read_text()
        assert old in text
        write(path, text.replace(old, new, 1))
        assert message in one_problem("coco", src)

    def test_refuses_boxes_alone(self, src):
        write(src / "images" / "a.png", png(scene(0)[0]))
        entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "segmentation": []}
        image = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
        write(src / "a.json", {"images": [image], "annotations": [entry], "categories": [{"id": 1, "name": "a"}]})
        assert "no shape with an area: 1 annotations (boxes only) without a segmentation" in one_problem("coco", src)

    def test_refuses_more_classes_than_a_mask_can_hold(self, src):
        categories = [{"id": i, "name": f"class {i}"} for i in range(300)]
        write(src / "images" / "a.png", png(scene(0)[0]))
        objects = [
            {"image_id": 1, "category_id": i, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "iscrowd": 0}
            for i in range(300)
        ]
        image = {"id": 1, "file_name": "a.png"}
        write(src / "a.json", {"images": [image], "annotations": objects, "categories": categories})
        assert "300 classes — expected 1 to 253 besides the background — choose some" in one_problem("coco", src)


def cvat_with(src, shape, **more):
    write(src / "images" / "a.png", png(scene(0)[0]))
    write(
        src / "annotations.xml", cvat_xml(f'<image id="0" name="a.png" width="64" height="40">{shape}</image>', **more)
    )
    return one_problem("cvat", src)


class TestCvat:
    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ('<polygon label="red" points="1,1;2"/>', "image 'a.png': polygon — points are"),
            ('<polygon label="red"/>', "image 'a.png': polygon — points are"),
            (
                '<box label="red" xtl="1" ytl="x" xbr="1" ybr="1"/>',
                "image 'a.png': box — ytl is 'x' — expected a number",
            ),
            ('<box label="red" xtl="1"/>', "ytl is None — expected a number"),
            (
                '<mask label="red" rle="3" left="0" top="0" width="2" height="2"/>',
                "run lengths of 3 pixels — expected 4 (2x2)",
            ),
            ('<mask label="red" rle="" left="0" top="0" width="2" height="2"/>', "run lengths of"),
            (
                '<mask label="red" rle="4" left="63" top="0" width="2" height="2"/>',
                "expected it inside the image, 64x40",
            ),
            (
                '<mask label="red" rle="1" left="0" top="0" width="1000000" height="1000000"/>',
                "expected it inside the image",
            ),
            (
                '<box label="green" xtl="1" ytl="1" xbr="9" ybr="9"/>',
                "label 'green' — expected one of the labels in <meta>",
            ),
            ('<blob label="red"/>', "a <blob> — expected polygon, box, ellipse, mask"),
        ],
    )
    def test_names_what_is_wrong(self, src, shape, message):
        assert message in cvat_with(src, shape)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_refuses_document_types_before_any_entity_expands(self, src, encoding):
        bomb = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotations>&b;</annotations>'
        write(src / "annotations.xml", f'<?xml version="1.0" encoding="{encoding}"?>{bomb}'.encode(encoding))
        assert (
            one_problem("cvat", src)
            == "annotations.xml — has a document type (<!DOCTYPE lolz>) — refused — export it without"
        )

    @pytest.mark.parametrize(
        "data", [b"", b"<annotations>", b"\x00", b"<?xml version='1.0' encoding='x'?><annotations/>"]
    )
    def test_refuses_what_is_no_xml(self, src, data):
        write(src / "annotations.xml", data)
        assert one_problem("cvat", src).startswith("annotations.xml — not valid XML")

    def test_looks_for_no_image_outside_whatever_a_subset_says(self, src):
        write(src.parent / "a.png", png(scene(0)[0]))
        write(src / "annotations.xml", cvat_xml('<image name="a.png" subset=".." width="64" height="40"/>'))
        with pytest.raises(DataError, match=r"a\.png — image not found"):
            import_dataset("cvat", src, src.parent / "data")


class TestMaskFiles:
    def test_with_unknown_values_are_named(self, src):
        BUILDERS["voc"](src)
        path = src / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000001.png"
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[0, :3] = 33
        write(path, png(ids))
        problem = one_problem("voc", src)
        assert "2007_000001.png — unknown value 33 (3 px) — expected 0 to 20, 255 — add the class" in problem

    def test_of_other_colours_are_named(self, src):
        write(src / "images" / "a_1.png", png(scene(0)[0]))
        write(src / "labels" / "a_1_L.png", png(np.full((HEIGHT, WIDTH, 3), (3, 2, 1), np.uint8)))
        assert "100.0% of its pixels have a colour of no class, most 1,2,3" in one_problem("camvid", src)

    def test_that_are_jpegs_are_refused(self, src):
        BUILDERS["oxford-pet"](src)
        write(src / "annotations" / "trimaps" / "beagle_1.png", jpeg(scene(0)[0]))
        assert "beagle_1.png — a JPEG mask" in one_problem("oxford-pet", src)

    @pytest.mark.parametrize("mask", [scene(0)[0], np.full((HEIGHT, WIDTH), 300, np.uint16)])
    def test_of_colours_or_16_bits_are_refused_where_values_are_expected(self, src, mask):
        BUILDERS["oxford-pet"](src)
        write(src / "annotations" / "trimaps" / "beagle_1.png", png(mask))
        assert "beagle_1.png — a " in one_problem("oxford-pet", src)

    def test_of_another_size_are_named(self, src):
        BUILDERS["cityscapes"](src)
        path = next(src.rglob("bochum_000000_000313_gtFine_labelIds.png"))
        write(path, png(np.full((HEIGHT, WIDTH + 1), 7, np.uint8)))
        assert "the image is 64x40, its annotation is for 65x40" in one_problem("cityscapes", src)

    def test_of_voc_lists_cannot_lead_out(self, src):
        BUILDERS["voc"](src)
        write(src.parent / "secret.png", png(np.zeros((HEIGHT, WIDTH), np.uint8)))
        write(src / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt", "../../../../../secret\n")
        summary = import_dataset("voc", src, src.parent / "data")
        assert summary.left_out == ("../../../../../secret — no mask in SegmentationClass",)


@pytest.mark.parametrize("kind", ["coco", "labelme", "cvat", "yolo", "label-studio", "via", "supervisely"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_annotations_are_imported_or_refused_but_never_a_crash(kind, tmp_path, data):
    names = {
        "coco": "instances_train2017.json",
        "labelme": "кадр 1.json",
        "cvat": "annotations.xml",
        "voc": "train.txt",
        "yolo": "data.yaml",
        "label-studio": "project-1-at-2026.json",
        "via": "via_region_data.json",
        "supervisely": "0.jpg.json",
    }
    src = tmp_path / "src"
    if not src.exists():
        BUILDERS[kind](src)
        path = next(src.rglob(names[kind]))
        path.rename(path.with_suffix(".original"))
    path = next(src.rglob("*.original"))
    original = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(original) - 1))
        original[place] = data.draw(st.sampled_from(b'0-9.,:"[]{}<>/\\ae'))
    write(path.parent / names[kind], bytes(original))
    try:
        import_dataset(kind, src, tmp_path / f"data{data.draw(st.integers(0, 10**9))}")
    except (InputError, UsageError) as error:
        assert "\n" not in str(error)


def test_an_interrupted_import_leaves_nothing(src, tmp_path):
    coco(src)

    def stop(what, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset("coco", src, tmp_path / "data", on_progress=stop)
    assert nothing_written(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_a_killed_import_leaves_no_dataset(src, tmp_path):
    coco(src)
    code = """
import os, pathlib, signal, sys
from training.importers import import_dataset
stop = lambda what, done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL)
import_dataset("coco", pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), on_progress=stop)
"""
    child = subprocess.run(
        [sys.executable, "-c", code, src, tmp_path / "data"], check=False, cwd=Path(__file__).parents[2]
    )
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
