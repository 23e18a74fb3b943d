"""Latency of one frame: TensorFlow, the raw tf2onnx graph in onnxruntime, and our package's graph.

Same random weights, batch 1, one process per engine, engines taking turns, median over all rounds; read the ratios. Run
by ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.session import Session, SessionOptions, usable_cores

ENGINES = ("tensorflow", "raw tf2onnx", "edge-unet fp32")
# Height, width, channels and classes of each preset's model.
MODELS = {"seed": (256, 256, 1, 2), "edge": (224, 224, 3, 11)}
ROUNDS, RUNS, WARM_UP = 5, 25, 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=usable_cores())
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure(args.engine, args.folder, args.threads)))
        return 0
    for preset in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            make_models(preset, Path(folder))
            times = take_turns(Path(folder), args.threads)
        raw = statistics.median(times["raw tf2onnx"])
        print(f"\npreset {preset}, {MODELS[preset][0]}x{MODELS[preset][1]}, {args.threads} threads, batch 1")
        print(f"{'engine':<18} {'median ms':>10} {'to raw':>8}")
        for engine in ENGINES:
            median = statistics.median(times[engine])
            print(f"{engine:<18} {median:>10.2f} {median / raw:>8.2f}")
    return 0


def make_models(preset: str, folder: Path) -> None:
    """Write the same weights as model.keras, raw.onnx and model.onnx."""
    from edge_runtime.contract import Contract
    from export.convert import optimise, trace
    from training.config import PRESETS
    from training.dataset import make_classes
    from training.unet import build_unet

    height, width, channels, classes = MODELS[preset]
    contract = Contract(
        name=preset,
        height_px=height,
        width_px=width,
        channels=1 if channels == 1 else 3,
        binary=classes == 2,
        classes=make_classes([f"class_{i}" for i in range(classes)]),
    )
    model = build_unet(
        PRESETS[preset].plan,
        height_px=height,
        width_px=width,
        channels=channels,
        logit_channels=contract.logit_channels,
    )
    model.save(folder / "model.keras")
    raw = trace(model, opset=17)
    (folder / "raw.onnx").write_bytes(raw.SerializeToString())
    (folder / "model.onnx").write_bytes(optimise(raw, contract).SerializeToString())


def take_turns(folder: Path, threads: int) -> dict[str, list[float]]:
    """Return the times of each engine in milliseconds, from a fresh process in every round."""
    times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(ROUNDS):
        for engine in ENGINES:
            command = [sys.executable, __file__, "--engine", engine, "--folder", str(folder), "--threads", str(threads)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            times[engine] += json.loads(done.stdout.splitlines()[-1])
    return times


def measure(engine: str, folder: Path, threads: int) -> list[float]:
    """Return the times of single frames in milliseconds."""
    run = {"tensorflow": tensorflow_run, "raw tf2onnx": raw_run, "edge-unet fp32": our_run}[engine](folder, threads)
    times = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times[WARM_UP:]


def tensorflow_run(folder: Path, threads: int) -> Callable[[], object]:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    image = tf.constant(frame(model.input_shape[1:]).astype(np.float32)[None])
    call = tf.function(lambda x: model(x, training=False))
    return lambda: call(image).numpy()


def raw_run(folder: Path, threads: int) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(folder / "raw.onnx", options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape[1:]
    image = frame(shape).astype(np.float32)[None]
    return lambda: session.run(["probabilities"], {"image": image})


def our_run(folder: Path, threads: int) -> Callable[[], object]:
    # Spinning on, as it is by default in the raw session.
    options = SessionOptions(threads=threads, spinning=True)
    session = Session((folder / "model.onnx").read_bytes(), "model.onnx", options=options)
    c = session.contract
    image = frame((c.height_px, c.width_px, c.channels))
    return lambda: session.mask(image)


def frame(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


if __name__ == "__main__":
    sys.exit(main())
