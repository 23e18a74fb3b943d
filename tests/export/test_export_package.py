"""From a run folder to a package: complete and proved, or not there at all, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import PAIRS, write_color_data, write_run

from edge_runtime.cli import main
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.dataset.provenance import TrainingData
from edge_runtime.device.golden import golden_test
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.image import encode_png, read_image
from edge_runtime.model.package import MANIFEST, Manifest, Package
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.storage import sha256, write_bytes
from export.config import ExportConfig, Int8Budget
from export.package import _without_folders, export_package
from export.passes import OPTIONAL_PASSES

DEADLINE_S = 120
ANYTHING = Int8Budget(mean_iou_drop=1.0, class_iou_drop=1.0, speedup=0.0)
IMPOSSIBLE = ["--int8", "always", "--max-iou-drop", "-1"]
# The command with a limit on the size of any file it writes, which is what a full disk looks like.
LIMITED = """
import resource, sys
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from edge_runtime.cli import main
sys.exit(main(sys.argv[2:]))
"""
# The command, which kills itself just before it does something for the first time: an audit event that names a file.
KILLED = """
import fnmatch, os, signal, sys
sys.dont_write_bytecode = True
def watch(event, arguments):
    if event == sys.argv[1]:
        names = [os.fsdecode(name) for name in arguments if isinstance(name, (str, bytes, os.PathLike))]
        if fnmatch.filter(names, sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from edge_runtime.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    return write_run(root / "run", write_color_data(root / "data"), "edge")


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, Manifest]:
    stages: list[tuple[str, int, int]] = []
    out = run.parent / "models" / "Größe 1"  # neither the parent nor plain letters are there before
    manifest = export_package(ExportConfig(run=str(run), out=str(out), int8="off"), lambda *stage: stages.append(stage))
    images = 2 * PAIRS["val"]
    assert [stage for stage in stages if stage[0] != "stages"] == [
        ("converting", 0, 1),
        ("converting", 1, 1),
        *(("parity", n, images) for n in range(images + 1)),
        ("measuring", 0, 1),
    ]
    return out, manifest


@pytest.fixture(scope="module")
def with_int8(run: Path, exported: tuple[Path, Manifest]) -> tuple[Path, Manifest]:
    """A package with an INT8 variant, however much that loses and gains, for its weights are random."""
    out = run.parent / "int8" / "parts"
    return out, export_package(ExportConfig(run=run, out=out, int8_budget=ANYTHING))


