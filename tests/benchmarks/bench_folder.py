"""A folder of pictures with one worker and with several: wall time, and how much of the cores each uses.

    python tests/benchmarks/bench_folder.py models/person PICTURES [--pictures 1000] [--rounds 3] [--save]

The real command, in turns; the median of the rounds. "of the cores" is the processor time used by the wall time that all
cores had: nothing can be faster than 100 %.
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
    parser.add_argument("--save", action="store_true", help="write masks and overlays too")
    parser.add_argument("--threads-of-one", type=int, help="threads of one inference with one worker; default: all")
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
    print(f"{args.pictures} pictures, {cores} cores, median of {args.rounds} rounds")
    print(f"{'workers':>8} {'seconds':>9} {'pictures/s':>11} {'times':>7} {'of the cores':>13}")
    for workers, times in found.items():
        wall, used = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{workers:>8} {wall:>9.2f} {args.pictures / wall:>11.1f} {one / wall:>7.2f} {used / (wall * cores):>13.1%}"
        )


def timed(command: list[str]) -> tuple[float, float]:
    """Return wall and processor seconds of a command, its start included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, used


if __name__ == "__main__":
    main()
