"""Time ``edge-unet run`` on a folder of images, with one worker and with several.

    python tests/benchmarks/bench_folder.py models/person PICTURES [--pictures 1000] [--rounds 3] [--save]

The numbers of workers take turns; the table has medians over the rounds. "speed-up" is relative to the first number of
workers. "cores used" is the processor time as a share of wall time × number of cores: 100 % is the most possible.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_runtime.image import image_files
from edge_runtime.resources import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, usable_cores()])
    parser.add_argument("--save", action="store_true", help="also write masks and overlays")
    parser.add_argument(
        "--threads-of-one", type=int, help="threads of one inference with one worker (default: all cores)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        folder.mkdir()
        sources = image_files(args.folder)
        for number in range(args.pictures):
            source = sources[number % len(sources)]
            (folder / f"{number:05d}{source.suffix}").symlink_to(source.resolve())
        found: dict[int, list[tuple[float, float]]] = {workers: [] for workers in args.workers}
        for number in range(args.rounds):
            for workers in args.workers:
                out = Path(temporary) / "out"
                command = [sys.executable, "-m", "edge_runtime", "run", str(args.package), "--source", str(folder)]
                command += [
                    "--workers",
                    str(workers),
                    "--json",
                    "/dev/null",
                    *(["--save", str(out)] if args.save else []),
                ]
                if workers == 1 and args.threads_of_one:
                    command += ["--threads", str(args.threads_of_one)]
                found[workers].append(timed(command))
                shutil.rmtree(out, ignore_errors=True)
                print(f"round {number + 1}, {workers} workers: {found[workers][-1][0]:.2f} s", file=sys.stderr)
    cores = usable_cores()
    one = statistics.median(wall for wall, _ in found[args.workers[0]])
    print(f"{args.pictures} images, {cores} cores, median of {args.rounds} rounds")
    print(f"{'workers':>8} {'seconds':>9} {'images/s':>11} {'speed-up':>9} {'cores used':>11}")
    for workers, times in found.items():
        wall, used = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{workers:>8} {wall:>9.2f} {args.pictures / wall:>11.1f} {one / wall:>9.2f} {used / (wall * cores):>11.1%}"
        )


def timed(command: list[str]) -> tuple[float, float]:
    """Return wall and processor seconds of a command, including its start."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, used


if __name__ == "__main__":
    main()
