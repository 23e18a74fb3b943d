"""A run folder to a model package: written beside its place, checked, and only then put there."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, evaluate
from edge_runtime.dataset.sampling import spread
from edge_runtime.device.bench import bench_segmenters
from edge_runtime.errors import InputError
from edge_runtime.image import encode_png, image_files, read_image
from edge_runtime.model.contract import Contract
from edge_runtime.model.package import MANIFEST, GoldenFrame, Manifest, Variant
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_image
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.storage import new_folder, printable, sha256, write_bytes, write_json
from export.app_model import build_app_model
from export.checkpoint import load_checkpoint
from export.config import ExportConfig
from export.convert import convolution_layers, gflops, trace
from export.int8_search import CALIBRATION_IMAGES, Quantization, find_int8
from export.optimise import Stage, integer_layout, optimise
from export.parity import KerasReference, measure_layers, measure_parity, measure_stages
from export.report import ReportInputs, render_report
from export.run_folder import RunFolder, read_run
from export.validation_set import ValidationSet

GOLDEN_FRAMES = 3
GOLDEN_MAX_WIDTH_PX = 640
BENCH_RUNS = 30

OnStage = Callable[[str, int, int], None]


def export_package(config: ExportConfig, on_stage: OnStage = lambda stage, done, total: None) -> Manifest:
    """Convert a run, prove that the result is the same, and write the package atomically, or nothing.

    Args:
        config: What to export and where to.
        on_stage: Called with what is being done, and how much of it is done and in all.

    Returns:
        The manifest of the package at ``config.out``.

    Raises:
        ModelError: The run folder or its checkpoint is refused.
        ParityError: Keras and onnxruntime differ by more than the budget.
        Int8Error: An INT8 variant was insisted on, and it loses more than the budget.
        InputError: The validation or calibration images cannot be read.
        StorageError: The package cannot be written; what was there is untouched.
    """
    run = read_run(config.run, config.data)
    contract = replace(run.contract, name=config.out.resolve().name)
    calibration = None if config.calibration is None else _calibration_images(config.calibration, contract)
    with new_folder(config.out, overwrite=config.overwrite) as folder:
        on_stage("converting", 0, 1)
        model = load_checkpoint(run.checkpoint)
        validation = ValidationSet.read(run.validation, run.key, contract)
        raw, layers = trace(model, config.opset), convolution_layers(model)
        stages = optimise(raw, contract, layers, without=config.without)
        layouts = [] if config.int8 == "off" else integer_layout(raw, layers, without=config.without)
        on_stage("converting", 1, 1)
        segmenters = {"fp32": _write_model(folder, "fp32", stages[-1].model)}
        parity = measure_parity(
            KerasReference(model, contract),
            segmenters["fp32"],
            validation,
            run.validation,
            run.key,
            lambda done, total: on_stage("parity", done, total),
        )
        parity = replace(
            parity,
            layers=measure_layers(model, stages[-1].model, validation, contract),
            stages=measure_stages(
                model,
                [*stages, *layouts],
                validation,
                contract,
                config.budget,
                lambda done, total: on_stage("stages", done, total),
            ),
        )
        parity.require(config.budget)
        metrics: dict[str, Any] = {"split": "val", "keras": parity.keras.to_dict(), "fp32": parity.onnx.to_dict()}
        quantization = Quantization(shipped=False, reason="INT8 was switched off", budget=config.int8_budget)
        if layouts:
            quantization, int8 = find_int8(
                layouts[-1].model,
                stages[-1].model,
                contract,
                validation,
                calibration or validation.thinned(CALIBRATION_IMAGES).images,
                config.int8_budget,
                insist=config.int8 == "always",
                on_step=lambda step: on_stage(step, 0, 1),
            )
            if int8 is not None:
                segmenters["int8"] = _write_model(folder, "int8", int8)
                metrics["int8"] = _evaluate(segmenters["int8"], run).to_dict()
                stage = Stage(name="INT8", model=int8)
                parity = replace(
                    parity, stages=(*parity.stages, *measure_stages(model, [stage], validation, contract, None))
                )
        on_stage("measuring", 0, 1)
        write_bytes(folder / "model.app.onnx", build_app_model(stages[-1].model, contract).SerializeToString())
        manifest = Manifest(
            contract=contract,
            variants={name: _described(folder / _FILES[name]) for name in segmenters},
            files={},
            golden=_write_golden(folder, segmenters, run),
            parameters=int(model.count_params()),
            gflops=round(gflops(raw), 6),
            parity=parity.to_dict(config.budget),
            metrics=metrics,
            quantization=quantization.to_dict(),
            provenance=_provenance(run, config),
        )
        inputs = ReportInputs(
            manifest=manifest,
            latency=bench_segmenters(segmenters, runs=BENCH_RUNS),
            history=run.record["history"],
            validation=run.validation,
            accuracies=parity.onnx.image_accuracies,
            key=run.key,
            segmenters=segmenters,
        )
        write_bytes(folder / "report.html", render_report(inputs).encode())
        models = {folder / variant.file for variant in manifest.variants.values()}
        others = [p for p in sorted(folder.rglob("*")) if p.is_file() and p not in models]
        manifest = replace(manifest, files={p.relative_to(folder).as_posix(): sha256(p) for p in others})
        write_json(folder / MANIFEST, manifest.to_dict())
    return manifest


_FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


def _write_model(folder: Path, variant: str, model: onnx.ModelProto) -> Segmenter:
    """Write a variant and load it as the device will."""
    path = folder / _FILES[variant]
    write_bytes(path, model.SerializeToString())
    return Segmenter.load(path, variant=variant)


def _described(path: Path) -> Variant:
    return Variant(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def _calibration_images(folder: Path, contract: Contract) -> Sequence[NDArray[np.uint8]]:
    """Return the model's inputs, of the images of a folder, that ranges are measured on."""
    paths = image_files(folder)
    if not paths:
        found = "no images in it" if folder.is_dir() else "no such folder"
        raise InputError(f"--calibration {printable(folder)} — {found} — expected a folder of images")
    frames = (checked_frame(read_image(path)) for path in spread(paths, CALIBRATION_IMAGES))
    return [model_input(frame, contract.height_px, contract.width_px, contract.channels) for frame in frames]


