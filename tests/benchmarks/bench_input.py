"""Measure whether training waits for its data: the step alone, the step with the input pipeline, plain ``model.fit``.

    python bench_input.py [--size 224x224] [--batch 8] [--steps 24] [--rounds 5] [--precision auto]

The images are ``$EDGE_UNET_DATA/camvid/train`` if it exists, else generated ones of 480x360. The three ways take turns
in one process; the table has medians over the rounds, and the speed relative to the step on one batch held in memory.
"input pipeline" must reach 95 % of it. ``model.fit`` trains the same network on the same images as plain Keras does: no
augmentation, float32 arrays, Keras' loss. Core-milliseconds are the process's time on all cores; other work on the
machine changes them less than images per second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from edge_runtime.commands.arguments import parse_size
from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.dataset.pairs import Pair, find_pairs
from edge_runtime.model.contract import Contract
from training.config import TrainConfig
from training.data.dataset import make_classes
from training.input.batches import Batch, Batches
from training.input.cache import PixelCache, PixelSpec, cache_size, open_cache
from training.input.prepare import make_batches
from training.loop.initial_state import initial_state
from training.loop.train_state import TrainState

CLASSES = 11
ENOUGH = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=(224, 224))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"))
    args = parser.parse_args()
    config = TrainConfig.from_preset("edge", input_size=args.size, batch_size=args.batch, precision=args.precision)
    with tempfile.TemporaryDirectory() as folder:
        train, exact = read(find(Path(folder)), config, Path(folder))
        state, plain = build(config)
        batches = make_batches(config, train, [np.unique(mask).tolist() for mask in train.masks])
        held = batches.batch(0, 0)
        arrays = exact.images.astype(np.float32), exact.masks
        count = args.steps * args.batch
        ways: dict[str, Callable[[int], None]] = {
            "step alone": lambda _: run(state, [held] * args.steps),
            "input pipeline": lambda round_: run(state, fed(batches, round_, args.steps)),
            "plain model.fit": lambda _: fit(plain, arrays, count, args.batch),
        }
        times = measure(ways, args.rounds, count)
    return report(times)


def find(folder: Path) -> tuple[Pair, ...]:
    """Return CamVid's training pairs, or generated ones."""
    camvid = Path(os.environ.get("EDGE_UNET_DATA", "")) / "camvid/train"
    if "EDGE_UNET_DATA" in os.environ and camvid.is_dir():
        return find_pairs(camvid).pairs
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(96):
        ids = np.kron(rng.integers(0, CLASSES, (12, 16), np.uint8), np.ones((30, 30), np.uint8))
        image = cv2.applyColorMap(ids * np.uint8(23), cv2.COLORMAP_JET)
        cv2.imwrite(str(folder / f"images/{i}.png"), cv2.add(image, rng.integers(0, 40, image.shape, np.uint8)))
        cv2.imwrite(str(folder / f"masks/{i}.png"), ids)
    return find_pairs(folder).pairs


def read(pairs: tuple[Pair, ...], config: TrainConfig, folder: Path) -> tuple[PixelCache, PixelCache]:
    """Decode the images twice: larger, for augmentation that zooms in, and at the model's size."""
    sizes = [cv2.imread(str(pair.image)).shape[:2] for pair in pairs]
    size = config.height_px, config.width_px
    height_px, width_px = cache_size(((s[0], s[1]) for s in sizes), height_px=size[0], width_px=size[1])
    spec = PixelSpec(pairs=pairs, read_ids=read_ids, height_px=size[0], width_px=size[1], channels=3)
    large = open_cache(replace(spec, height_px=height_px, width_px=width_px), folder / "large")
    return large, open_cache(spec, folder / "exact")


def read_ids(pair: Pair) -> NDArray[np.uint8]:
    ids = read_mask(pair.mask).values
    return np.where(ids < CLASSES, ids, IGNORE).astype(np.uint8)


def build(config: TrainConfig) -> tuple[TrainState, keras.Model]:
    """Return our training state, and the same network compiled by plain Keras."""
    contract = Contract(
        name="bench",
        height_px=config.height_px,
        width_px=config.width_px,
        channels=3,
        binary=False,
        classes=make_classes([f"class_{i}" for i in range(CLASSES)]),
    )
    plain = config.shape.build(height_px=config.height_px, width_px=config.width_px, channels=3, logit_channels=CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=IGNORE)
    plain.compile(keras.optimizers.AdamW(1e-3), loss=loss, metrics=["accuracy"], jit_compile=False)
    return initial_state(config, contract, np.full(CLASSES, 1000)), plain


def fed(batches: Batches, epoch: int, steps: int) -> Iterator[Batch]:
    """Yield ``steps`` batches, over as many epochs as needed."""
    left = steps
    while left:
        for batch in batches.epoch(epoch):
            yield batch
            left -= 1
            if not left:
                return
        epoch += 1000


def run(state: TrainState, batches: Iterable[Batch]) -> None:
    for batch in batches:
        state.step(batch.images, batch.masks, 1e-3)


def fit(model: keras.Model, arrays: tuple[NDArray[np.float32], NDArray[np.uint8]], count: int, batch: int) -> None:
    chosen = np.arange(count) % len(arrays[0])
    model.fit(arrays[0][chosen], arrays[1][chosen], batch_size=batch, epochs=1, verbose=0)


def measure(ways: dict[str, Callable[[int], None]], rounds: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Return (images per second, core-milliseconds per image) of each way and round; the first round is a warm-up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start_s, start_core_s = time.perf_counter(), time.process_time()
            way(round_)
            seconds, core_s = time.perf_counter() - start_s, time.process_time() - start_core_s
            if round_:
                times[name].append((count / seconds, 1e3 * core_s / count))
    return times


def report(times: dict[str, list[tuple[float, float]]]) -> int:
    alone = statistics.median(rate for rate, _ in times["step alone"])
    print(f"{'':<24}{'images/s':>10}{'of step alone':>15}{'core-ms/image':>15}")
    for name, found in times.items():
        rate = statistics.median(rate for rate, _ in found)
        core_ms = statistics.median(core_ms for _, core_ms in found)
        print(f"{name:<24}{rate:>10.1f}{rate / alone:>15.1%}{core_ms:>15.1f}")
    share = statistics.median(rate for rate, _ in times["input pipeline"]) / alone
    print(f"input pipeline: {share:.1%} of the step alone, {'enough' if share >= ENOUGH else f'expected {ENOUGH:.0%}'}")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
