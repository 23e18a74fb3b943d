"""Which classes an import keeps, joins and leaves out, the same for every format."""

from __future__ import annotations

import argparse
import shlex

import numpy as np
import pytest
import yaml
from datasets import png
from foreign_datasets import BUILDERS, HEIGHT, WIDTH, imported, labelme_document, labelme_shape, scene, write

from edge_runtime.errors import UsageError
from training.commands.importing import register
from training.importers import IMPORTERS, import_dataset

BOXES = {"car": (0, 0, 20, 20), "truck": (10, 10, 30, 30), "dog": (15, 15, 40, 25), "van": (50, 0, 60, 10)}
"""Boxes of one image from the lowest to the one on top."""


@pytest.fixture
def src(tmp_path):
    shapes = [
        labelme_shape(name, [(left, top), (right, bottom)], "rectangle")
        for name, (left, top, right, bottom) in BOXES.items()
    ]
    write(tmp_path / "src" / "a.png", png(scene(0)[0]))
    write(tmp_path / "src" / "a.json", labelme_document("a.png", shapes))
    return tmp_path / "src"


def painted(ids):
    """Return the mask of the boxes with these class ids, the others 0, in the order of the source."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, (left, top, right, bottom) in BOXES.items():
        mask[top:bottom, left:right] = ids.get(name, 0)
    return mask


@pytest.mark.parametrize(
    ("options", "classes", "ids"),
    [
        ({}, ["car", "dog", "truck", "van"], {"car": 1, "dog": 2, "truck": 3, "van": 4}),
        ({"classes": ["truck", "car"]}, ["truck", "car"], {"truck": 1, "car": 2}),
        ({"classes": ["background", " truck"]}, ["truck"], {"truck": 1}),
        (
            {"merge": {"car": ["truck", "van"]}},
            ["car", "dog"],
            {"car": 1, "truck": 1, "van": 1, "dog": 2},
        ),
        (
            {"merge": {"vehicle": ["truck", "van"]}},
            ["car", "dog", "vehicle"],
            {"car": 1, "dog": 2, "truck": 3, "van": 3},
        ),
        ({"merge": {"background": ["dog"]}}, ["car", "truck", "van"], {"car": 1, "truck": 2, "van": 3}),
        (
            {"merge": {"vehicle": ["car", "truck", "van"]}, "classes": ["vehicle"]},
            ["vehicle"],
            {"car": 1, "truck": 1, "van": 1},
        ),
    ],
)
def test_classes_are_kept_and_joined_and_what_hides_others_still_does(src, options, classes, ids):
    summary = import_dataset("labelme", src, src.parent / "data", **options)
    assert [c.name for c in summary.classes] == ["background", *classes]
    assert np.array_equal(imported(src.parent / "data")["images/a"], painted(ids))
    config = yaml.safe_load((src.parent / "data" / "dataset.yaml").read_bytes())
    assert config["classes"] == ["background", *classes]


def test_objects_that_become_background_are_counted(src):
    summary = import_dataset("labelme", src, src.parent / "data", classes=["car"])
    note = "3 objects of 3 classes that --classes leaves out are background: "
    assert any(line.startswith(note) and "dog 1" in line for line in summary.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["Truck"]}, "class 'Truck' — unknown — did you mean 'truck'\\?"),
        ({"classes": ["trucks"]}, "class 'trucks' — unknown — did you mean 'truck'\\?"),
        ({"classes": ["zebra"]}, "class 'zebra' — unknown — expected 'car', 'dog', 'truck', 'van'"),
        ({"merge": {"car": ["vann"]}}, "class 'vann' — unknown — did you mean 'van'"),
        ({"merge": {"car": ["van"], "dog": ["van"]}}, "merge — 'van' would become two classes"),
        ({"merge": {"car": ["van"], "dog": ["car"]}}, "merge — 'car' becomes 'dog' and others become it"),
        ({"merge": {"car": ["background"]}}, "merge — 'background' into 'car'"),
        ({"merge": {" ": ["car"]}}, "merge — a class without a name"),
        ({"merge": {"car": ["van"]}, "classes": ["van"]}, "class 'van' — is merged into 'car' — name that one"),
    ],
)
def test_names_that_mean_no_class_are_a_usage_error(src, options, message):
    with pytest.raises(UsageError, match=message):
        import_dataset("labelme", src, src.parent / "data", **options)
    assert not (src.parent / "data").exists()


@pytest.mark.parametrize("kind", IMPORTERS)
def test_every_format_can_choose_and_join_its_classes(tmp_path, kind):
    BUILDERS[kind](tmp_path / "src")
    whole = import_dataset(kind, tmp_path / "src", tmp_path / "whole")
    names = [c.name for c in whole.classes if c.name != "background"]
    expected = imported(tmp_path / "whole")
    ids = {c.name: c.id for c in whole.classes}
    last, first = names[-1], names[0]
    summary = import_dataset(kind, tmp_path / "src", tmp_path / "chosen", classes=[last])
    assert [c.name for c in summary.classes] == ["background", last] if len(names) > 1 else names
    for key, mask in imported(tmp_path / "chosen").items():
        assert np.array_equal(mask, np.where(expected[key] == 255, 255, expected[key] == ids[last]))
    if len(names) < 2:
        return
    summary = import_dataset(kind, tmp_path / "src", tmp_path / "joined", merge={"both": [first, last]})
    joined = {c.name: c.id for c in summary.classes}
    assert joined.keys() == {"background", "both", *names} - {first, last} - ({"background"} - ids.keys())
    for key, mask in imported(tmp_path / "joined").items():
        assert np.array_equal(mask == joined["both"], np.isin(expected[key], [ids[first], ids[last]]))


@pytest.mark.parametrize(
    "names", [("Car", "car", "car "), ("traffic light", "traffic_light"), ("straße", "STRASSE"), ("a-b", "A B")]
)
def test_names_that_seem_to_be_one_class_are_named_with_the_option_that_joins_them(tmp_path, names):
    shapes = [labelme_shape(name, [(9 * i, 0), (9 * i + 9, 9)], "rectangle") for i, name in enumerate(names)]
    write(tmp_path / "src" / "a.png", png(scene(0)[0]))
    write(tmp_path / "src" / "a.json", labelme_document("a.png", shapes))
    (note,) = import_dataset("labelme", tmp_path / "src", tmp_path / "data").notes
    assert "differ only in case, spaces or hyphens" in note
    option, value = shlex.split(note.partition("; ")[2])[:2]
    arguments = ["import", "labelme", str(tmp_path / "src"), str(tmp_path / "joined"), option, value]
    assert command(arguments) == 0
    config = yaml.safe_load((tmp_path / "joined" / "dataset.yaml").read_bytes())
    assert len(config["classes"]) == 2


@pytest.mark.parametrize("names", [("a+", "a-b"), ("c", "c++"), ("1", "11"), ("猫", "犬")])
def test_names_that_differ_otherwise_are_not_called_alike(tmp_path, names):
    shapes = [labelme_shape(name, [(9 * i, 0), (9 * i + 9, 9)], "rectangle") for i, name in enumerate(names)]
    write(tmp_path / "src" / "a.png", png(scene(0)[0]))
    write(tmp_path / "src" / "a.json", labelme_document("a.png", shapes))
    assert import_dataset("labelme", tmp_path / "src", tmp_path / "data").notes == ()


def command(arguments):
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(arguments)
    return args.handler(args)


def test_command_takes_lists_and_names_the_next_command_so_that_a_shell_reads_it(src, capsys):
    data = src.parent / "my data"
    options = ["--classes", "vehicle, dog", "--merge", "vehicle=car,truck", "--merge", "vehicle=van"]
    assert command(["import", "labelme", str(src), str(data), *options]) == 0
    out = capsys.readouterr().out
    assert "classes: background, vehicle, dog\n" in out
    assert f"next: edge-unet data check '{data}'\n" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--merge", "car"], "--merge 'car' — expected NEW=NAME,NAME"),
        (["--merge", "=car"], "--merge '=car' — expected NEW=NAME,NAME"),
        (["--merge", "car="], "--merge '' — no class"),
        (["--classes", ","], "--classes ',' — no class"),
    ],
)
def test_command_refuses_lists_without_names(src, options, message):
    with pytest.raises(UsageError, match=message):
        command(["import", "labelme", str(src), str(src.parent / "data"), *options])


def test_command_reads_names_with_commas_in_quotes(tmp_path, capsys):
    write(tmp_path / "src" / "a.png", png(scene(0)[0]))
    shapes = [labelme_shape(name, [(0, 0), (9, 9)], "rectangle") for name in ("a, b", "c")]
    write(tmp_path / "src" / "a.json", labelme_document("a.png", shapes))
    assert command(["import", "labelme", str(tmp_path / "src"), str(tmp_path / "data"), "--classes", 'c,"a, b"']) == 0
    assert "classes: background, c, a, b\n" in capsys.readouterr().out


def test_command_says_that_skip_bad_imports_the_rest(src, capsys):
    write(src / "b.json", "{")
    arguments = ["import", "labelme", str(src), str(src.parent / "data")]
    with pytest.raises(Exception, match="not valid JSON"):
        command(arguments)
    assert "--skip-bad imports the rest" in capsys.readouterr().err
    assert command([*arguments, "--skip-bad"]) == 0
    assert "note: 1 faulty files and shapes are left out" in capsys.readouterr().out
