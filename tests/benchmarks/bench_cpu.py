"""Measure the processor time of a camera of five frames per second, of inference alone, and of waiting for a camera.

    python tests/benchmarks/bench_cpu.py models/person [--seconds 30] [--rounds 3]

Processes take turns: `edge-unet run`, which gets five raw 640×480 frames per second through a pipe, and a bare loop
that runs the same onnxruntime session at the same rate. Processor time is read from /proc after a warm-up and at the
end. The last measurement is the command while it waits for a camera that does not answer.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HEIGHT_PX, WIDTH_PX, RATE = 480, 640, 5.0
WARM_UP_S = 3.0
BARE = """
import sys, time, numpy as np
from edge_runtime import Segmenter
segmenter = Segmenter.load(sys.argv[1])
c = segmenter.contract
image = np.random.default_rng(0).integers(0, 256, (c.height_px, c.width_px, c.channels), dtype=np.uint8)
deadline = time.monotonic()
while True:
    segmenter.session.mask(image)
    deadline += 0.2
    time.sleep(max(0.0, deadline - time.monotonic()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each measurement (default: 30)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    run = [sys.executable, "-m", "edge_runtime", "run", str(args.package)]
    raw = ["--source", "-", "--raw-size", f"{HEIGHT_PX}x{WIDTH_PX}", "--live"]
    commands = {
        "inference alone": [sys.executable, "-c", BARE, str(args.package)],
        "run": [*run, *raw],
        "run --json": [*run, *raw, "--json", "/dev/null"],
        "outage": [*run, "--source", "http://127.0.0.1:9/camera", "--service", "--json", "/dev/null"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(args.rounds):
        for name, command in commands.items():
            share = cpu_share(command, args.seconds)
            found[name].append(share)
            print(f"round {number + 1}  {name:<16} {share:7.2%} of a core", file=sys.stderr)
    bare = statistics.median(found["inference alone"])
    print(
        f"{'':<16} {'of a core':>10} {'ratio':>7}   "
        f"median of {args.rounds} rounds of {args.seconds:g} s, {RATE:g} frames per second"
    )
    for name, shares in found.items():
        share = statistics.median(shares)
        ratio = "" if name == "outage" else f"{share / bare:7.2f}"
        print(f"{name:<16} {share:>10.2%} {ratio}")


def cpu_share(command: list[str], seconds: float) -> float:
    """Return the share of one core that a process uses while it gets ``RATE`` frames per second."""
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8).tobytes()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as child:
        assert child.stdin is not None
        deadline = started = time.monotonic()
        first: tuple[float, float] | None = None
        while (now := time.monotonic()) < started + WARM_UP_S + seconds:
            if first is None and now >= started + WARM_UP_S:
                first = now, cpu_seconds(child.pid)
            if "-" in command:
                child.stdin.write(picture)
                child.stdin.flush()
            deadline += 1 / RATE
            time.sleep(max(0.0, deadline - time.monotonic()))
        assert first is not None and child.poll() is None, "the process has ended"
        used, elapsed = cpu_seconds(child.pid) - first[1], time.monotonic() - first[0]
        child.terminate()
    return used / elapsed


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds of all threads of a process, from the scheduler's nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


if __name__ == "__main__":
    main()
