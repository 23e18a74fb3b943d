"""Each format in its real layout, to a dataset that the check finds clean."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from foreign_datasets import BUILDERS, imported, same, write

from edge_runtime.cli import build_parser
from edge_runtime.dataset.pairs import files_below
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.image import read_image
from training.commands.importing import register
from training.data.check import check_dataset
from training.importers import IMPORTERS, import_dataset
from training.report.pictures import contact_sheet

CLASSES = {
    "coco": ["background", "red", "собака"],
    "labelme": ["background", "blau – ü", "red"],
    "yolo": ["background", "red", "no"],
    "label-studio": ["background", "rot", "ähre"],
    "via": ["background", "blü", "red"],
    "supervisely": ["background", "rot", "blü"],
    "cvat": ["background", "red", "blue"],
    "oxford-pet": ["background", "pet"],
    "roboflow": ["unlabeled", "blue", "red"],
    "object-masks": ["background", "object"],
}
COUNTS = {
    "coco": {"train": 3, "val": 3},
    "labelme": {"all": 3},
    "yolo": {"train": 3, "val": 3},
    "label-studio": {"all": 3},
    "via": {"train": 2, "val": 2},
    "supervisely": {"train": 3, "val": 3},
    "voc": {"train": 2, "val": 2},
    "cvat": {"all": 3},
    "oxford-pet": {"train": 3, "test": 1},
    "camvid": {"train": 3, "val": 1, "test": 1},
    "cityscapes": {"train": 3, "val": 1},
    "roboflow": {"train": 2, "val": 1, "test": 1},
    "object-masks": {"train": 3},
}


def digests(folder: Path, pattern: str) -> list[str]:
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob(pattern) if path.is_file())


def test_every_format_has_a_builder_here():
    assert BUILDERS.keys() == IMPORTERS.keys() == COUNTS.keys()


@pytest.mark.parametrize("kind", IMPORTERS)
def test_import_makes_a_dataset_that_the_check_finds_clean(tmp_path, kind):
    src, dst = tmp_path / "src", tmp_path / "new" / "data"
    expected = BUILDERS[kind](src)
    before, progress = digests(src, "*"), []
    summary = import_dataset(kind, src, dst, on_progress=lambda *call: progress.append(call))
    assert summary.images == COUNTS[kind]
    total = progress[-1][2]
    assert progress == [("importing", done, total) for done in range(total + 1)]
    assert same(imported(dst), expected)
    assert digests(src, "*") == before
    assert set(digests(dst, "images/*")) <= set(before)  # byte for byte
    report = check_dataset(dst)
    assert report.ok, report.problems
    assert report.encoding == "index"
    assert [c.name for c in report.info.classes] == [c.name for c in summary.classes]
    assert report.info.ignore_id == 255
    assert contact_sheet(report).any()
    assert [path.name for path in dst.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("kind", IMPORTERS)
def test_an_earlier_import_inside_the_source_is_passed_over_and_named(tmp_path, kind):
    src = tmp_path / "src"
    expected = BUILDERS[kind](src)
    first = import_dataset(kind, src, src / "first")
    summary = import_dataset(kind, src, tmp_path / "data")
    assert same(imported(tmp_path / "data"), expected)
    assert summary.images == first.images
    assert summary.left_out == first.left_out
    assert set(summary.notes) == {*first.notes, "1 dataset folders inside: not read (first: first)"}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_keep_their_names_and_get_ids_without_gaps(tmp_path, kind):
    BUILDERS[kind](tmp_path / "src")
    import_dataset(kind, tmp_path / "src", tmp_path / "data")
    config = yaml.safe_load((tmp_path / "data" / "dataset.yaml").read_bytes())
    assert config["classes"] == CLASSES[kind]
    assert config["ignore_id"] == 255
    assert len(config["colors"]) == len(CLASSES[kind])


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("camvid", {"0001TP_006690.png": "0001TP", "0006R0_f00930.png": "0006R0", "Seq05VD_f00000.png": "Seq05VD"}),
        (
            "cityscapes",
            {
                "aachen_000001_000019_leftImg8bit.png": "aachen_000001",
                "bochum_000000_000313_leftImg8bit.png": "bochum_000000",
            },
        ),
    ],
)
def test_frames_are_grouped_by_video(tmp_path, kind, groups):
    BUILDERS[kind](tmp_path / "src")
    summary = import_dataset(kind, tmp_path / "src", tmp_path / "data")
    with (tmp_path / "data" / "groups.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"file", "group"}
    assert len(rows) == sum(summary.images.values())
    assert groups.items() <= {row["file"]: row["group"] for row in rows}.items()


@pytest.mark.parametrize("kind", ["coco", "labelme", "voc", "cvat", "oxford-pet", "roboflow", "object-masks"])
def test_formats_without_videos_write_no_groups(tmp_path, kind):
    BUILDERS[kind](tmp_path / "src")
    import_dataset(kind, tmp_path / "src", tmp_path / "data")
    assert not (tmp_path / "data" / "groups.csv").exists()


def parser_with_import():
    import argparse

    parser = argparse.ArgumentParser(prog="edge-unet")
    register(parser.add_subparsers())
    return parser


@pytest.mark.parametrize("kind", IMPORTERS)
def test_help_of_each_format_shows_an_example_and_its_layout(kind, capsys):
    with pytest.raises(SystemExit, match="0"):
        parser_with_import().parse_args(["import", kind, "--help"])
    text = capsys.readouterr().out
    assert f"edge-unet data import {kind} " in text
    assert IMPORTERS[kind].layout.splitlines()[0].strip() in text
    with pytest.raises(SystemExit, match="0"):
        parser_with_import().parse_args(["import", "--help"])
    assert f"edge-unet data import {kind} " in capsys.readouterr().out


def test_command_says_what_was_written_and_left_out(tmp_path, capsys):
    BUILDERS["cityscapes"](tmp_path / "src")
    args = parser_with_import().parse_args(["import", "cityscapes", str(tmp_path / "src"), str(tmp_path / "data")])
    assert args.handler(args) == 0
    out, err = capsys.readouterr()
    assert f"{tmp_path / 'data'}: 4 images (train 3, val 1)" in out
    assert "classes: road, sidewalk, " in out
    assert "berlin_000000_000019_leftImg8bit.png — every pixel of its mask is ignored" in err


def test_registering_the_command_loads_nothing_heavy():
    code = "import sys, training.commands.importing; print(sorted({'cv2', 'numpy', 'keras', 'yaml', 'rich'} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout.strip() == "[]"
    assert build_parser()  # and the whole command line still comes up


@pytest.mark.parametrize("kind", ["coco", "labelme", "yolo", "label-studio", "via", "supervisely", "cvat"])
def test_images_that_were_converted_after_they_were_annotated_are_found(tmp_path, kind):
    expected = BUILDERS[kind](tmp_path / "src")
    for image in [path for path in files_below(tmp_path / "src") if path.suffix in IMAGE_SUFFIXES]:
        write(image.with_suffix(".bmp"), cv2.imencode(".bmp", read_image(image))[1].tobytes())
        image.unlink()
    import_dataset(kind, tmp_path / "src", tmp_path / "data")
    assert same(imported(tmp_path / "data"), expected)
