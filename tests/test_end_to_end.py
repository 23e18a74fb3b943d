"""The whole way once, as a user goes it: pictures and masks, train, export, and the package in use; real commands only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.image import read_image
from training.data.synth import CLASS_NAMES, IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, SynthSize, write_synthetic_dataset

SIZE = SynthSize(train=24, val=6, test=5, video_frames=10)
DEADLINE_S = 300


def edge_unet(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own."""
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=DEADLINE_S, check=False)


def output(*arguments: object) -> str:
    """Run one command that must succeed and return its stdout."""
    done = edge_unet(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def one_object(*arguments: object) -> dict[str, Any]:
    """Run a command whose stdout must be one JSON object and nothing else."""
    return json.loads(output(*arguments))


def json_lines(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the frames and the summary of ``run --json``."""
    *frames, last = [json.loads(line) for line in text.splitlines()]
    assert last.keys() == {"summary"}
    return frames, last["summary"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands made, from data to package."""
    root = tmp_path_factory.mktemp("end to end")
    write_synthetic_dataset(root / "data", seed=1, size=SIZE)
    trained = output(
        "train", root / "data", "--out", root / "run", "--preset", "edge", "--input-size", "64x96",
        "--epochs", 3, "--batch-size", 8, "--seed", 5,
    )  # fmt: skip
    assert re.search(r"best mean IoU 0\.\d{4}, pixel accuracy 0\.\d{4} on 6 validation images", trained)
    # Three epochs make no model of which INT8 could be expected to keep anything; what matters is that both go the whole way.
    exported = output(
        "export", root / "run", "--out", root / "models" / "parts",
        "--int8", "always", "--max-iou-drop", 1, "--max-class-drop", 1,
    )  # fmt: skip
    assert "parity with Keras: probabilities differ by at most" in exported
    assert re.search(
        r"^INT8 changes the mean IoU by [+-]0\.\d{4} .* times as fast as float on this machine$", exported, re.M
    )
    assert re.search(r"parts: model\.onnx \(\d+\.\d MB\), model\.int8\.onnx \(\d+\.\d MB\), model\.app\.onnx", exported)
    return root


@pytest.fixture(scope="module")
def package(work: Path) -> Path:
    return work / "models" / "parts"


def test_data_check_and_preview(work):
    found = one_object("data", "check", work / "data", "--json")
    assert found.keys() >= {"ok", "images", "classes", "mask_encoding", "problems"}
    assert found["ok"] is True
    assert found["images"] == SIZE.train + SIZE.val + SIZE.test
    assert [c["name"] for c in found["classes"]] == list(CLASS_NAMES)
    assert found["mask_encoding"] == "index"
    output("data", "preview", work / "data", "--out", work / "sheet.png")
    assert read_image(work / "sheet.png").std() > 5


def test_training_leaves_a_run_folder(work):
    names = {path.name for path in (work / "run").iterdir()}
    assert names >= {"run.json", "best.keras", "report.html", "history.csv", "pictures", "tensorboard"}
    record = json.loads((work / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["history"]) == 3
    assert record["history"][-1]["loss"] < record["history"][0]["loss"]


def test_info_tells_what_the_package_is(package):
    found = one_object("info", package, "--json")
    assert found.keys() >= {"name", "input", "classes", "variants", "parity", "parameters", "gflops"}
    assert found["name"] == "parts"
    assert found["input"] == {"height": 64, "width": 96, "channels": 3}
    assert [(c["id"], c["name"]) for c in found["classes"]] == list(enumerate(CLASS_NAMES))
    assert all(len(c["color"]) == 3 for c in found["classes"])
    assert found["variants"].keys() == {"fp32", "int8"}
    for variant in found["variants"].values():
        assert variant.keys() >= {"file", "sha256", "bytes"}
    assert found["variants"]["int8"]["bytes"] < 0.5 * found["variants"]["fp32"]["bytes"]
    assert found["parity"]["max_abs_diff"] <= 1e-4
    assert found["parity"]["class_agreement"] >= 0.9999
    assert found["parameters"] > 100_000
    assert found["gflops"] > 0


def test_doctor_runs_the_golden_test(package):
    found = one_object("doctor", package, "--json")
    assert found.keys() >= {"ok", "checks", "golden"}
    assert found["ok"] is True
    assert all(check.keys() >= {"name", "status", "cause", "fix"} for check in found["checks"])
    assert found["golden"]["ok"] is True
    assert found["golden"]["pixel_agreement"] == 1.0
    assert found["golden"]["variants"] == {"fp32": 1.0, "int8": 1.0}


def test_the_runtime_is_as_good_as_keras(work, package):
    found = one_object("eval", package, work / "data", "--split", "val", "--variant", "fp32", "--json")
    assert found.keys() >= {
        "images", "mean_iou", "pixel_accuracy", "per_class_iou", "mean_dice", "boundary_f", "variant",
    }  # fmt: skip
    keras = json.loads((work / "run" / "run.json").read_text())["metrics"]
    assert found["images"] == keras["images"] == SIZE.val
    assert 0 < found["mean_iou"] < 1
    assert found["mean_iou"] == pytest.approx(keras["mean_iou"], abs=0.001)
    assert found["pixel_accuracy"] == pytest.approx(keras["pixel_accuracy"], abs=0.001)
    assert found["per_class_iou"].keys() == set(CLASS_NAMES)
    assert found["variant"] == "fp32"


def test_the_fast_variant_is_taken_unless_told_and_is_as_good_as_the_manifest_says(work, package):
    found = one_object("eval", package, work / "data", "--split", "val", "--json")
    manifest = json.loads((package / "manifest.json").read_text())
    assert found.pop("variant") == "int8"
    assert (found.pop("trained_on"), found.pop("left_out")) == (0, {})
    assert found == manifest["metrics"]["int8"]
    change = manifest["metrics"]["int8"]["mean_iou"] - manifest["metrics"]["fp32"]["mean_iou"]
    quantization = manifest["quantization"]
    assert quantization["shipped"] is True
    assert quantization["best"]["mean_iou_drop"] == pytest.approx(-change, abs=1e-9)


def test_a_folder_of_images(work, package):
    frames, summary = json_lines(
        output("run", package, "--source", work / "data" / "test" / "images", "--save", work / "images", "--json", "-")
    )
    assert len(frames) == summary["captured"] == summary["processed"] == SIZE.test
    assert (summary["dropped"], summary["failed"]) == (0, 0)
    assert summary.keys() >= {
        "captured", "processed", "dropped", "failed", "reconnects", "fps", "latency_ms", "age_ms",
    }  # fmt: skip
    assert summary["latency_ms"].keys() >= {"p50", "p95", "p99"}
    for frame in frames:
        assert frame.keys() >= {"frame", "source", "age_ms", "latency_ms", "classes", "mask"}
        assert frame["classes"].keys() == set(CLASS_NAMES)
        assert sum(frame["classes"].values()) == pytest.approx(1, abs=1e-5)
    masks = sorted((work / "images" / "masks").glob("*.png"))
    assert [path.stem for path in masks] == [f"{number:06d}" for number in range(SIZE.test)]
    for path in masks:
        mask = read_mask(path).values
        assert mask.shape == (IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX)
        assert mask.max() < len(CLASS_NAMES)


def test_a_video(work, package):
    video = next(path for path in (work / "data" / "video").iterdir() if path.is_file())
    frames, summary = json_lines(output("run", package, "--source", video, "--save", work / "video", "--json", "-"))
    assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"]
    assert (summary["captured"], summary["dropped"], summary["failed"]) == (SIZE.video_frames, 0, 0)
    assert len(frames) == SIZE.video_frames
    assert len(list((work / "video" / "masks").glob("*.png"))) == SIZE.video_frames


def test_bench_has_every_variant(package):
    found = one_object("bench", package, "--runs", 3, "--json")
    assert found.keys() >= {"threads", "variants"}
    assert found["variants"].keys() == {"fp32", "int8"}
    for latency in found["variants"].values():
        for key in ("session_ms", "frame_ms"):
            assert 0 < latency[key]["p50"] <= latency[key]["p95"]


@pytest.mark.parametrize(
    ("command", "file"), [("info", "model.onnx"), ("run", "model.onnx"), ("run", "model.int8.onnx")]
)
def test_one_flipped_bit_in_a_model_is_refused(work, package, command, file):
    damaged = shutil.copytree(package, work / f"damaged {command} {file}")
    data = bytearray((package / file).read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / file).write_bytes(data)
    source = ["--source", work / "data" / "test" / "images"] if command == "run" else []
    done = edge_unet(command, damaged, *source)
    assert done.returncode == 4
    assert re.fullmatch(
        rf"edge-unet: .*damaged [\w .]+/{re.escape(file)} — SHA-256 is \w+… — the manifest says .*\n", done.stderr
    )
    assert done.stdout == ""


def test_grey_binary_data_give_the_seed_network(tmp_path):
    data = tmp_path / "discs"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for number in range(8):
        mask = cv2.circle(np.zeros((40, 48), np.uint8), tuple(rng.integers(10, 30, 2).tolist()), 9, 255, -1)
        image = np.where(mask, 200, 60) + rng.integers(0, 20, mask.shape)
        cv2.imwrite(str(data / "images" / f"{number}.png"), image.astype(np.uint8))
        cv2.imwrite(str(data / "masks" / f"{number}.png"), mask)
    checked = one_object("data", "check", data, "--json")
    assert (checked["mask_encoding"], checked["channels"]) == ("binary", 1)
    output("train", data, "--out", tmp_path / "run", "--preset", "seed", "--input-size", "32x32", "--epochs", "2")
    output("export", tmp_path / "run", "--out", tmp_path / "package", "--max-diff", "1e-5", "--int8", "off")
    info = one_object("info", tmp_path / "package", "--json")
    assert info["parameters"] == 406_657
    assert info["input"] == {"height": 32, "width": 32, "channels": 1}
    assert info["parity"]["max_abs_diff"] <= 1e-5
    metrics = one_object("eval", tmp_path / "package", data, "--json")
    assert (metrics["images"], metrics["trained_on"], metrics["left_out"]) == (1, 0, {"trained_on": 7})
    assert metrics["per_class_iou"].keys() == {"background", "foreground"}
