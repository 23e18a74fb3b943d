import hashlib
import json
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from colors import color_scene
from onnx import numpy_helper

from edge_runtime.cli import main
from edge_runtime.doctor import (
    MIN_PYTHON,
    MIN_VERSIONS,
    Check,
    Golden,
    Report,
    check_cameras,
    check_cores,
    check_disk,
    check_display,
    check_module,
    check_python,
    check_twins,
    examine,
    golden_test,
    import_in_child,
)
from edge_runtime.errors import GateError, ModelError, UsageError
from edge_runtime.package import MANIFEST, Package

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def sign_again(root: Path) -> None:
    """Write the digests of the files as they are now, as a wrong but undamaged export would have."""
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["files"] = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (root / MANIFEST).write_text(json.dumps(manifest))


def test_this_machine_is_fine(tmp_path):
    report = examine(None, tmp_path)
    assert report.ok, report
    assert {"python", "numpy", "onnxruntime", "cv2", "cores", "display", "disk", "cameras"} <= {
        c.name for c in report.checks
    }
    assert report.to_dict()["golden"] is None
    report.raise_if_bad()


def test_what_is_not_fine_comes_with_a_fix(tmp_path):
    for check in examine(None, tmp_path).checks:
        assert check.cause
        assert (check.fix is None) == (check.status == "ok")


def test_the_floors_are_those_of_the_project():
    project = tomllib.loads(PROJECT.read_text())["project"]
    floors = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", d).groups() for d in project["dependencies"])
    assert floors == {
        "numpy": MIN_VERSIONS["numpy"],
        "onnxruntime": MIN_VERSIONS["onnxruntime"],
        "opencv-python": MIN_VERSIONS["cv2"],
    }
    assert project["requires-python"] == ">=" + ".".join(map(str, MIN_PYTHON))


@pytest.mark.parametrize(
    ("version", "bits", "status"),
    [((3, 11, 0), 64, "ok"), ((3, 14, 2), 64, "ok"), ((3, 10, 9), 64, "error"), ((3, 11, 0), 32, "error")],
)
def test_python_must_be_new_and_64_bit(version, bits, status):
    assert check_python(version, bits).status == status


