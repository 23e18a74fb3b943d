"""Measure the time of one 640×480 frame beside the network alone, and the processor time at five frames per second.

    python tests/benchmarks/bench_frame.py models/person

The first table has the time of the bare onnxruntime run (also with bound inputs and outputs), from a frame to its mask,
and from a frame to its overlay; the calls take turns in one process. The second table has the processor time per frame
of a loop at a camera's pace, for the bare run and for the whole call, with idle threads asleep and spinning.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_runtime import Segmenter, SessionOptions
from edge_runtime.effects import parse_effect
from edge_runtime.image import read_image
from edge_runtime.model.package import Package
from edge_runtime.segment.preprocess import checked_frame, model_input

WARM_UP_RUNS = 20
FRAMES_A_SECOND = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="model package, or a bare .onnx file")
    parser.add_argument("--image", type=Path, help="frame to segment (default: the first golden frame, or noise)")
    parser.add_argument("--variant", help="variant of the model (default: the fastest in the package)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--paced", type=int, default=40, metavar="FRAMES", help="number of frames of each paced loop")
    args = parser.parse_args()
    frame = camera_frame(args.package, args.image)
    segmenter = load(args, spinning=False)
    times = interleaved(calls(segmenter, frame, args), args.runs)
    print(f"{segmenter.variant}, {segmenter.threads} threads, {args.runs} runs, 640x480; ms; x: over session.run")
    bare = float(np.median(times["session.run"]))
    for name, taken in times.items():
        p25, p50, p95 = (float(np.percentile(taken, p)) for p in (25, 50, 95))
        print(f"{name:<16} p25 {p25:7.3f}  p50 {p50:7.3f}  p95 {p95:7.3f}  {p50 / bare:6.3f} x, {p50 - bare:+.3f}")
    print(f"frame to mask: {within(times)}")
    print(f"\n{FRAMES_A_SECOND:g} frames per second, {args.paced} frames; processor milliseconds per frame")
    for spinning in (False, True):
        segmenter = load(args, spinning=spinning)
        image = small(segmenter, frame)
        bare = paced(lambda: segmenter.session.mask(image), args.paced)  # noqa: B023 - called at once
        whole = paced(lambda: segmenter(frame).mask, args.paced)  # noqa: B023
        print(f"spinning {'on ' if spinning else 'off'}  session.run {bare:7.2f}  frame to mask {whole:7.2f}")


def load(args: argparse.Namespace, *, spinning: bool) -> Segmenter:
    options = SessionOptions(threads=args.threads, spinning=spinning)
    return Segmenter.load(args.package, variant=args.variant, options=options)


def camera_frame(package: Path, image: Path | None) -> NDArray[np.uint8]:
    """Return a 640×480 BGR frame."""
    if image is None and package.is_dir():
        image = package / Package.open(package).manifest.golden[0].image
    if image is None:
        return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(read_image(image), (640, 480)), np.uint8)


def small(segmenter: Segmenter, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    c = segmenter.contract
    return model_input(checked_frame(frame), c.height_px, c.width_px, c.channels)


def calls(segmenter: Segmenter, frame: NDArray[np.uint8], args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return the calls to compare, by name."""
    image = small(segmenter, frame)
    draw = parse_effect("overlay")
    return {
        "session.run": lambda: segmenter.session.mask(image),
        "bound": bound_run(args, segmenter.variant, image),
        "frame to mask": lambda: segmenter(frame).mask,
        "with overlay": lambda: draw(frame, segmenter(frame)),
    }


def bound_run(args: argparse.Namespace, variant: str, image: NDArray[np.uint8]) -> Callable[[], object]:
    """Return a run with bound input and output, which is the least work that Python can give onnxruntime."""
    package: Path = args.package
    path = package if package.is_file() else package / Package.open(package).manifest.variants[variant].file
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = args.threads, 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    mask = np.empty((1, *image.shape[:2]), np.uint8)
    batch = image[np.newaxis].copy()
    binding, options = session.io_binding(), ort.RunOptions()
    options.only_execute_path_to_fetches = True
    binding.bind_cpu_input("image", batch)
    binding.bind_output("mask", "cpu", 0, np.uint8, mask.shape, mask.ctypes.data)

    def run(kept: tuple[object, ...] = (batch, mask)) -> None:
        session.run_with_iobinding(binding, options)

    return run


def interleaved(steps: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of each step; their order changes, so that none always follows the same one."""
    order = list(steps)
    times: dict[str, list[float]] = {name: [] for name in steps}
    shuffle = random.Random(0).shuffle
    for run in range(WARM_UP_RUNS + runs):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            steps[name]()
            if run >= WARM_UP_RUNS:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def within(times: dict[str, list[float]]) -> str:
    """Describe whether frame to mask keeps its budget: 1.1 times the bare run plus half a millisecond."""
    bare, whole = (float(np.median(times[name])) for name in ("session.run", "frame to mask"))
    budget = 1.10 * bare + 0.5
    return f"{whole:.3f} ms of a budget of {budget:.3f} ms (1.10 x session.run + 0.5): {'kept' if whole <= budget else 'missed'}"


def paced(step: Callable[[], object], frames: int) -> float:
    """Return the processor milliseconds of the whole process per call, for calls at a camera's pace."""
    step()
    start, next_at = time.process_time(), time.perf_counter()
    for _ in range(frames):
        step()
        next_at += 1 / FRAMES_A_SECOND
        time.sleep(max(0.0, next_at - time.perf_counter()))
    return (time.process_time() - start) * 1e3 / frames


if __name__ == "__main__":
    main()
