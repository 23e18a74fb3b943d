"""A run folder to a model package: written beside its place, checked, and only then put there."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bench import bench
from edge_runtime.image import encode_png, read_image
from edge_runtime.package import MANIFEST, GoldenFrame, Manifest, Variant
from edge_runtime.preprocess import resize_image
from edge_runtime.segmenter import Segmenter
from edge_runtime.storage import new_folder, sha256, write_bytes, write_json
from export.app_model import build_app_model
from export.checkpoint import load_checkpoint
from export.config import ExportConfig
from export.convert import convolution_layers, gflops, trace
from export.optimise import optimise
from export.parity import KerasReference, measure_parity
from export.report import ReportInputs, render_report
from export.run_folder import RunFolder, read_run

GOLDEN_FRAMES = 3
GOLDEN_MAX_WIDTH_PX = 640
BENCH_RUNS = 30


def export_package(
    config: ExportConfig, on_stage: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> Manifest:
    """Convert a run, prove that the result is the same, and write the package atomically, or nothing.

    Args:
        config: What to export and where to.
        on_stage: Called with what is being done, and how much of it is done and in all.

    Returns:
        The manifest of the package at ``config.out``.

    Raises:
        ModelError: The run folder or its checkpoint is refused.
        ParityError: Keras and onnxruntime differ by more than the budget.
        InputError: The validation images cannot be read.
        StorageError: The package cannot be written; what was there is untouched.
    """
    run = read_run(config.run, config.data)
    contract = replace(run.contract, name=config.out.resolve().name)
    with new_folder(config.out, overwrite=config.overwrite) as folder:
        on_stage("converting", 0, 1)
        model = load_checkpoint(run.checkpoint)
        raw = trace(model, config.opset)
        proto = optimise(raw, contract, convolution_layers(model))[-1].model
        path = folder / "model.onnx"
        write_bytes(path, proto.SerializeToString())
        segmenter = Segmenter.load(path)
        parity = measure_parity(
            KerasReference(model, contract),
            segmenter,
            run.validation,
            run.encoding,
            lambda done, total: on_stage("parity", done, total),
        )
        parity.require(config.budget)
        on_stage("measuring", 0, 1)
        golden = _write_golden(folder, segmenter, run)
        manifest = Manifest(
            contract=contract,
            variants={"fp32": Variant(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)},
            files={},
            golden=golden,
            parameters=int(model.count_params()),
            gflops=round(gflops(raw), 6),
            parity=parity.to_dict(config.budget),
            metrics={"split": "val", "keras": parity.keras.to_dict(), "fp32": parity.onnx.to_dict()},
            provenance=_provenance(run, config),
        )
        inputs = ReportInputs(
            manifest=manifest,
            latency=bench(path, runs=BENCH_RUNS),
            history=run.record["history"],
            validation=run.validation,
            accuracies=parity.onnx.image_accuracies,
            encoding=run.encoding,
            segmenter=segmenter,
        )
        write_bytes(folder / "model.app.onnx", build_app_model(proto, contract).SerializeToString())
        write_bytes(folder / "report.html", render_report(inputs).encode())
        others = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != path]
        manifest = replace(manifest, files={p.relative_to(folder).as_posix(): sha256(p) for p in others})
        write_json(folder / MANIFEST, manifest.to_dict())
    return manifest


def _write_golden(folder: Path, segmenter: Segmenter, run: RunFolder) -> tuple[GoldenFrame, ...]:
    """Write a few validation frames, no wider than a camera's, and the masks that this machine computes for them."""
    (folder / "golden").mkdir()
    frames = []
    chosen = np.unique(np.linspace(0, len(run.validation) - 1, GOLDEN_FRAMES).round().astype(int))
    for number, index in enumerate(chosen):
        image_bgr = read_image(run.validation[index].image)
        height, width = image_bgr.shape[:2]
        if width > GOLDEN_MAX_WIDTH_PX:
            image_bgr = resize_image(image_bgr, round(height * GOLDEN_MAX_WIDTH_PX / width), GOLDEN_MAX_WIDTH_PX)
        frame = GoldenFrame(image=f"golden/{number}.png", mask=f"golden/{number}.mask.png")
        write_bytes(folder / frame.image, encode_png(image_bgr, frame.image))
        write_bytes(folder / frame.mask, encode_png(segmenter(image_bgr).mask, frame.mask))
        frames.append(frame)
    return tuple(frames)


def _provenance(run: RunFolder, config: ExportConfig) -> dict[str, Any]:
    record = run.record
    packages = ("edge-unet", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy", "opencv-python")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint_sha256": sha256(run.checkpoint),
        "config": record["config"],
        "data_fingerprint": record["data"]["fingerprint"],
        "images": {split: len(pairs) for split, pairs in record["data"]["splits"].items()},
        "epochs": len(record["history"]),
        "seed": record["seed"],
        "opset": config.opset,
        "budget": asdict(config.budget),
        "versions": {**{name: version(name) for name in packages}, "python": platform.python_version()},
    }
