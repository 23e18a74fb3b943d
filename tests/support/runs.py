"""Small real U-Nets and run folders, made in seconds; all weights are random but for those of ``trained``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import cv2
import keras
import numpy as np
import onnx
from colors import color_scene, color_truth
from epochs import epoch_record
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_runtime.model.contract import ClassInfo, Contract
from export.convert import convolution_layers, trace
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.optimise import optimise
from training.config import TrainConfig
from training.data.check import check_dataset
from training.loop.run_folder import open_run
from training.loop.run_setup import contract_for, setup_of
from training.loop.trainer import archive_of
from training.network.shape import Shape
from training.network.unet import UNetShape
from training.presets import PRESETS

PAIRS = {"train": 2, "val": 6}


def narrow_shape(preset: str) -> Shape:
    """Return the shape of a preset with an eighth of its filters, if it can have fewer: a small part of the work."""
    shape = PRESETS[preset].shape  # type: ignore[index]
    if not hasattr(shape, "widths"):
        return shape
    narrow = {"widths": tuple(max(4, width // 8) for width in shape.widths)}
    for name in ("head_width", "pyramid_width", "skip_width"):
        if hasattr(shape, name):
            narrow[name] = max(4, getattr(shape, name) // 64)
    if hasattr(shape, "middle_blocks"):
        narrow["middle_blocks"] = 1
    return replace(shape, **narrow)


def random_unet(
    shape: Shape, size: tuple[int, int] = (32, 64), channels: int = 3, logit_channels: int = 3
) -> keras.Model:
    """Build a U-Net in which no weight, and no statistic of a normalisation, has a value that could be left out."""
    model = shape.build(height_px=size[0], width_px=size[1], channels=channels, logit_channels=logit_channels)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        sizes = tuple(weight.shape)
        if weight.name == "kernel":
            value = rng.normal(0, np.sqrt(2 / np.prod(sizes[:-1])), sizes)
        elif weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, sizes)
        else:  # bias, beta, moving_mean
            value = rng.normal(0, 0.2, sizes)
        weight.assign(value.astype(np.float32))
    return model


def contract_of(model: keras.Model) -> Contract:
    """What a model takes and gives, with made-up classes."""
    _, height_px, width_px, channels = model.input_shape
    logit_channels = model.output_shape[-1]
    classes = tuple(ClassInfo(id=i, name=f"class {i}", color=(i, 0, 255 - i)) for i in range(max(2, logit_channels)))
    return Contract(
        name="small",
        height_px=height_px,
        width_px=width_px,
        channels=channels,
        binary=logit_channels == 1,
        classes=classes,
    )


def reloaded(model: keras.Model) -> keras.Model:
    """Save a model as training does and load it as export does: some faults of converters show only then."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "best.keras"
        path.write_bytes(archive_of(model, path.parent))
        return with_precise_means(read_model(path))


def finished(model: keras.Model, opset: int = 17, contract: Contract | None = None) -> onnx.ModelProto:
    """The graph of a model as it ships in float."""
    return optimise(trace(model, opset), contract or contract_of(model), convolution_layers(model))[-1].model


def noise(model: keras.Model, count: int = 2) -> list[NDArray[np.uint8]]:
    """Random pixels as a model takes them, (height_px, width_px, channels) each."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, model.input_shape[1:], dtype=np.uint8) for _ in range(count)]


def with_weights(
    proto: onnx.ModelProto, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> onnx.ModelProto:
    """Return a graph in which one constant is what ``change`` makes of it."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    tensor = next(w for w in changed.graph.initializer if w.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return changed


@cache
def trained() -> tuple[keras.Model, tuple[NDArray[np.uint8], ...], tuple[NDArray[np.uint8], ...]]:
    """Train a tiny U-Net to find red and blue things, in seconds; with images that it has not seen, and their truth.

    One for all tests, to be left as is.
    """
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    scenes = [np.roll(color_scene(), rng.integers(64, size=2), (0, 1)) for _ in range(64)]
    truths = [color_truth(scene) for scene in scenes]
    images = [np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8) for scene in scenes]
    shape = UNetShape(widths=(8, 16), batch_norm=False)
    model = shape.build(height_px=48, width_px=64, channels=3, logit_channels=3)
    model.compile(keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy")
    seen = np.stack(images[:48])[..., ::-1].astype(np.float32)
    model.fit(seen, np.stack(truths[:48]), epochs=8, batch_size=8, verbose=0)
    return model, tuple(images[48:]), tuple(truths[48:])


@cache
def traced(preset: str, channels: int, logit_channels: int) -> tuple[keras.Model, onnx.ModelProto]:
    """A narrow model of a preset, saved and loaded, and what tf2onnx makes of it; one for all tests, to be left as is."""
    model = reloaded(random_unet(narrow_shape(preset), channels=channels, logit_channels=logit_channels))
    return model, trace(model, 17)


def write_color_data(root: Path, *, binary: bool = False) -> Path:
    """Write a dataset of shifted ``color_scene`` pictures with their index masks."""
    names = ["background", "red"] if binary else ["background", "red", "blue"]
    shift = 0
    for split, count in PAIRS.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            shift += 5
            image = np.roll(color_scene(), shift, axis=1)
            truth = color_truth(image)
            mask = (truth == 1).astype(np.uint8) if binary else truth
            for kind, pixels in (("images", image), ("masks", mask)):
                data = cv2.imencode(".png", pixels)[1].tobytes()
                (root / split / kind / f"{number}.png").write_bytes(data)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(names)}]\n")
    return root


def write_run(root: Path, data: Path, preset: Literal["seed", "classic", "edge"] = "edge") -> Path:
    """Write the run folder that training would leave, with a narrow random model of a preset."""
    config = TrainConfig.from_preset(preset, input_size=(64, 96), epochs=2)
    report = check_dataset(data)
    report.require_ok()
    with open_run(root, resume=False) as run:
        contract = contract_for(config, report, root.name)
        run.begin(setup_of(config, report, report.dataset, contract))
        model = random_unet(
            narrow_shape(preset), (config.height_px, config.width_px), contract.channels, contract.logit_channels
        )
        archive = archive_of(model, root)
        for epoch in (1, 2):
            record = epoch_record(epoch, val_mean_iou=0.1 * epoch)
            run.add_epoch(record)
            run.write_best(archive, epoch=epoch, val_mean_iou=record.val_mean_iou)
        run.finish({})
    return root
