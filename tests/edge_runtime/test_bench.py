import json
import math
import shutil

import pytest
from colors import color_contract, write_color_package

from edge_runtime.device.bench import bench
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.package import MANIFEST


def test_the_documented_keys_are_there_and_finite(color_package):
    value = json.loads(json.dumps(bench(color_package, threads=1, runs=3).to_dict(), allow_nan=False))
    assert (value["threads"], value["runs"]) == (1, 3)
    assert value["frame"] == {"height": 480, "width": 640}
    assert value["variants"].keys() == {"fp32"}
    fp32 = value["variants"]["fp32"]
    assert fp32["stages_ms"].keys() == {"resize", "inference", "mask_resize"}
    for times in (fp32["session_ms"], fp32["frame_ms"], *fp32["stages_ms"].values()):
        assert times.keys() == {"p50", "p95"}
        assert 0 <= times["p50"] <= times["p95"]
        assert math.isfinite(times["p95"])


def test_every_variant_of_a_package_is_measured(tmp_path):
    root = write_color_package(tmp_path / "two", color_contract())
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["variants"]["int8"] = {**manifest["variants"]["fp32"], "file": "model.int8.onnx"}
    manifest["golden"][0]["masks"]["int8"] = manifest["golden"][0]["masks"]["fp32"]
    shutil.copy(root / "model.onnx", root / "model.int8.onnx")
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert bench(root, runs=1).variants.keys() == {"fp32", "int8"}


def test_a_bare_file_is_measured_too(color_package):
    assert bench(color_package / "model.onnx", runs=1).variants.keys() == {"fp32"}


@pytest.mark.parametrize(("option", "value"), [("runs", 0), ("threads", -1)])
def test_senseless_numbers_are_refused(color_package, option, value):
    with pytest.raises(UsageError, match=f"{option} is {value} — expected"):
        bench(color_package, **{option: value})


def test_a_missing_package_is_refused(tmp_path):
    with pytest.raises(ModelError, match="none"):
        bench(tmp_path / "none")
