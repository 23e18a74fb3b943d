"""The person model that comes with the runtime: it is whole, it may be passed on, and it is what is run without a package."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_runtime import RunConfig, Segmenter, execute
from edge_runtime.cli import main
from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.device.golden import golden_test
from edge_runtime.image import read_image
from edge_runtime.model.package import MANIFEST, Package
from edge_runtime.models import PERSON, PERSON_SMALL, SHIPPED

PORTRAIT, PAINTING, BLAZER = (PERSON / f"golden/{number}.png" for number in range(3))


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.load()


def test_it_is_loaded_where_no_package_is_named(segmenter):
    assert segmenter.contract.name == "person"
    assert [c.name for c in segmenter.contract.classes] == ["background", "person"]
    assert (segmenter.contract.height_px, segmenter.contract.width_px) == (240, 320)
    assert RunConfig(source=0).package == PERSON


@pytest.mark.parametrize("model", SHIPPED)
def test_it_finds_people(model):
    segmenter = Segmenter.load(SHIPPED[model])
    for picture, least in ((PORTRAIT, 0.4), (PAINTING, 0.3)):
        result = segmenter(read_image(picture))
        assert result.fractions()["person"] > least
        middle = result.mask[result.mask.shape[0] // 2 :, 110:140]
        assert middle.mean() > 0.9, "a person from the middle of the picture down"
        assert result.mask[:20, -20:].mean() < 0.1, "a corner of the background"


@pytest.mark.parametrize("model", SHIPPED)
def test_its_self_test_passes(model):
    golden = golden_test(Package.open(SHIPPED[model]))
    assert golden is not None and golden.ok and golden.frames == 3


@pytest.mark.parametrize("package", SHIPPED.values(), ids=list(SHIPPED))
def test_it_may_be_passed_on(package):
    manifest = Package.open(package).manifest
    assert {"LICENSE", "NOTICE", "model.app.onnx"} <= manifest.files.keys()
    assert "report.html" not in manifest.files, "it shows pictures that may not be passed on"
    assert "Apache License" in (package / "LICENSE").read_text(encoding="utf-8")
    assert "MediaPipe" in (package / "NOTICE").read_text(encoding="utf-8")
    start = json.loads((package / MANIFEST).read_text(encoding="utf-8"))["provenance"]["config"]["start_from"]
    assert start == "mediapipe:selfie_segmentation.tflite", "no path of the machine that exported it"


def test_the_models_are_small():
    assert sum(path.stat().st_size for folder in SHIPPED.values() for path in folder.rglob("*") if path.is_file()) < 4e6


def test_commands_take_a_model_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["info", "person-small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "person-small"
    assert Segmenter.load("person-small").contract.name == "person-small"
    assert execute(RunConfig(source=str(PORTRAIT), package="person-small"))["processed"] == 1
    large, small = (Package.open(package).manifest.contract for package in (PERSON, PERSON_SMALL))
    assert small.height_px * small.width_px < 0.7 * large.height_px * large.width_px


def test_what_lies_there_comes_before_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "person-small").mkdir()
    assert main(["info", "person-small"]) == 4
    assert "person-small — a folder without manifest.json" in capsys.readouterr().err


def test_commands_take_it_without_being_told(tmp_path, capsys):
    assert main(["run", "--source", str(PORTRAIT), "--save", str(tmp_path / "out"), "--effect", "mask"]) == 0
    mask = read_mask(tmp_path / "out" / "masks" / "0.png").values
    expected = read_mask(PERSON / "golden" / "0.mask.png").values
    assert (mask == expected).mean() > 0.999
    assert np.unique(mask).tolist() == [0, 1]
    capsys.readouterr()
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "person"
    assert main(["bench", "--runs", "2", "--json"]) == 0
    assert "fp32" in json.loads(capsys.readouterr().out)["variants"]


def test_nothing_is_written_over_it(tmp_path, capsys):
    assert main(["run", "--source", str(PORTRAIT), "--save", str(tmp_path), "--json", str(PERSON / MANIFEST)]) == 2
    assert Package.open(PERSON)
