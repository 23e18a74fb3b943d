"""Export a run folder as a model package: write it beside its place, check it, and only then move it into place."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import evaluate
from edge_runtime.dataset.provenance import EMPTY_WITHOUT_MASK, LABELS, TRAINING_IMAGES
from edge_runtime.dataset.sampling import spread
from edge_runtime.device.bench import bench_segmenters
from edge_runtime.errors import InputError
from edge_runtime.image import encode_png, image_files, read_image
from edge_runtime.model.contract import Contract
from edge_runtime.model.package import MANIFEST, GoldenFrame, Manifest, Variant
from edge_runtime.progress import OnProgress, silent
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_image
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.storage import new_folder, printable, sha256, write_bytes, write_json
from export.app_model import build_app_model
from export.config import ExportConfig, ParityBudget
from export.convert import convolution_layers, gflops, trace
from export.int8_search import CALIBRATION_IMAGES, Quantization, find_int8
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.optimise import Stage, integer_layout, optimise
from export.parity.figures import Parity, StageParity
from export.parity.keras_reference import KerasReference
from export.parity.measure import measure_layers, measure_outputs, measure_stages
from export.parity.ties import decides_inside
from export.report import ReportInputs, render_report
from export.run_folder import BEST_MODEL, TrainedRun, read_run
from export.validation_set import ValidationSet

GOLDEN_FRAMES = 3
GOLDEN_MAX_WIDTH_PX = 640
BENCH_RUNS = 30
_FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


def export_package(config: ExportConfig, on_progress: OnProgress = silent) -> Manifest:
    """Convert a run, check that the results equal those of Keras, and write the package atomically, or write nothing.

    Args:
        config: The run folder, the package folder and all settings.
        on_progress: Called with the name of each step and how much of it is done.

    Returns:
        The manifest of the package at ``config.out``.

    Raises:
        ModelError: The run folder or its checkpoint is refused.
        ParityError: Keras and onnxruntime differ by more than the budget.
        Int8Error: ``config.int8`` is "always", and the INT8 variant loses more than the budget.
        InputError: The validation or calibration images cannot be read.
        StorageError: The package cannot be written; an existing package is untouched.

    Example:
        >>> from export import ExportConfig, export_package
        >>> manifest = export_package(ExportConfig(run=run, out=tmp_path / "model", int8="off"))
        >>> manifest.contract.name
        'model'
        >>> sorted(path.name for path in (tmp_path / "model").iterdir())
        ['golden', 'manifest.json', 'model.app.onnx', 'model.onnx', 'report.html', 'training-images.bin']
    """
    run = read_run(Path(config.run), None if config.data is None else Path(config.data))
    return write_package(run, read_model(Path(config.run) / BEST_MODEL), config, on_progress)


def write_package(run: TrainedRun, model: keras.Model, config: ExportConfig, on_progress: OnProgress) -> Manifest:
    """Convert a model and write its package; arguments, result and errors as for ``export_package``.

    Args:
        run: What is known of the model's training and data; its contract is that of the model.
        model: The model, from RGB or grey pixels in 0–255 to probabilities, with a layer ``logits``.
        config: The package folder and all settings.
        on_progress: Called with the name of each step and how much of it is done.
    """
    out = Path(config.out)
    contract = replace(run.contract, name=out.resolve().name)
    calibration = None if config.calibration is None else _calibration_images(Path(config.calibration), contract)
    with new_folder(out, overwrite=config.overwrite, is_ours=lambda there: (there / MANIFEST).is_file()) as folder:
        conversion = _convert(with_precise_means(model), run, contract, config, on_progress)
        segmenters = {"fp32": _write_model(folder, "fp32", conversion.shipped)}
        parity = _prove(conversion, segmenters["fp32"], run, config.budget, on_progress)
        quantization, int8 = _quantise(conversion, calibration, config, on_progress)
        if int8 is not None:
            segmenters["int8"] = _write_model(folder, "int8", int8.model)
        on_progress("measuring", 0, 1)
        write_bytes(folder / "model.app.onnx", build_app_model(conversion.shipped, contract).SerializeToString())
        manifest = Manifest(
            contract=contract,
            variants={name: _described(folder / _FILES[name]) for name in segmenters},
            files={},
            golden=_write_golden(folder, segmenters, run),
            parameters=int(conversion.model.count_params()),
            gflops=round(gflops(conversion.raw), 6),
            parity=parity.to_dict(config.budget, beyond=_int8_stage(conversion, int8)),
            metrics=_metrics(parity, segmenters, run),
            quantization=quantization.to_dict(),
            provenance=_provenance(run, config),
        )
        if run.training_images is not None:
            write_bytes(folder / TRAINING_IMAGES, b"".join(sorted(run.training_images)))
        _write_report(folder, manifest, segmenters, run, parity.outputs.onnx.image_accuracies)
        manifest = replace(manifest, files=_digests(folder))
        write_json(folder / MANIFEST, manifest.to_dict())
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversion:
    """Keras model, its ONNX graphs, and the images on which they are compared.

    Attributes:
        contract: Inputs and outputs of the finished graphs.
        model: The Keras model.
        validation: Validation images with their true masks.
        raw: The graph that tf2onnx writes.
        stages: The float graph after each pass; the last one ships.
        layouts: The graph after each INT8 pass; the last one is quantised. Empty if INT8 is switched off.
    """

    contract: Contract
    model: keras.Model
    validation: ValidationSet
    raw: onnx.ModelProto
    stages: Sequence[Stage]
    layouts: Sequence[Stage]

    @property
    def shipped(self) -> onnx.ModelProto:
        """The float graph that ships."""
        return self.stages[-1].model


def _convert(
    model: keras.Model, run: TrainedRun, contract: Contract, config: ExportConfig, on_progress: OnProgress
) -> _Conversion:
    """Read the validation images, and apply the graph passes."""
    on_progress("converting", 0, 1)
    validation = ValidationSet.read(run.validation, run.key, contract)
    raw, layers = trace(model, config.opset), convolution_layers(model)
    conversion = _Conversion(
        contract=contract,
        model=model,
        validation=validation,
        raw=raw,
        stages=optimise(raw, contract, layers, without=config.without),
        layouts=[] if config.int8 == "off" else integer_layout(raw, layers, without=config.without),
    )
    on_progress("converting", 1, 1)
    return conversion


def _prove(
    conversion: _Conversion, segmenter: Segmenter, run: TrainedRun, budget: ParityBudget, on_progress: OnProgress
) -> Parity:
    """Measure parity with Keras of the written model, its layers and all stages, and raise if it is over budget."""
    model, contract, validation = conversion.model, conversion.contract, conversion.validation
    reference = KerasReference(model, contract)
    ties = decides_inside(conversion.raw)
    limit, layer_limit = (budget.max_abs_diff, budget.layer_diff) if ties else (None, None)
    parity = Parity(
        outputs=measure_outputs(
            reference, segmenter, validation, run.validation, run.key, on_progress, tie_limit=limit
        ),
        layers=measure_layers(model, conversion.shipped, validation, contract, tie_limit=layer_limit),
        stages=measure_stages(
            model,
            [*conversion.stages, *conversion.layouts],
            validation,
            contract,
            budget,
            on_progress,
            tie_limit=limit,
        ),
    )
    parity.require(budget)
    return parity


def _quantise(
    conversion: _Conversion,
    calibration: Sequence[NDArray[np.uint8]] | None,
    config: ExportConfig,
    on_progress: OnProgress,
) -> tuple[Quantization, Stage | None]:
    """Search for an INT8 variant unless INT8 is switched off, and return it if it is to be shipped."""
    if config.int8 == "off":
        return Quantization(shipped=False, reason="INT8 was switched off", budget=config.int8_budget), None
    quantization, model = find_int8(
        conversion.layouts[-1].model,
        conversion.shipped,
        conversion.contract,
        conversion.validation,
        calibration or conversion.validation.thinned(CALIBRATION_IMAGES).images,
        config.int8_budget,
        insist=config.int8 == "always",
        on_progress=on_progress,
    )
    return quantization, None if model is None else Stage(name="INT8", model=model)


def _int8_stage(conversion: _Conversion, int8: Stage | None) -> tuple[StageParity, ...]:
    """Compare the INT8 variant with Keras, from which it may differ."""
    if int8 is None:
        return ()
    return measure_stages(conversion.model, [int8], conversion.validation, conversion.contract, None)


def _metrics(parity: Parity, segmenters: Mapping[str, Segmenter], run: TrainedRun) -> dict[str, Any]:
    """Return the metrics of Keras and of each variant on the validation split."""
    outputs = parity.outputs
    metrics: dict[str, Any] = {"split": run.split, "keras": outputs.keras.to_dict(), "fp32": outputs.onnx.to_dict()}
    if "int8" in segmenters:
        metrics["int8"] = evaluate(
            lambda image_bgr: segmenters["int8"](image_bgr).mask,
            run.validation,
            key=run.key,
            classes=[c.name for c in run.contract.classes],
        ).to_dict()
    return metrics


def _write_model(folder: Path, variant: str, model: onnx.ModelProto) -> Segmenter:
    """Write a variant's ONNX file and load it as the device will."""
    path = folder / _FILES[variant]
    write_bytes(path, model.SerializeToString())
    return Segmenter.load(path, variant=variant)