@pytest.mark.parametrize(
    ("version", "status"), [("1.30.1", "ok"), ("1.31.0", "ok"), ("2.0", "ok"), ("1.30.0", "error"), ("1.9.9", "error")]
)
def test_an_old_version_is_an_error_with_the_upgrade(version, status):
    check = check_module("onnxruntime", version, "")
    assert check.status == status
    assert status == "ok" or check.fix == "pip install -U 'onnxruntime>=1.30.1'"


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "apt-get install libgl1 libglib2.0-0"),
        ("ImportError: libgthread-2.0.so.0: cannot open", "apt-get install libgl1 libglib2.0-0"),
        ("ModuleNotFoundError: No module named 'cv2'", "pip install 'opencv-python>=4.10'"),
        ("ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found", "this wheel is for a newer system"),
        ("ImportError: DLL load failed while importing cv2", "Visual C++ Redistributable"),
        ("the import died of SIGILL", "this wheel is for another processor"),
        ("AttributeError: _ARRAY_API not found", "pip install --force-reinstall 'opencv-python>=4.10'"),
    ],
)
def test_a_broken_import_comes_with_its_remedy(error, fix):
    check = check_module("cv2", None, error)
    assert (check.status, check.cause) == ("error", f"import cv2 fails — {error}")
    assert fix in check.fix


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "ImportError: libGL.so.1: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the import died of SIGKILL"),
        ("raise SystemExit(3)", "the import ended with exit code 3"),
    ],
)
def test_a_broken_module_does_not_break_the_doctor(tmp_path, monkeypatch, body, error):
    (tmp_path / "broken_wheel.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    version, found = import_in_child("broken_wheel")
    assert version is None
    assert found.startswith(error)


def test_the_working_folder_cannot_shadow_a_module(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise ImportError('not the real one')")
    monkeypatch.chdir(tmp_path)
    assert import_in_child("numpy")[0] == np.__version__


def test_twin_wheels_are_named_with_the_way_out():
    (check,) = check_twins({"numpy", "opencv-python", "opencv-python-headless", "onnxruntime"})
    assert check.status == "warning"
    assert "opencv-python and opencv-python-headless are installed together" in check.cause
    assert check.fix == "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"
    assert len(check_twins({"onnxruntime", "onnxruntime-gpu", "opencv-python"})) == 1
    assert check_twins({"onnxruntime", "opencv-python-headless"}) == []


def test_fewer_usable_cores_are_a_warning():
    assert check_cores(4, 4).status == "ok"
    assert check_cores(1, 4) == Check(
        name="cores",
        status="warning",
        cause="1 of 4 cores usable (CPU affinity or a container's quota)",
        fix="give the process more cores if it is meant to be faster (taskset, docker --cpus, CPUQuota=)",
    )


@pytest.mark.parametrize(
    ("environment", "platform", "headless", "status"),
    [
        ({}, "linux", False, "warning"),
        ({"DISPLAY": ""}, "linux", False, "warning"),
        ({"DISPLAY": ":0"}, "linux", False, "ok"),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", False, "ok"),
        ({"DISPLAY": ":0"}, "linux", True, "warning"),
        ({}, "win32", False, "ok"),
    ],
)
def test_a_window_needs_a_display_and_the_full_wheel(environment, platform, headless, status):
    assert check_display(environment, platform, headless_wheel=headless).status == status


def test_a_folder_that_is_not_there_is_a_warning(tmp_path):
    assert check_disk(tmp_path).name == "disk"
    check = check_disk(tmp_path / "none")
    assert (check.status, check.fix) == ("warning", "change to another folder")


def test_cameras_are_listed(tmp_path):
    assert check_cameras(tmp_path, "linux").cause == "no /dev/video* device"
    (tmp_path / "video0").touch()
    (tmp_path / "video1").touch()
    check = check_cameras(tmp_path, "linux")
    assert (check.status, check.cause) == ("ok", f"{tmp_path / 'video0'}, {tmp_path / 'video1'}")
    assert check_cameras(tmp_path, "darwin").status == "ok"


def test_the_golden_frames_come_out_as_stored(color_package, tmp_path):
    report = examine(color_package, tmp_path)
    assert report.golden == Golden(ok=True, pixel_agreement=1.0, frames=1, variants={"fp32": 1.0})
    assert report.to_dict()["golden"]["pixel_agreement"] == 1.0
    assert report.ok
    report.raise_if_bad()


def test_a_machine_that_computes_something_else_fails_the_gate(color_package, tmp_path):
    mask_file = color_package / "golden" / "0.mask.png"
    mask = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
    mask[:4] = 2 - mask[:4]
    cv2.imwrite(str(mask_file), mask)
    sign_again(color_package)
    report = examine(color_package, tmp_path)
    assert not report.ok
    assert report.golden.pixel_agreement == pytest.approx(1 - 4 / 48)
    with pytest.raises(GateError, match=r"91\.6667% of the pixels of variant 'fp32' agree — expected at least 99\.9%"):
        report.raise_if_bad()


@pytest.fixture
def two_variants(color_package) -> Path:
    """The package with an "INT8" variant that takes red for blue, and masks in which it does."""
    data = (color_package / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[[0, 2, 1]], "kernel"))
    (color_package / "model.int8.onnx").write_bytes(model.SerializeToString())
    mask = cv2.imread(str(color_package / "golden" / "0.mask.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(color_package / "golden" / "0.int8.mask.png"), np.array([0, 2, 1], np.uint8)[mask])
    manifest = json.loads((color_package / MANIFEST).read_text())
    digest = hashlib.sha256((color_package / "model.int8.onnx").read_bytes()).hexdigest()
    manifest["variants"]["int8"] = {"file": "model.int8.onnx", "sha256": digest, "bytes": len(data)}
    manifest["golden"][0]["masks"]["int8"] = "golden/0.int8.mask.png"
    manifest["files"]["golden/0.int8.mask.png"] = ""
    (color_package / MANIFEST).write_text(json.dumps(manifest))
    sign_again(color_package)
    return color_package


def test_each_variant_is_compared_with_its_own_masks(two_variants, tmp_path):
    report = examine(two_variants, tmp_path)
    assert report.golden == Golden(ok=True, pixel_agreement=1.0, frames=1, variants={"fp32": 1.0, "int8": 1.0})
    assert report.to_dict()["golden"]["variants"] == {"fp32": 1.0, "int8": 1.0}
    report.raise_if_bad()


@pytest.mark.parametrize(("variant", "file"), [("fp32", "0.mask.png"), ("int8", "0.int8.mask.png")])
def test_the_variant_that_computes_something_else_is_named(two_variants, tmp_path, variant, file, capsys):
    mask = cv2.imread(str(two_variants / "golden" / file), cv2.IMREAD_UNCHANGED)
    mask[:6] = 1
    cv2.imwrite(str(two_variants / "golden" / file), mask)
    sign_again(two_variants)
    report = examine(two_variants, tmp_path)
    assert not report.golden.ok
    assert report.golden.worst == variant
    assert report.golden.variants == {"fp32": 1.0, "int8": 1.0} | {variant: pytest.approx(1 - 6 / 48)}
    assert report.golden.pixel_agreement == report.golden.variants[variant]
    with pytest.raises(GateError, match=rf"87\.5000% of the pixels of variant '{variant}' agree — expected at least"):
        report.raise_if_bad()
    assert main(["doctor", str(two_variants)]) == 5
    out, err = capsys.readouterr()
    assert f"variant '{variant}'" in err
    assert f"{variant} 87.5000%" in out


def test_a_damaged_package_is_in_the_report_and_raised(color_package, tmp_path):
    (color_package / "golden" / "0.png").write_bytes(b"x")
    report = examine(color_package, tmp_path)
    assert report.golden is None
    assert report.checks[-1].name == "package"
    assert "SHA-256" in report.checks[-1].cause
    assert not report.ok
    with pytest.raises(ModelError, match=r"golden/0\.png — SHA-256 is"):
        report.raise_if_bad()


def test_a_golden_mask_of_another_size_is_refused(color_package):
    cv2.imwrite(str(color_package / "golden" / "0.mask.png"), np.zeros((3, 3), np.uint8))
    sign_again(color_package)
    with pytest.raises(ModelError, match=r"0\.mask\.png — shape \(3, 3\) — expected \(48, 64\), as its frame"):
        golden_test(Package.open(color_package))


def test_a_signed_golden_frame_that_is_no_picture_is_a_refused_package(color_package, tmp_path):
    (color_package / "golden" / "0.png").write_bytes(b"no picture")
    sign_again(color_package)
    with pytest.raises(ModelError, match="not an image"):
        examine(color_package, tmp_path).raise_if_bad()


def test_a_package_without_golden_frames_is_a_warning(color_package, tmp_path):
    manifest = json.loads((color_package / MANIFEST).read_text())
    manifest["golden"] = []
    (color_package / MANIFEST).write_text(json.dumps(manifest))
    report = examine(color_package, tmp_path)
    assert report.golden is None
    assert (report.checks[-1].name, report.checks[-1].status) == ("golden", "warning")
    report.raise_if_bad()


def test_a_broken_installation_is_a_usage_error():
    report = Report(checks=(check_module("cv2", None, "ImportError: libGL.so.1"),))
    with pytest.raises(UsageError, match="installation — errors in cv2 — expected none — follow the fixes above"):
        report.raise_if_bad()


def test_golden_frames_are_the_scene(color_package):
    assert np.array_equal(cv2.imread(str(color_package / "golden" / "0.png")), color_scene())
