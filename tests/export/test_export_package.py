"""From a run folder to a package: complete and proved, or not there at all, whatever happens on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import PAIRS, write_color_data, write_run

from edge_runtime.cli import main
from edge_runtime.doctor import golden_test
from edge_runtime.errors import UsageError
from edge_runtime.labels import read_raw_mask
from edge_runtime.package import MANIFEST, Manifest, Package
from edge_runtime.segmenter import Segmenter
from edge_runtime.storage import sha256
from export.config import ExportConfig
from export.package import export_package

DEADLINE_S = 120
# The command with a limit on the size of any file it writes, which is what a full disk looks like.
LIMITED = """
import resource, sys
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from edge_runtime.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    return write_run(root / "run", write_color_data(root / "data"), "edge")


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, Manifest]:
    stages: list[tuple[str, int, int]] = []
    out = run.parent / "models" / "Größe 1"  # neither the parent nor plain letters are there before
    manifest = export_package(ExportConfig(run=run, out=out), lambda *stage: stages.append(stage))
    images = 2 * PAIRS["val"]
    assert stages == [("converting", 0, 1), *(("parity", n + 1, images) for n in range(images)), ("measuring", 0, 1)]
    return out, manifest


@pytest.fixture
def package(exported: tuple[Path, Manifest], tmp_path: Path) -> Path:
    """A copy of the package, to be overwritten."""
    return shutil.copytree(exported[0], tmp_path / "models" / "parts")


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestPackage:
    def test_it_opens_and_holds_what_the_design_says(self, exported):
        out, manifest = exported
        package = Package.open(out)
        assert package.manifest == manifest
        golden = {f"golden/{n}{kind}.png" for n in range(3) for kind in ("", ".mask")}
        assert digests(out).keys() == {MANIFEST, "model.onnx", "model.app.onnx", "report.html"} | golden
        assert manifest.contract.name == "Größe 1"
        assert [c.name for c in manifest.contract.classes] == ["background", "red", "blue"]
        assert names(out.parent) == {out.name}

    def test_its_golden_test_passes(self, exported):
        golden = golden_test(Package.open(exported[0]))
        assert golden is not None
        assert (golden.ok, golden.pixel_agreement, golden.frames) == (True, 1.0, 3)

    def test_the_golden_masks_hold_more_than_one_class(self, exported):
        masks = [read_raw_mask(exported[0] / frame.mask)[0] for frame in exported[1].golden]
        assert any(mask.min() != mask.max() for mask in masks)

    def test_the_bare_model_runs_too(self, exported):
        assert Segmenter.load(exported[0] / "model.onnx").contract == exported[1].contract

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
        assert {"keras", "tensorflow", "tf2onnx", "onnxruntime", "python"} <= provenance["versions"].keys()

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
            "max |Δ probability|",
            exported[1].variants["fp32"].sha256,
        ):
            assert text in page
        assert page.rstrip().endswith("</html>")


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

    def test_overwrite_exchanges_the_package_and_keeps_nothing_of_the_old(self, run, package, capsys):
        (package / "old.txt").write_text("of another time")
        assert main(["export", str(run), "--out", str(package), "--overwrite", "--opset", "13"]) == 0
        manifest = Package.open(package).manifest
        assert manifest.provenance["opset"] == 13
        assert manifest.contract.name == "parts"
        assert names(package.parent) == {package.name}
        out, err = capsys.readouterr()
        assert "parity: max |Δ probability|" in out
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

    def test_a_failed_gate_writes_nothing(self, run, package, capsys):
        before = digests(package)
        out = package.parent / "new"
        assert main(["export", str(run), "--out", str(out), "--max-diff", "0"]) == 5
        message = r"edge-unet: parity gate — .* \|Δ probability\| \S+ > 0 — no package was written"
        assert re.search(message, capsys.readouterr().err)
        assert digests(package) == before
        assert names(package.parent) == {package.name}

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
        before = digests(package)
        command = [sys.executable, "-m", "edge_runtime", "export", str(run), "--out", str(package), "--overwrite"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            deadline = time.monotonic() + DEADLINE_S
            # The model is there, and the manifest, which is written last, is not.
            while not list(package.parent.glob(".parts.*/model.onnx")):
                assert child.poll() is None, "the export ended before it could be killed"
                assert time.monotonic() < deadline, "the export wrote no model"
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        leftovers = names(package.parent) - {package.name}
        assert len(leftovers) == 1
        assert digests(package) == before
        assert Package.open(package).manifest.provenance["opset"] == 17

        export_package(ExportConfig(run=run, out=package, opset=18, overwrite=True))
        assert Package.open(package).manifest.provenance["opset"] == 18
        assert names(package.parent) == {package.name} | leftovers
