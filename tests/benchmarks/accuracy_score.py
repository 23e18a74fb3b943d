"""Score and time any trainer's network: one way for all, in onnxruntime, at the size of the masks.

The trainer's ``card.json`` says how its ONNX file wants an image; see ``trainers/given.py``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import yaml
from numpy.typing import NDArray

from edge_runtime.dataset.detect import dataset_key
from edge_runtime.dataset.evaluate import dataset_pairs, evaluate
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import resize_mask
from training.data.dataset import make_classes

BACKGROUND = "background"
"""Name of the class that foreground IoU leaves out, in tasks that have it."""
WARM_UP_RUNS, TIMED_S = 10, 3.0
PADDING = 114
"""Grey level that a letterbox fills up with."""


def score(folder: Path, data: Path, threads: int) -> dict[str, Any]:
    """Return the accuracy of a network on the test split and the median time of its ``session.run``."""
    network = Network(folder, threads)
    config = yaml.safe_load((data / "dataset.yaml").read_text(encoding="utf-8"))
    names = config["classes"]
    pairs = dataset_pairs(data, "test")
    key = dataset_key(pairs, make_classes(names), ignore_id=config.get("ignore_id"))
    found = evaluate(network.segment, pairs, key=key, classes=names)
    ious = found.per_class_iou
    foreground = [iou for name, iou in ious.items() if name != BACKGROUND and iou is not None]
    return {
        "mean_iou": found.mean_iou,
        "foreground_iou": float(np.mean(foreground)),
        "boundary_f": found.boundary_f,
        "per_class_iou": ious,
        "latency_ms": network.latency_ms(),
        "input_size": list(network.size),
        **{name: network.card[name] for name in ("parameters", "epochs", "train_s")},
    }


class Network:
    """An ONNX file and its card."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        self.size: tuple[int, int] = tuple(self.card["size"])
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(folder / self.card["model"], options, providers=["CPUExecutionProvider"])
        self.output = self.card["output"] or self.session.get_outputs()[0].name
        self.input = self.session.get_inputs()[0]
        # Ours has two outputs; onnxruntime computes both unless it is told not to.
        self.run_options = ort.RunOptions()
        self.run_options.only_execute_path_to_fetches = True

    def segment(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return class ids, (H, W), of an image, (H, W, 3) uint8: the largest logit, resized bilinearly to its size."""
        height, width = image_bgr.shape[:2]
        top, left, inner_height, inner_width = self._inner(height, width)
        result = self._run(self.input_of(image_bgr))[0]
        if np.issubdtype(result.dtype, np.integer):
            ids = result[top : top + inner_height, left : left + inner_width].astype(np.uint8)
            return resize_mask(ids, height, width)
        planes = result if self.card["layout"] == "nchw" else np.moveaxis(result, -1, 0)
        planes = planes[:, top : top + inner_height, left : left + inner_width]
        large = [cv2.resize(p, (width, height), interpolation=cv2.INTER_LINEAR) for p in planes.astype(np.float32)]
        return class_ids_of(np.stack(large), axis=0, threshold=0)

    def input_of(self, image_bgr: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the network's input for an image of any size."""
        top, left, height, width = self._inner(*image_bgr.shape[:2])
        canvas = np.full((*self.size, 3), PADDING, np.uint8)
        canvas[top : top + height, left : left + width] = cv2.resize(image_bgr, (width, height))
        return self._tensor(canvas)

    def latency_ms(self) -> float:
        """Return the median time of ``session.run`` on noise of the input's size."""
        noise = np.random.default_rng(0).integers(0, 256, (*self.size, 3), dtype=np.uint8)
        tensor, times_s = self._tensor(noise), []
        for _ in range(WARM_UP_RUNS):
            self._run(tensor)
        while sum(times_s) < TIMED_S:
            start = time.perf_counter()
            self._run(tensor)
            times_s.append(time.perf_counter() - start)
        return 1000 * median(times_s)

    def _inner(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the image in the input: all of it, or what keeps the aspect ratio."""
        if self.card["fit"] == "stretch":
            return 0, 0, *self.size
        scale = min(self.size[0] / height, self.size[1] / width)
        inner_height, inner_width = round(height * scale), round(width * scale)
        return (self.size[0] - inner_height) // 2, (self.size[1] - inner_width) // 2, inner_height, inner_width

    def _tensor(self, image_bgr: NDArray[np.uint8]) -> NDArray[Any]:
        pixels = image_bgr
        if self.card["color"] == "rgb":
            pixels = image_bgr[..., ::-1]
        elif self.card["color"] == "grey":
            pixels = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)[..., None]
        if self.card["layout"] == "nchw":
            pixels = np.moveaxis(pixels, -1, 0)
        if self.card["divisor"] == 1:
            return np.ascontiguousarray(pixels[None])
        return np.ascontiguousarray(pixels[None], np.float32) / np.float32(self.card["divisor"])

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return self.session.run([self.output], {self.input.name: tensor}, self.run_options)[0]
