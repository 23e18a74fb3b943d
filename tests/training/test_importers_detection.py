"""`auto` takes a folder for the one format that fits, says why, and refuses to guess."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from datasets import DatasetFolder, jpeg, png
from foreign_datasets import BUILDERS, coco, imported, labelme, roboflow, same, scene, write

from edge_runtime.cli import build_parser
from training.commands.importing import register
from training.commands.options import check_with_progress
from training.errors import DataError
from training.importers import IMPORTERS, import_dataset
from training.importers.detection import import_hint, recognised
from training.importers.glance import files, folders, peek


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def refusal(src):
    with pytest.raises(DataError) as caught:
        import_dataset("auto", src, src.parent / "data")
    assert not (src.parent / "data").exists()
    assert "\n" not in str(caught.value)
    for line in str(caught.value).split("`")[1::2]:
        build_parser().parse_args(shlex.split(line)[1:] if "--help" not in line else ["info", "a"])
    return str(caught.value).replace(f"{src.parent}/", "")


@pytest.mark.parametrize("kind", IMPORTERS)
def test_every_format_is_recognised_by_its_content_and_by_no_other(src, kind):
    expected = BUILDERS[kind](src)
    assert recognised(src).keys() == {kind}
    summary = import_dataset("auto", src, src.parent / "data")
    assert summary.kind == kind
    assert summary.evidence == recognised(src)[kind]
    assert same(imported(src.parent / "data"), expected)


@pytest.mark.parametrize("kind", IMPORTERS)
def test_a_named_format_needs_no_evidence(src, kind):
    BUILDERS[kind](src)
    summary = import_dataset(kind, src, src.parent / "data")
    assert (summary.kind, summary.evidence) == (kind, None)


@pytest.mark.parametrize("kind", IMPORTERS)
def test_a_path_relative_to_the_working_folder_reads_the_same(src, kind, monkeypatch):
    expected = BUILDERS[kind](src)
    whole = import_dataset(kind, src, src.parent / "whole")
    monkeypatch.chdir(src.parent)
    summary = import_dataset("auto", Path("src"), Path("data"))
    assert same(imported(src.parent / "data"), expected)
    assert len(summary.left_out) == len(whole.left_out)
    assert len(summary.notes) == len(whole.notes)


EVIDENCE = {
    "coco": "annotations/instances_train2017.json has images, annotations, categories",
    "labelme": "кадр 0.json has shapes of one image",
    "yolo": "data.yaml has names and train/labels/кадр 0.txt has polygons",
    "label-studio": "project-1-at-2026.json has regions of Label Studio",
    "via": "train/via_region_data.json has regions of VIA",
    "supervisely": "project/train/ann/0.jpg.json has objects of Supervisely",
    "voc": "it has VOCdevkit/VOC2012/SegmentationClass/",
    "cvat": "annotations.xml has images of CVAT",
    "oxford-pet": "it has annotations/trimaps/",
    "camvid": "it has trainannot/ with masks of frames",
    "cityscapes": "it has leftImg8bit/ and gtFine/",
    "roboflow": "test/_classes.csv has a class per pixel value",
    "object-masks": "stage1_train/00ae65c1c6/masks has 2 masks of one image",
}


@pytest.mark.parametrize("kind", EVIDENCE)
def test_the_evidence_names_what_was_found(src, kind):
    BUILDERS[kind](src)
    assert recognised(src) == {kind: EVIDENCE[kind]}


def test_tracks_and_cvats_layout_of_cityscapes_are_recognised(src):
    write(src / "a" / "annotations.xml", "<annotations><meta></meta><track id='0'></track></annotations>")
    write(src / "b" / "imgsFine" / "leftImg8bit" / "default" / "a_leftImg8bit.png", png(scene(0)[0]))
    write(src / "c" / "images" / "a.png", png(scene(0)[0]))
    write(src / "c" / "masks" / "0" / "a.png", png(scene(0)[1]))
    assert recognised(src / "a") == {"cvat": "annotations.xml has tracks of a video of CVAT"}
    assert recognised(src / "b") == {"cityscapes": "it has imgsFine/leftImg8bit/"}
    assert recognised(src / "c") == {"object-masks": "masks has folders of masks, such as 0/"}


def test_two_formats_are_not_guessed_between(src):
    coco(src)
    roboflow(src)
    message = refusal(src)
    assert message.startswith(
        "src — taken for coco, because annotations/instances_train2017.json has images, annotations, categories and for "
        "roboflow, because test/_classes.csv has a class per pixel value — expected one format — name it: "
    )
    assert message.endswith("`edge-unet data import coco src data` or `edge-unet data import roboflow src data`")


def test_an_unknown_folder_is_described_by_its_endings_and_the_layouts_are_listed(src):
    for name in ("a.dcm", "b.dcm", "c.dcm", "sub/d.nii", "LICENSE"):
        write(src / name, "x")
    message = refusal(src)
    assert message.startswith("src — of no known format (3 .dcm, 1 no ending, 1 .nii) — expected one of ")
    for kind, entry in IMPORTERS.items():
        assert f"{kind}: {' '.join(entry.layout.splitlines()[0].split())}" in message
    assert message.endswith("`edge-unet data import --help` has the layouts")


def test_an_empty_folder_has_no_files(src):
    src.mkdir()
    assert refusal(src).startswith("src — of no known format (no files) — ")


def test_a_format_one_folder_deeper_is_named_with_its_command(src):
    (src / "my data").mkdir(parents=True)
    write(src / "my data" / "annotations.xml", "<annotations><image name='a'></image></annotations>")
    message = refusal(src)
    assert "its folder my data looks like cvat, because annotations.xml has images of CVAT" in message
    assert message.endswith("`edge-unet data import cvat 'src/my data' data`")


@pytest.mark.parametrize("split", ["", "train"])
def test_a_dataset_is_used_as_it_is(src, split):
    DatasetFolder(src).fill(2, split)
    message = refusal(src)
    assert message == (
        "src — taken for a dataset folder, because it has images/ and masks/ — expected another format — use it as it is: "
        "`edge-unet data check src`"
    )


def test_a_dataset_with_annotations_of_a_format_names_both_ways(src):
    DatasetFolder(src).fill(2)
    write(src / "annotations.xml", "<annotations><image name='a'></image></annotations>")
    message = refusal(src)
    assert "a dataset folder, because it has images/ and masks/, and for cvat, because" in message
    assert message.endswith("`edge-unet data check src`, or import it: `edge-unet data import cvat src data`")


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a file: unpack it first — expected the folder of a dataset"):
        import_dataset("auto", write(tmp_path / "a.zip", b"PK"), tmp_path / "data")
    with pytest.raises(DataError, match="no such folder — expected the folder of a dataset"):
        import_dataset("auto", tmp_path / "nothing", tmp_path / "data")


def test_the_command_prints_the_format_and_why_before_it_imports(src, tmp_path, capsys):
    labelme(src)
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["import", "auto", str(src), str(tmp_path / "data")])
    assert args.handler(args) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"took {src} for labelme, because кадр 0.json has shapes of one image"
    assert any(line.startswith("classes: background, ") for line in rest)


@pytest.mark.parametrize(
    ("text", "is_coco"),
    [
        ('{"images": [], "annotations": [], "categories": []}', True),
        ('{"images": [{"id": 1}], "pad": "%s", "annotations": [{"category_id": 1}]}' % ("x" * 200_000), True),
        ('{"annotations" : [{"segmentation": []}], "images": []}', True),
        ('{"images": [{"id": 1}], "annotations": [{"caption": "a"}]}', False),
        ('{"categories": [], "note": "images"}', False),
    ],
)
def test_coco_is_recognised_by_its_keys_wherever_they_stand(src, text, is_coco):
    write(src / "labels" / "any.json", text)
    assert ("coco" in recognised(src)) == is_coco


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"labels/a.txt": "0 .1 .1 .5 .1 .5 .5\n"}, {"yolo": "labels/a.txt has polygons"}),
        (
            {"a.txt": "0 0.5 0.5 0.2 0.2\n", "data.yaml": "nc: 1\nnames: [a]\n"},
            {"yolo": "data.yaml has names and a.txt has boxes"},
        ),
        ({"labels/a.txt": "", "classes.txt": "cat\n"}, {}),
        ({"train.txt": "a/b.jpg a/b.png\n", "list.txt": "Abyssinian_1 1 1 1\n"}, {}),
        ({"numbers.txt": "0 0.5 0.5 0.2 0.2\n"}, {}),
        (
            {"result.json": '[{"image": "a.jpg", "brushlabels": []}]'},
            {"label-studio": "result.json has regions of Label Studio"},
        ),
        ({"via.csv": "filename,region_shape_attributes\n"}, {"via": "via.csv has regions of VIA"}),
        ({"p.json": '{"_via_settings": {}, "_via_img_metadata": {}}'}, {"via": "p.json has regions of VIA"}),
    ],
)
def test_other_exports_of_the_annotation_tools_are_recognised(src, files, expected):
    for name, text in files.items():
        write(src / name, text)
    assert recognised(src) == expected


class TestLookingIsBounded:
    def test_in_files_folders_and_depth(self, tmp_path):
        for i in range(400):
            write(tmp_path / f"{i:03d}.json", "{}")
        for i in range(100):
            (tmp_path / "f" / f"{i:02d}" / "deep" / "deeper").mkdir(parents=True)
        assert len(list(files(tmp_path, {".json"}))) <= 30
        found = list(folders(tmp_path))
        assert found[0] == tmp_path
        assert len(found) <= 60
        assert all(len(folder.relative_to(tmp_path).parts) <= 2 for folder in found)

    def test_but_a_list_beside_thousands_of_images_is_seen(self, src):
        for i in range(1000):
            write(src / "train" / f"{i}.jpg", "")
        write(src / "train" / "_classes.csv", "Pixel Value, Class\n1, a\n")
        write(src / "train" / "zz_annotations.json", '{"images": [], "annotations": [], "categories": []}')
        assert recognised(src).keys() == {"coco", "roboflow"}

    def test_in_bytes(self, tmp_path):
        path = write(tmp_path / "a.json", '{"images": [' + " " * 1_000_000 + '"categories": [')
        text = peek(path)
        assert len(text) <= 1 << 17
        assert text.startswith('{"images"')
        assert text.endswith('"categories": [')

    def test_of_files_that_cannot_be_read_or_are_binary(self, tmp_path):
        assert peek(tmp_path / "nothing.json") == ""
        assert recognised(tmp_path / "nothing") == {}
        for name in ("a.json", "b.csv", "_classes.csv", "annotations.xml"):
            write(tmp_path / name, bytes(range(256)) * 10)
        assert recognised(tmp_path) == {}


def test_another_format_than_the_named_one_is_told(src):
    labelme(src)
    with pytest.raises(DataError) as caught:
        import_dataset("voc", src, src.parent / "data")
    assert "no SegmentationClass/" in str(caught.value)
    assert str(caught.value).endswith(
        "it looks like labelme, because кадр 0.json has shapes of one image — import it: "
        f"`edge-unet data import labelme {src} {src.parent / 'data'}`"
    )


def test_a_fault_in_the_named_format_stays_as_it_is(src):
    write(src / "annotations.xml", "<annotations><track id='0'></track></annotations>")
    write(src / "leftImg8bit" / "a.png", png(scene(0)[0]))
    with pytest.raises(DataError) as caught:
        import_dataset("cvat", src, src.parent / "data")
    assert "it looks like" not in str(caught.value)


class TestHintOfTheCheck:
    def test_a_foreign_folder_is_named_with_the_command_that_imports_it(self, src):
        coco(src)
        with pytest.raises(DataError) as caught:
            check_with_progress(src, {})
        message = str(caught.value)
        assert "no images/ and no train/images/ inside" in message
        assert "it looks like coco, because annotations/instances_train2017.json has " in message
        assert message.endswith(f"import it: `edge-unet data import coco {src} my-data`")

    def test_also_where_there_are_images_without_masks(self, src):
        write(src / "images" / "a.jpg", jpeg(scene(0)[0]))
        document = {"images": [], "annotations": [{"category_id": 1}], "categories": []}
        write(src / "result.json", json.dumps(document))
        with pytest.raises(
            DataError, match=r"no image with a mask .* it looks like coco, because result.json has images"
        ):
            check_with_progress(src, {})

    def test_a_folder_of_masks_per_class(self, src):
        image_bgr, ids = scene(0)
        write(src / "images" / "a.jpg", jpeg(image_bgr))
        write(src / "masks" / "0" / "a.png", png(255 * (ids == 1).astype(np.uint8)))
        with pytest.raises(
            DataError, match=r"masks has folders of masks, such as 0/ — import it: `edge-unet data import obj"
        ):
            check_with_progress(src, {})

    def test_a_dataset_with_another_fault_gets_none(self, src):
        DatasetFolder(src).fill(2).yaml("classes: 5\n")
        write(src / "annotations.xml", "<annotations><image name='a'></image></annotations>")
        assert import_hint(src, src) is None
        with pytest.raises(DataError) as caught:
            check_with_progress(src, {})
        assert "import it" not in str(caught.value)

    def test_images_and_masks_in_folders_of_splits_are_no_classes(self, src):
        for folder in ("images/train", "masks/train"):
            write(src / folder / "a.png", png(scene(0)[1]))
        assert import_hint(src, src) is None

    def test_an_unknown_folder_gets_none(self, src):
        write(src / "a.txt", "x")
        assert import_hint(src, src) is None
        assert import_hint(src / "nothing", src) is None