def _evaluate(segmenter: Segmenter, run: RunFolder) -> Evaluation:
    return evaluate(
        lambda image_bgr: segmenter(image_bgr).mask,
        run.validation,
        key=run.key,
        classes=[c.name for c in run.contract.classes],
    )


def _write_golden(folder: Path, segmenters: Mapping[str, Segmenter], run: RunFolder) -> tuple[GoldenFrame, ...]:
    """Write a few validation frames, no wider than a camera's, and the masks that this machine computes for them."""
    (folder / "golden").mkdir()
    frames = []
    for number, pair in enumerate(spread(run.validation, GOLDEN_FRAMES)):
        image_bgr = read_image(pair.image)
        height, width = image_bgr.shape[:2]
        if width > GOLDEN_MAX_WIDTH_PX:
            image_bgr = resize_image(image_bgr, round(height * GOLDEN_MAX_WIDTH_PX / width), GOLDEN_MAX_WIDTH_PX)
        image = f"golden/{number}.png"
        masks = {name: f"golden/{number}{'' if name == 'fp32' else f'.{name}'}.mask.png" for name in segmenters}
        write_bytes(folder / image, encode_png(image_bgr, image))
        for name, segmenter in segmenters.items():
            write_bytes(folder / masks[name], encode_png(segmenter(image_bgr).mask, masks[name]))
        frames.append(GoldenFrame(image=image, masks=masks))
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
        "without": list(config.without),
        "versions": {**{name: version(name) for name in packages}, "python": platform.python_version()},
    }
