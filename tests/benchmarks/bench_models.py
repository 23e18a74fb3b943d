"""Write one network as every file that the benchmark runs, with the same weights and the same calibration frames.

``bench_engines.py`` runs this file in its own process, so that TensorFlow is not in memory when engines are timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from bench_open import class_ids
from numpy.typing import NDArray

from edge_runtime.image import read_image
from edge_runtime.model.contract import Contract
from edge_runtime.segment.preprocess import checked_frame, model_input
from export.convert import convolution_layers, gflops, trace
from export.int8_search import measure_ranges
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.keras_model.pixels import Pixels, stated_range
from export.keras_model.standard import understand
from export.optimise import integer_layout, optimise, to_int8
from export.run_folder import read_run
from training.data.dataset import make_classes
from training.data.synth.scene import render_scene
from training.network.shape import Shape
from training.presets import PRESETS

Images = NDArray[np.uint8]
# Height, width, channels and classes of each preset's model.
SHAPES = {name: (256, 256, 1, 2) if name == "seed" else (224, 224, 3, 11) for name in PRESETS}
CALIBRATION_FRAMES, CHECK_FRAMES = 16, 8
OPSET = 17


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--preset", choices=SHAPES)
    network.add_argument("--run", type=Path)
    network.add_argument("--model", type=Path)
    parser.add_argument("--input-size", help="HxW, for a model of any size")
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    if args.run:
        run = read_run(args.run)
        model, contract, preset = (
            with_precise_means(read_model(run.checkpoint)),
            run.contract,
            run.record["config"]["preset"],
        )
        frames = read_frames([pair.image for pair in run.validation], contract)
    elif args.model:
        model, contract = own_model(args.model, args.input_size)
        preset, frames = args.model.name, draw_frames(contract)
    else:
        contract, preset = make_contract(args.preset), args.preset
        frames = draw_frames(contract)
        model = random_model(contract, PRESETS[preset].shape, network_input(frames, contract))
    write_models(model, contract, frames, args.folder)
    source = args.run or args.model
    weights = f"of {source.name}" if source else "random"
    write_facts(args.folder, preset=preset, contract=contract, weights=weights)


def own_model(path: Path, size: str | None) -> tuple[keras.Model, Contract]:
    """Return a Keras model that was trained elsewhere in the form of our own; its pixels are taken to be in 0–1.

    What it really expects of pixels takes no other time.
    """
    model = read_model(path)
    classes = max(2, model.output_shape[-1])
    height_width = tuple(int(side) for side in size.split("x")) if size and model.input_shape[1] is None else None
    foreign = understand(model, classes=classes, size=height_width, output=None)
    pixels = Pixels(range=stated_range(model) or "0-1")
    shape = (*foreign.image_size, foreign.channels, classes)
    return foreign.standard(pixels), contract_of(path.stem, *shape)


def make_contract(preset: str) -> Contract:
    return contract_of(preset, *SHAPES[preset])


def contract_of(name: str, height: int, width: int, channels: int, classes: int) -> Contract:
    return Contract(
        name=name,
        height_px=height,
        width_px=width,
        channels=1 if channels == 1 else 3,
        binary=classes == 2,
        classes=make_classes([f"class_{i}" for i in range(classes)]),
    )


def draw_frames(c: Contract) -> Images:
    """Draw images of objects, because noise would give unrealistic activations."""
    rng = np.random.default_rng(0)
    pictures = (render_scene(rng, c.height_px, c.width_px)[0] for _ in range(CALIBRATION_FRAMES + CHECK_FRAMES))
    return np.stack([model_input(picture, c.height_px, c.width_px, c.channels) for picture in pictures])


def read_frames(paths: list[Path], c: Contract) -> Images:
    """Read the first images of a run's validation split; if there are few, they are used more than once."""
    chosen = (paths * (CALIBRATION_FRAMES + CHECK_FRAMES))[: CALIBRATION_FRAMES + CHECK_FRAMES]
    return np.stack([model_input(checked_frame(read_image(p)), c.height_px, c.width_px, c.channels) for p in chosen])


def network_input(frames: Images, c: Contract) -> NDArray[np.float32]:
    """Return (N, H, W, C) pixels as the Keras model takes them: float32, RGB or grey."""
    return frames[..., ::-1].astype(np.float32) if c.channels == 3 else frames.astype(np.float32)


def random_model(c: Contract, shape: Shape, batch: NDArray[np.float32]) -> keras.Model:
    """Build a network with random weights, activations like a trained network's, and all classes in its masks."""
    keras.utils.set_random_seed(0)
    model = shape.build(
        height_px=c.height_px, width_px=c.width_px, channels=c.channels, logit_channels=c.logit_channels
    )
    he_normal = keras.initializers.HeNormal()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            layer.kernel.assign(he_normal.clone()(layer.kernel.shape))
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one pass, and the statistics are those of this batch
    model(batch, training=True)
    last = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    logits = keras.Model(model.input, last.output).predict(batch, batch_size=4, verbose=0)
    last.bias.assign(-np.median(logits, axis=(0, 1, 2)))
    return model