@pytest.fixture
def package(exported: tuple[Path, Manifest], tmp_path: Path) -> Path:
    """A copy of the package, to be overwritten."""
    return shutil.copytree(exported[0], tmp_path / "models" / "parts")


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def killed(moment: tuple[str, str], run: Path, package: Path, *options: str) -> None:
    """Export over a package in a process that is killed at a moment: an audit event and the pattern of a name."""
    command = ["export", str(run), "--out", str(package), "--overwrite", *options]
    child = subprocess.run(
        [sys.executable, "-c", KILLED, *moment, *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr or "the export ended without that moment"


class TestPackage:
    def test_it_opens_and_holds_what_the_design_says(self, exported):
        out, manifest = exported
        package = Package.open(out)
        assert package.manifest == manifest
        golden = {f"golden/{n}{kind}.png" for n in range(3) for kind in ("", ".mask")}
        assert (
            digests(out).keys()
            == {MANIFEST, "model.onnx", "model.app.onnx", "report.html", "training-images.bin"} | golden
        )
        assert manifest.contract.name == "Größe 1"
        assert [c.name for c in manifest.contract.classes] == ["background", "red", "blue"]
        assert names(out.parent) == {out.name}

    def test_its_golden_test_passes(self, exported):
        golden = golden_test(Package.open(exported[0]))
        assert golden is not None
        assert (golden.ok, golden.pixel_agreement, golden.frames) == (True, 1.0, 3)

    def test_the_golden_masks_hold_more_than_one_class(self, exported):
        masks = [read_mask(exported[0] / frame.masks["fp32"]).values for frame in exported[1].golden]
        assert any(mask.min() != mask.max() for mask in masks)

    def test_the_bare_model_runs_too(self, exported):
        assert Segmenter.load(exported[0] / "model.onnx").contract == exported[1].contract

    def test_the_model_for_other_applications_is_refused_by_name(self, exported):
        with pytest.raises(
            ModelError, match=r"model\.app\.onnx — is for applications without this runtime.* model\.onnx$"
        ):
            Segmenter.load(exported[0] / "model.app.onnx")

    def test_the_manifest_has_the_figures(self, exported, run):
        out, manifest = exported
        variant = manifest.variants["fp32"]
        assert variant.bytes == (out / "model.onnx").stat().st_size
        assert manifest.parameters > 1000
        assert manifest.gflops > 0
        assert manifest.parity["max_abs_diff"] <= 1e-5
        assert manifest.parity["class_agreement"] >= 0.9999
        keras, fp32 = manifest.metrics["keras"], manifest.metrics["fp32"]
        assert keras["images"] == fp32["images"] == PAIRS["val"]
        assert fp32["mean_iou"] == pytest.approx(keras["mean_iou"], abs=5e-4)
        assert fp32["per_class_iou"].keys() == {"background", "red", "blue"}
        record = json.loads((run / "run.json").read_text())
        provenance = manifest.provenance
        assert provenance["data_fingerprint"] == record["data"]["fingerprint"]
        assert provenance["checkpoint_sha256"] == sha256(run / "best.keras")
        assert (provenance["seed"], provenance["opset"], provenance["epochs"]) == (0, 17, 2)
        assert provenance["images"] == PAIRS
        assert provenance["logit_adjustment"] == record["checkpoints"]["best"][0].get("logit_adjustment", {})
        assert {"keras", "tensorflow", "tf2onnx", "onnxruntime", "python"} <= provenance["versions"].keys()

    def test_it_knows_the_masks_and_images_of_training(self, exported, run):
        record = json.loads((run / "run.json").read_text())
        package, root = Package.open(exported[0]), Path(record["data"]["root"])
        assert package.manifest.provenance["labels"] == record["data"]["labels"]
        assert package.manifest.provenance["empty_without_mask"] is False
        images = [root / image for image, _ in record["data"]["splits"]["train"]]
        digests = sorted(hashlib.sha256(path.read_bytes()).digest()[:8] for path in images)
        assert (exported[0] / "training-images.bin").read_bytes() == b"".join(digests)
        known = TrainingData.of(package)
        assert [known.has(path) for path in images] == [True] * PAIRS["train"]
        assert not any(known.has(root / image) for image, _ in record["data"]["splits"]["val"])
        assert known.labels == LabelKey.from_dict(record["data"]["labels"], "run.json")

    def test_no_path_of_this_machine_is_in_it(self, exported, run):
        """A package is given away: who trained it, and where, is nobody's business."""
        for path in exported[0].rglob("*"):
            if path.is_file():
                assert str(run.parent).encode() not in path.read_bytes(), path

    def test_the_report_is_one_page_that_loads_nothing(self, exported):
        page = (exported[0] / "report.html").read_text()
        sources = re.findall(r'<(?:img|link|script|video|iframe|source)[^>]*?\s(?:src|href)="([^"]*)"', page)
        assert len(sources) >= 4 * 6
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        assert not re.search(r'(?:src|href)\s*=\s*"?\s*(?:https?:)?//', page)
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", page)
        assert "<script" not in page
        for text in (
            "Größe 1",
            "background",
            "red",
            "blue",
            "largest difference of a probability",
            exported[1].variants["fp32"].sha256,
        ):
            assert text in page
        assert page.rstrip().endswith("</html>")


class TestInt8:
    def test_the_package_holds_it_with_masks_of_its_own(self, with_int8):
        out, manifest = with_int8
        package = Package.open(out)
        assert package.manifest == manifest
        assert manifest.variants.keys() == {"fp32", "int8"}
        assert manifest.variants["int8"].file == "model.int8.onnx"
        assert manifest.variants["int8"].bytes == (out / "model.int8.onnx").stat().st_size
        golden = {f"golden/{n}{kind}.png" for n in range(3) for kind in ("", ".mask", ".int8.mask")}
        models = {"model.onnx", "model.int8.onnx", "model.app.onnx"}
        assert digests(out).keys() == {MANIFEST, "report.html", "training-images.bin"} | models | golden
        for number, frame in enumerate(manifest.golden):
            assert frame.masks == {
                "fp32": f"golden/{number}.mask.png",
                "int8": f"golden/{number}.int8.mask.png",
            }

    def test_its_masks_are_what_it_gives_and_not_what_float_gives(self, with_int8):
        out, manifest = with_int8
        equal = {"fp32": [], "int8": []}
        for variant in manifest.variants:
            segmenter = Segmenter.load(out, variant=variant)
            for frame in manifest.golden:
                found = segmenter(read_image(out / frame.image)).mask
                np.testing.assert_array_equal(found, read_mask(out / frame.masks[variant]).values)
                equal[variant] += [np.array_equal(found, read_mask(out / m).values) for m in frame.masks.values()]
        assert not all(equal["fp32"])
        assert not all(equal["int8"])

    def test_it_is_taken_unless_float_is_asked_for(self, with_int8):
        assert Segmenter.load(with_int8[0]).variant == "int8"
        assert Segmenter.load(with_int8[0], variant="fp32").variant == "fp32"
        assert Segmenter.load(with_int8[0] / "model.int8.onnx").contract == with_int8[1].contract

    def test_the_figures_are_in_the_manifest(self, with_int8):
        manifest = Package.open(with_int8[0]).manifest
        quantization = manifest.quantization
        assert quantization == with_int8[1].quantization
        assert quantization["shipped"] is True
        assert quantization["reason"].startswith("INT8 changes the mean IoU by ")
        assert quantization["budget"] == {"mean_iou_drop": 1.0, "class_iou_drop": 1.0, "speedup": 0.0}
        assert quantization["calibration_images"] == PAIRS["val"]
        assert quantization["speedup"] > 0
        int8, fp32 = manifest.metrics["int8"], manifest.metrics["fp32"]
        assert int8["images"] == PAIRS["val"]
        assert int8.keys() == fp32.keys()
        drop = quantization["best"]["mean_iou_drop"]
        assert int8["mean_iou"] == pytest.approx(fp32["mean_iou"] - drop, abs=1e-9)

    def test_it_is_the_last_of_the_stages_and_the_only_one_that_may_differ(self, with_int8):
        *stages, last = with_int8[1].parity["stages"]
        assert last["name"] == "INT8"
        assert last["max_abs_diff"] > 1e-4
        assert [s["name"] for s in stages][-1] == "INT8 layout: pixel-groups-narrow"
        assert max(s["max_abs_diff"] for s in stages) <= 1e-5

    def test_the_golden_test_compares_both(self, with_int8):
        golden = golden_test(Package.open(with_int8[0]))
        assert golden.variants == {"fp32": 1.0, "int8": 1.0}
        assert (golden.ok, golden.frames) == (True, 3)

    def test_without_it_there_is_nothing_of_it(self, exported):
        out, manifest = exported
        assert manifest.variants.keys() == {"fp32"}
        assert manifest.quantization["shipped"] is False
        assert manifest.quantization["reason"] == "INT8 was switched off"
        assert manifest.quantization["attempts"] == []
        assert "int8" not in manifest.metrics
        assert not any(s["name"].startswith("INT8") for s in manifest.parity["stages"])
        assert Segmenter.load(out).variant == "fp32"

    def test_a_budget_that_nothing_meets_writes_nothing_where_it_is_insisted_on(self, run, package, capsys):
        before = digests(package)
        assert main(["export", str(run), "--out", str(package), "--overwrite", *IMPOSSIBLE]) == 5
        message = (
            r"edge-unet: INT8 — changes the mean IoU by \S+ .* are allowed\) — no package was written — calibrate on"
        )
        assert re.search(message, capsys.readouterr().err)
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    def test_it_is_calibrated_on_the_pictures_that_are_given(self, run, with_int8, tmp_path):
        folder = tmp_path / "pictures"
        folder.mkdir()
        (folder / "notes.txt").write_text("no picture")
        for number in range(3):
            write_bytes(folder / f"{number}.png", encode_png(np.full((30, 50, 3), 90 * number, np.uint8), "picture"))
        out, data = tmp_path / "parts", run.parent / "data"
        config = ExportConfig(run=run, out=out, data=str(data), int8_budget=ANYTHING, calibration=str(folder))
        manifest = export_package(config)
        assert manifest.quantization["calibration_images"] == 3
        # All that is not INT8 is the same to the last bit: an export can be repeated.
        assert manifest.variants["fp32"] == with_int8[1].variants["fp32"]
        same = {name for name in manifest.files if "int8" not in name and name != "report.html"}
        assert {name: manifest.files[name] for name in same} == {name: with_int8[1].files[name] for name in same}
        assert manifest.variants["int8"] != with_int8[1].variants["int8"]


def test_a_manifest_names_files_and_not_where_they_were():
    config = {"start_from": "mediapipe:/home/me/a.tflite", "encoder_weights": "/home/me/b.weights.h5", "seed": 1}
    named = {"start_from": "mediapipe:a.tflite", "encoder_weights": "b.weights.h5", "seed": 1}
    assert _without_folders(config) == named
    unset = {"start_from": None, "encoder_weights": "imagenet"}
    assert _without_folders(unset) == unset


class TestWithout:
    def test_passes_are_left_out_and_an_int8_that_loses_is_too(self, run, tmp_path, capsys):
        out = tmp_path / "p"
        without = ["--without", "phases", "--without", "pixel-groups"]
        assert main(["export", str(run), "--out", str(out), *without, *IMPOSSIBLE[2:], "--min-speedup", "0"]) == 0
        manifest = Package.open(out).manifest
        assert [s["name"] for s in manifest.parity["stages"]] == [
            "tf2onnx", "unpooling", "upsampling", "hard-sigmoid", "normalisation", "pixels", "pixel-rows", "class map", "means", "gates", "skips",
            "INT8 layout: transposed", "INT8 layout: copies", "INT8 layout: pixel-groups-narrow",
        ]  # fmt: skip
        assert manifest.provenance["without"] == ["phases", "pixel-groups"]
        assert manifest.variants.keys() == {"fp32"}
        assert len(manifest.quantization["attempts"]) > 2
        assert manifest.quantization["sensitivity"]
        printed = capsys.readouterr().out
        assert f"{manifest.quantization['reason']}: not in the package" in printed
        assert "model.int8.onnx" not in printed

    def test_an_unknown_one_is_refused_with_those_there_are(self, run, tmp_path, capsys):
        assert main(["export", str(run), "--out", str(tmp_path / "p"), "--without", "magic"]) == 2
        expected = f"edge-unet: --without magic — no such pass — choose of {', '.join(OPTIONAL_PASSES)}\n"
        assert capsys.readouterr().err == expected
        assert names(tmp_path) == set()

    def test_what_makes_the_contract_cannot_be_left_out(self, run, tmp_path):
        for name in ("pixels", "class map"):
            with pytest.raises(UsageError, match=rf"--without {name} — no such pass"):
                ExportConfig(run=run, out=tmp_path / "p", without=(name,))


class TestPlace:
    def test_an_existing_folder_is_left_alone(self, run, package, capsys):
        before = digests(package)
        assert main(["export", str(run), "--out", str(package)]) == 2
        assert f"output folder {package} — exists — choose another name or pass --overwrite" in capsys.readouterr().err
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    def test_a_file_in_the_way_is_left_alone(self, run, tmp_path, capsys):
        (tmp_path / "file").write_text("mine")
        assert main(["export", str(run), "--out", str(tmp_path / "file"), "--overwrite"]) == 2
        assert "is a file — choose another name" in capsys.readouterr().err
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_folder_that_is_no_package_is_left_alone(self, run, tmp_path, capsys):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "1.txt").write_text("mine")
        for out in (tmp_path / "thesis", run, run.parent):
            before = names(out)
            assert main(["export", str(run), "--out", str(out), "--overwrite"]) == 2
            assert "holds something else than an earlier command of this kind has written" in capsys.readouterr().err
            assert names(out) == before

    def test_overwrite_exchanges_the_package_and_keeps_nothing_of_the_old(self, run, package, capsys):
        (package / "old.txt").write_text("of another time")
        assert main(["export", str(run), "--out", str(package), "--overwrite", "--opset", "13", "--int8", "off"]) == 0
        manifest = Package.open(package).manifest
        assert manifest.provenance["opset"] == 13
        assert manifest.contract.name == "parts"
        assert names(package.parent) == {package.name}
        out, err = capsys.readouterr()
        assert "parity with Keras: probabilities differ by at most" in out
        assert f"next: edge-unet run {package}" in out
        assert "Traceback" not in err


class TestRefusal:
    @pytest.mark.parametrize("opset", [12, 19, 0])
    def test_an_opset_that_cannot_work(self, run, tmp_path, opset, capsys):
        assert main(["export", str(run), "--out", str(tmp_path / "p"), "--opset", str(opset)]) == 2
        assert capsys.readouterr().err == f"edge-unet: --opset {opset} — expected 13 to 18\n"
        assert names(tmp_path) == set()

    def test_an_opset_as_a_library(self, run, tmp_path):
        with pytest.raises(UsageError, match="--opset 12 — expected 13 to 18"):
            ExportConfig(run=run, out=tmp_path / "p", opset=12)

    def test_a_failed_gate_writes_nothing(self, run, package, capsys, caplog):
        before = digests(package)
        out = package.parent / "new"
        assert main(["export", str(run), "--out", str(out), "--max-diff", "0"]) == 5
        assert "retracing" not in caplog.text  # every stage was looked into, and TensorFlow has nothing to say of it
        message = (
            r"edge-unet: parity gate — .* \|Δ probability\| \S+ > 0; from stage 'tf2onnx' on — no package was written"
        )
        assert re.search(message, capsys.readouterr().err)
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    @pytest.mark.parametrize("there", [True, False])
    def test_calibration_on_nothing(self, run, package, tmp_path, there, capsys):
        folder = tmp_path / "pictures"
        if there:
            folder.mkdir()
            (folder / "notes.txt").write_text("no picture")
        before = digests(package)
        arguments = ["export", str(run), "--out", str(package), "--overwrite", "--calibration", str(folder)]
        assert main(arguments) == 3
        found = "no images in it" if there else "no such folder"
        assert f"--calibration {folder} — {found} — expected a folder of images" in capsys.readouterr().err
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    def test_calibration_on_a_picture_that_is_none(self, run, tmp_path, capsys):
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "0.png").write_bytes(b"no picture")
        arguments = ["export", str(run), "--out", str(tmp_path / "p"), "--calibration", str(tmp_path / "pictures")]
        assert main(arguments) == 3
        assert re.search(r"pictures/0\.png — .*not an image", capsys.readouterr().err)
        assert names(tmp_path) == {"pictures"}

    def test_calibration_without_int8(self, run, tmp_path, capsys):
        arguments = ["export", str(run), "--out", str(tmp_path / "p"), "--calibration", "x", "--int8", "off"]
        assert main(arguments) == 2
        expected = "edge-unet: --calibration is given, and --int8 off — leave one of them out\n"
        assert capsys.readouterr().err == expected

    @pytest.mark.parametrize("option", ["--max-diff", "--min-agreement", "--max-iou-change", "--max-layer-diff",
                                        "--max-iou-drop", "--max-class-drop", "--min-speedup"])  # fmt: skip
    @pytest.mark.parametrize("value", ["inf", "nan"])
    def test_a_budget_that_is_no_number(self, run, tmp_path, option, value, capsys):
        """JSON has neither, and the manifest tells what the budget was."""
        assert main(["export", str(run), "--out", str(tmp_path / "p"), option, value]) == 2
        assert re.fullmatch(rf"edge-unet: budget \w+ is {value} — expected a finite number\n", capsys.readouterr().err)

    def test_a_run_without_validation_images(self, run, tmp_path, capsys):
        copy = shutil.copytree(run, tmp_path / "run")
        record = json.loads((copy / "run.json").read_text())
        record["data"]["splits"]["val"] = []
        (copy / "run.json").write_text(json.dumps(record))
        assert main(["export", str(copy), "--out", str(tmp_path / "p")]) == 3
        assert "validation split — no images in it — export compares on them" in capsys.readouterr().err
        assert names(tmp_path) == {"run"}

    def test_no_run_folder(self, tmp_path, capsys):
        assert main(["export", str(tmp_path), "--out", str(tmp_path / "p")]) == 4
        assert "no run.json inside" in capsys.readouterr().err
        assert names(tmp_path) == set()

    def test_a_contract_that_is_not_the_model_s(self, run, tmp_path, capsys):
        """Somebody edited run.json: the graph says what it is."""
        copy = shutil.copytree(run, tmp_path / "run")
        record = json.loads((copy / "run.json").read_text())
        record["contract"]["classes"].append({"id": 3, "name": "green", "color": [0, 255, 0]})
        (copy / "run.json").write_text(json.dumps(record))
        assert main(["export", str(copy), "--out", str(tmp_path / "p")]) == 4
        assert "model.onnx: tensor 'logits' is" in capsys.readouterr().err
        assert names(tmp_path) == {"run"}

    def test_data_that_is_gone(self, run, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        assert main(["export", str(run), "--out", str(tmp_path / "p"), "--data", str(tmp_path / "empty")]) == 3
        assert "0.png — missing — export compares on the validation images — pass --data DIR" in capsys.readouterr().err
        assert names(tmp_path) == {"empty"}

    def test_a_parent_that_is_a_file(self, run, tmp_path, capsys):
        (tmp_path / "file").write_text("mine")
        assert main(["export", str(run), "--out", str(tmp_path / "file" / "p")]) == 6
        assert re.search(r"edge-unet: cannot write .*/file/p — .+ — check the path", capsys.readouterr().err)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_is_read_only(self, run, tmp_path, capsys):
        tmp_path.chmod(0o500)
        assert main(["export", str(run), "--out", str(tmp_path / "p")]) == 6
        assert "permission denied — check the permissions" in capsys.readouterr().err


class TestAccident:
    def test_a_disk_that_fills_up_later_leaves_the_old_package(self, run, package, capsys):
        """With room for the model, and not for the next file; in this process, for the limit can be lifted again."""
        before = digests(package)
        limit = (package / "model.onnx").stat().st_size + 100
        assert (package / "model.app.onnx").stat().st_size > limit
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            code = main(["export", str(run), "--out", str(package), "--overwrite", "--int8", "off"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert code == 6
        message = r"cannot write .*/model\.app\.onnx — file too large — raise the file size limit"
        assert re.search(message, capsys.readouterr().err)
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    def test_a_full_disk_leaves_the_old_package(self, run, package):
        before = digests(package)
        limit = (package / "model.onnx").stat().st_size // 2
        child = subprocess.run(
            [sys.executable, "-c", LIMITED, str(limit), "export", str(run), "--out", str(package), "--overwrite"],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert child.returncode == 6, child.stderr
        assert re.search(
            r"edge-unet: cannot write .*/model\.onnx — file too large — raise the file size limit", child.stderr
        )
        assert digests(package) == before
        assert names(package.parent) == {package.name}

    def test_a_kill_while_writing_leaves_the_old_package_and_nothing_in_the_way(self, run, package):
        """The model is there, and the manifest, which is written last, is not."""
        before = digests(package)
        killed(("open", "*/.parts.*/.manifest.*"), run, package)
        (leftover,) = names(package.parent) - {package.name}
        found = names(package.parent / leftover)
        assert "model.onnx" in found and MANIFEST not in found
        assert digests(package) == before
        assert Package.open(package).manifest.provenance["opset"] == 17

        export_package(ExportConfig(run=run, out=package, opset=18, overwrite=True, int8="off"))
        assert Package.open(package).manifest.provenance["opset"] == 18
        assert names(package.parent) == {package.name, leftover}

    @pytest.mark.parametrize(
        ("moment", "is_new"),
        [
            pytest.param(("ctypes.dlsym", "renameat2"), False, id="before the exchange"),
            *(
                pytest.param(moment, is_new, id=name, marks=pytest.mark.slow)
                for name, moment, is_new in (
                    ("before anything", ("os.mkdir", "*/.parts.*"), False),
                    ("before the first file", ("open", "*/.parts.*/*"), False),
                    ("before the model has its name", ("os.rename", "*/.parts.*/model.onnx"), False),
                    ("before the INT8 model has its name", ("os.rename", "*/.parts.*/model.int8.onnx"), False),
                    ("before the report", ("open", "*/.parts.*/.report.*"), False),
                    ("before the manifest has its name", ("os.rename", f"*/.parts.*/{MANIFEST}"), False),
                    ("after the exchange", ("shutil.rmtree", "*/.parts.*"), True),
                    ("while the old one is removed", ("os.remove", MANIFEST), True),
                )
            ),
        ],
    )
    def test_a_kill_at_any_moment_leaves_the_old_package_or_the_new_one(self, run, package, with_int8, moment, is_new):
        before = digests(package)
        killed(moment, run, package, "--max-iou-drop", "1", "--max-class-drop", "1", "--min-speedup", "0")
        manifest = Package.open(package).manifest  # every file of it is checked against its digest
        if is_new:
            assert manifest.variants == with_int8[1].variants
            assert golden_test(Package.open(package)).ok
        else:
            assert digests(package) == before
        leftovers = names(package.parent) - {package.name}
        assert len(leftovers) <= 1
        assert all(name.startswith(".parts.") for name in leftovers)