def _described(path: Path) -> Variant:
    return Variant(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def _calibration_images(folder: Path, contract: Contract) -> Sequence[NDArray[np.uint8]]:
    """Return the images of a folder on which ranges are measured, as inputs of the model."""
    paths = image_files(folder)
    if not paths:
        found = "no images in it" if folder.is_dir() else "no such folder"
        raise InputError(f"--calibration {printable(folder)} — {found} — expected a folder of images")
    frames = (checked_frame(read_image(path)) for path in spread(paths, CALIBRATION_IMAGES))
    return [model_input(frame, contract.height_px, contract.width_px, contract.channels) for frame in frames]


def _write_golden(folder: Path, segmenters: Mapping[str, Segmenter], run: TrainedRun) -> tuple[GoldenFrame, ...]:
    """Write a few validation images, at most 640 pixels wide, and the masks that this machine computes for them."""
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


def _write_report(
    folder: Path,
    manifest: Manifest,
    segmenters: Mapping[str, Segmenter],
    run: TrainedRun,
    accuracies: Sequence[float],
) -> None:
    """Measure the latency on this machine and write ``report.html``."""
    inputs = ReportInputs(
        manifest=manifest,
        latency=bench_segmenters(segmenters, runs=BENCH_RUNS),
        history=run.history,
        validation=run.validation,
        accuracies=accuracies,
        key=run.key,
        segmenters=segmenters,
    )
    write_bytes(folder / "report.html", render_report(inputs).encode())


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file except the variants, which the manifest lists under ``variants``."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    others = (path for path in files if path.relative_to(folder).as_posix() not in _FILES.values())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in others}


def _without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names of files instead of their paths, which are of no use elsewhere."""
    named = {}
    for key in ("encoder_weights", "start_from"):
        if value := config.get(key):
            before, colon, path = value.rpartition(":")
            named[key] = f"{before}{colon}{Path(path).name}"
    return {**config, **named}


def _provenance(run: TrainedRun, config: ExportConfig) -> dict[str, Any]:
    packages = ("edge-unet", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy", "opencv-python")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint_sha256": None if run.checkpoint is None else sha256(run.checkpoint),
        "config": _without_folders(run.config),
        "logit_adjustment": dict(run.logit_adjustment),
        "data_fingerprint": run.data_fingerprint,
        "images": dict(run.images),
        LABELS: run.key.to_dict(),
        EMPTY_WITHOUT_MASK: run.empty_without_mask,
        "epochs": len(run.history),
        "seed": run.seed,
        "opset": config.opset,
        "without": list(config.without),
        "versions": {**{name: version(name) for name in packages}, "python": platform.python_version()},
    }