def write_models(model: keras.Model, contract: Contract, frames: Images, folder: Path) -> None:
    """Write frames, TensorFlow's results, and each form of the model."""
    calibration, check = frames[:CALIBRATION_FRAMES], frames[CALIBRATION_FRAMES:]
    probabilities = np.stack([model(x[np.newaxis], training=False)[0] for x in network_input(check, contract)])
    np.savez(folder / "frames.npz", calibration=calibration, check=check, probabilities=probabilities)
    model.save(folder / "model.keras")

    raw, layers = trace(model, OPSET), convolution_layers(model)
    stages = {stage.name: stage.model for stage in optimise(raw, contract, layers)}
    layout = integer_layout(raw, layers)[-1].model
    graphs = {
        "raw": raw,
        "clean": stages["class map"],
        "ours": list(stages.values())[-1],
        "ours-int8": to_int8(layout, contract, measure_ranges(layout, calibration)),
    }
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
    operations = {"raw": gflops(raw), "ours": gflops(graphs["ours"]), "ours-int8": gflops(layout)}
    (folder / "gflops.json").write_text(json.dumps(operations))

    write_litert(model, network_input(calibration, contract), folder)
    write_nncf(calibration, folder)


def write_litert(model: keras.Model, calibration: NDArray[np.float32], folder: Path) -> None:
    """Convert the model to LiteRT: in float, and in 8-bit integers with uint8 inputs and outputs.

    Keras 3 upsamples by reshaping and tiling, which LiteRT keeps. With a layer that resizes, LiteRT uses its own resize
    operator. Both forms are written.
    """
    resizing = keras.models.clone_model(model, clone_function=_with_resize)
    resizing.set_weights(model.get_weights())
    _write_litert(model, calibration, folder, "keras")
    _write_litert(resizing, calibration, folder, "resize")


def _with_resize(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest":
        height, width = layer.output.shape[1:3]
        return keras.layers.Resizing(height, width, interpolation="nearest", name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _write_litert(model: keras.Model, calibration: NDArray[np.float32], folder: Path, name: str) -> None:
    image = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    single = keras.Model(image, model(image))

    def converter() -> Any:
        return tf.lite.TFLiteConverter.from_keras_model(single)

    def representative_dataset() -> Iterator[list[NDArray[np.float32]]]:
        for image in calibration:
            yield [image[np.newaxis]]

    (folder / f"{name}-fp32.tflite").write_bytes(converter().convert())
    integer = converter()
    integer.optimizations = [tf.lite.Optimize.DEFAULT]
    integer.representative_dataset = representative_dataset
    integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    integer.inference_input_type = integer.inference_output_type = tf.uint8
    (folder / f"{name}-int8.tflite").write_bytes(integer.convert())


def write_nncf(calibration: Images, folder: Path) -> None:
    """Quantise both float graphs with OpenVINO's own tool, NNCF; without NNCF these files are missing."""
    if importlib.util.find_spec("nncf") is None or importlib.util.find_spec("openvino") is None:
        return
    import nncf
    import openvino

    to_input: dict[str, Callable[[Images], NDArray[Any]]] = {
        "clean": lambda image: image[np.newaxis],
        "raw": lambda image: (image[..., ::-1] if image.shape[-1] == 3 else image)[np.newaxis].astype(np.float32),
    }
    for graph, transform in to_input.items():
        model = openvino.Core().read_model(folder / f"{graph}.onnx")
        dataset = nncf.Dataset(calibration, transform)
        quantised = nncf.quantize(model, dataset, subset_size=len(calibration))
        openvino.save_model(quantised, folder / f"nncf-{graph}.xml", compress_to_fp16=False)


def write_facts(folder: Path, *, preset: str, contract: Contract, weights: str) -> None:
    """Write the facts of the table's title, and how evenly TensorFlow's classes are spread over the check frames."""
    with np.load(folder / "frames.npz") as frames:
        ids = class_ids(frames["probabilities"])
    shares = np.bincount(ids.ravel(), minlength=len(contract.classes)) / ids.size
    facts = {
        "preset": preset,
        "input": [contract.height_px, contract.width_px, contract.channels],
        "classes": len(contract.classes),
        "weights": weights,
        "class_shares": [round(float(share), 4) for share in shares],
        "calibration_frames": CALIBRATION_FRAMES,
        "check_frames": CHECK_FRAMES,
        "gflops": json.loads((folder / "gflops.json").read_text()),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
