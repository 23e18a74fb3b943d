"""Time ``edge-unet data check`` on a folder of many pairs: seconds, pairs per second, and the largest memory used.

    python tests/benchmarks/bench_check.py [--pairs 5000] [--size 360x480] [--form jpg|png] [--rounds 1]
    python tests/benchmarks/bench_check.py --pairs 100000 --size 64x64      memory and time of a large folder
    EDGE_UNET_DATA=FOLDER python tests/benchmarks/bench_check.py      also FOLDER/camvid, if it exists

The generated images are noise at several scales, which is harder to decode than a photograph. 20 % of them are in
``val``; the check compares each of these with every image of ``train``.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.commands.arguments import parse_size
from edge_runtime.resources import usable_cores
from training.data.check import check_dataset


def write_pair(root: Path, number: int, size: tuple[int, int], form: str) -> None:
    """Write one image and its mask."""
    rng = np.random.default_rng(number)
    height_px, width_px = size
    layers = [
        cv2.resize(rng.normal(0, 25, (height_px // step, width_px // step, 3)), (width_px, height_px))
        for step in (4, 12, 40)
    ]
    image_bgr = np.clip(120 + sum(layers), 0, 255).astype(np.uint8)
    ids = (layers[-1][..., 0] > 0).astype(np.uint8) + (layers[-1][..., 1] > 20)
    split = "val" if number % 5 == 0 else "train"
    for part, array, suffix in (("images", image_bgr, form), ("masks", ids, "png")):
        (root / split / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / split / part / f"{number:06}.{suffix}"), array)


def measure(name: str, root: Path, rounds: int) -> None:
    """Check a dataset and print the time."""
    times_s = []
    for _ in range(rounds):
        start = time.perf_counter()
        report = check_dataset(root)
        times_s.append(time.perf_counter() - start)
    count, time_s = len(report.dataset.pairs()), statistics.median(times_s)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: {count} pairs, {len(report.problems)} problems, {time_s:.1f} s, {count / time_s:.0f} pairs/s, at most "
        f"{peak_mb:.0f} MB"
    )


def main() -> None:
    """Write the pairs and check them, and CamVid, too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--size", type=parse_size, default=(360, 480), metavar="HxW")
    parser.add_argument("--form", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: write_pair(root, number, args.size, args.form), range(args.pairs)))
        measure(f"generated {args.form}", root, args.rounds)
    camvid = Path(os.environ.get("EDGE_UNET_DATA", "")) / "camvid"
    if "EDGE_UNET_DATA" in os.environ and camvid.is_dir():
        measure("camvid", camvid, args.rounds)


if __name__ == "__main__":
    main()
