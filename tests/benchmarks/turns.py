"""Time engines that take turns: one process each, all alive at once, so that a busy machine slows all of them alike."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

SETTLING_S, RUNS = 0.05, 20
"""Seconds of a turn that are not counted, in which caches fill and the threads of the engine before stop spinning, and
runs that are."""


def take_turns(commands: Mapping[str, Sequence[object]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each engine in milliseconds, of all its turns.

    Args:
        commands: Arguments of Python by name of the engine; the script must call ``serve``.
        rounds: Number of turns of each engine.
    """
    processes = {
        name: subprocess.Popen(
            [sys.executable, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, command in commands.items()
    }
    times: dict[str, list[float]] = {name: [] for name in processes}
    for number in range(rounds):
        # In another order each round, so that no engine is always timed after the same one.
        for name in random.Random(number).sample(list(processes), len(processes)):
            process = processes[name]
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            times[name] += json.loads(process.stdout.readline())
    for process in processes.values():
        process.communicate()
    return times


def serve(run: Callable[[], object]) -> None:
    """Take a turn for each line on stdin, and write its times in milliseconds as a line of JSON."""
    for _ in sys.stdin:
        begin = time.perf_counter()
        while time.perf_counter() < begin + SETTLING_S:
            run()
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), flush=True)


def onnx_runner(path: Path, threads: int, outputs: list[str] | None = None) -> Callable[[], object]:
    """Return a function that runs an ONNX file of ours on one frame of noise; ``outputs`` None: all of them."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    frame = {entry.name: np.random.default_rng(0).integers(0, 256, entry.shape, np.uint8)}
    return lambda: session.run(outputs, frame)


def table(times: Mapping[str, Sequence[float]], reference: str) -> str:
    """Return a table of median and shortest times, and their ratios to those of a reference."""
    base = np.median(times[reference]), min(times[reference])
    width = max(map(len, times))
    lines = [f"{'':<{width}}  median ms  shortest  ratio of medians, of shortest"]
    for name, found in times.items():
        median, shortest = float(np.median(found)), min(found)
        ratios = f"{median / base[0]:8.2f} {shortest / base[1]:8.2f}"
        lines.append(f"{name:<{width}}  {median:9.3f} {shortest:9.3f} {ratios}")
    return "\n".join(lines)
