"""List the variants to compare: engines and the files they run. As a script, check the results of one and time it.

Each variant runs in its own process, because an engine's threads stay alive and would compete with the next engine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bench_open as engines
import numpy as np

WARM_UP_S, TIMED_S, FEWEST_RUNS, MOST_RUNS = 0.25, 0.6, 6, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Engine with a file that it runs.

    Attributes:
        row: Row of the table; the fastest of several variants in one row is shown.
        graph: Description of the file.
        file: Name of the file.
        open: Function that loads the file.
        arithmetic: Type of the convolutions; "auto" leaves it to the engine.
        ours: Whether this is what we ship.
    """

    row: str
    graph: str
    file: str
    open: Callable[[Path, int], engines.Opened]
    arithmetic: Literal["fp32", "int8", "auto"] = "fp32"
    ours: bool = False

    @property
    def key(self) -> str:
        return f"{self.row} | {self.graph}"


RAW_GRAPH, CLEAN_GRAPH = "raw tf2onnx graph", "clean float graph"
RAW_ROW, TENSORFLOW_ROW = "onnxruntime", "TensorFlow"
OUR_ROWS = {"fp32": "edge-unet fp32", "int8": "edge-unet INT8"}
VARIANTS = (
    Variant(row=TENSORFLOW_ROW, graph="Keras model", file="model.keras", open=engines.open_tensorflow),
    Variant(row=RAW_ROW, graph=RAW_GRAPH, file="raw.onnx", open=engines.open_onnxruntime),
    Variant(row=OUR_ROWS["fp32"], graph="our fp32 file", file="ours.onnx", open=engines.open_ours, ours=True),
    Variant(
        row="edge-unet fp32, logits", graph="our fp32 file", file="ours.onnx", open=engines.open_our_logits, ours=True
    ),
    Variant(
        row=OUR_ROWS["int8"],
        graph="our INT8 file",
        file="ours-int8.onnx",
        open=engines.open_ours,
        arithmetic="int8",
        ours=True,
    ),
    Variant(
        row="edge-unet INT8, logits",
        graph="our INT8 file",
        file="ours-int8.onnx",
        open=engines.open_our_logits,
        arithmetic="int8",
        ours=True,
    ),
    Variant(row="OpenVINO fp32", graph=RAW_GRAPH, file="raw.onnx", open=engines.open_openvino_f32),
    Variant(row="OpenVINO fp32", graph=CLEAN_GRAPH, file="clean.onnx", open=engines.open_openvino_f32),
    Variant(
        row="OpenVINO as it comes", graph=RAW_GRAPH, file="raw.onnx", open=engines.open_openvino, arithmetic="auto"
    ),
    Variant(
        row="OpenVINO as it comes", graph=CLEAN_GRAPH, file="clean.onnx", open=engines.open_openvino, arithmetic="auto"
    ),
    Variant(
        row="OpenVINO INT8", graph="NNCF, raw graph", file="nncf-raw.xml", open=engines.open_openvino, arithmetic="int8"
    ),
    Variant(
        row="OpenVINO INT8",
        graph="NNCF, clean graph",
        file="nncf-clean.xml",
        open=engines.open_openvino,
        arithmetic="int8",
    ),
    Variant(
        row="OpenVINO INT8", graph="our INT8 file", file="ours-int8.onnx", open=engines.open_openvino, arithmetic="int8"
    ),
    Variant(row="LiteRT fp32", graph="Keras model", file="keras-fp32.tflite", open=engines.open_litert),
    Variant(row="LiteRT fp32", graph="with Resize", file="resize-fp32.tflite", open=engines.open_litert),
    Variant(
        row="LiteRT INT8", graph="Keras model", file="keras-int8.tflite", open=engines.open_litert, arithmetic="int8"
    ),
    Variant(
        row="LiteRT INT8", graph="with Resize", file="resize-int8.tflite", open=engines.open_litert, arithmetic="int8"
    ),
    Variant(row="OpenCV DNN fp32", graph=RAW_GRAPH, file="raw.onnx", open=engines.open_opencv),
    Variant(row="OpenCV DNN fp32", graph=CLEAN_GRAPH, file="clean.onnx", open=engines.open_opencv),
    Variant(
        row="OpenCV DNN fp32", graph="clean graph, classic engine", file="clean.onnx", open=engines.open_opencv_classic
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key", choices=[variant.key for variant in VARIANTS])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    variant = next(variant for variant in VARIANTS if variant.key == args.key)
    opened = variant.open(args.folder / variant.file, args.threads)
    with np.load(args.folder / "frames.npz") as arrays:
        frames = dict(arrays)
    found = check(opened, frames) if args.check else {}
    print(json.dumps({**found, "precision": opened.precision, "times_ms": times_ms(opened, frames["check"][0])}))


def check(opened: engines.Opened, frames: dict[str, Any]) -> dict[str, float]:
    """Compare with TensorFlow: largest difference of a probability, and share of pixels with the same class."""
    differences, agreements = [], []
    for image, expected in zip(frames["check"], frames["probabilities"], strict=True):
        x = opened.prepare(image)
        answer, probabilities = opened.run(x), opened.probabilities(x)
        ids = answer if answer.ndim == 2 else engines.class_ids(probabilities)
        # A NaN would make every comparison false, so a result that is not finite counts as infinitely different.
        close = np.isfinite(probabilities).all()
        differences.append(float(np.abs(probabilities - expected).max()) if close else float("inf"))
        agreements.append(float(np.mean(ids == engines.class_ids(expected))))
    return {"difference": max(differences), "same_class": float(np.mean(agreements))}


def times_ms(opened: engines.Opened, image: engines.Image) -> list[float]:
    """Return the milliseconds of single frames, after a warm-up."""
    x = opened.prepare(image)
    begin = time.perf_counter()
    for _ in range(3):
        opened.run(x)
    while time.perf_counter() < begin + WARM_UP_S:
        opened.run(x)
    times: list[float] = []
    while len(times) < FEWEST_RUNS or (sum(times) < TIMED_S * 1e3 and len(times) < MOST_RUNS):
        start = time.perf_counter()
        opened.run(x)
        times.append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    main()
