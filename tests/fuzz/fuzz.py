"""Fuzz every parser of bytes that come from outside, with libFuzzer's coverage by atheris.

    python tests/fuzz/fuzz.py [--runs 100000] [--only TARGET …]

Prints a table of inputs per target, their speed and the faults. Each target runs in a process of its own, with a limit
of memory and of seconds per input. An input that raises anything but an error of ours, hangs, or lets memory grow is
written to ``build/fuzz``; once the fault is mended, put it into ``tests/fuzz/found/TARGET``, where the daily tests read it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
MEMORY_MB, SECONDS = 3000, 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs per target (default: %(default)s)")
    parser.add_argument("--only", metavar="TARGET", nargs="+", help="targets (default: all)")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.target:
        one(args.target, rest)
    names = args.only or target_names()
    print(f"{'target':<16} {'inputs':>8} {'per s':>7}  result", flush=True)
    return max(fuzz(name, args.runs) for name in names)


def target_names() -> list[str]:
    code = "from targets import TARGETS; print(*TARGETS)"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(), text=True, capture_output=True, check=True
    ).stdout.split()


def environment() -> dict[str, str]:
    paths = [str(HERE), str(PROJECT / "tests" / "support"), str(PROJECT)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OPENCV_LOG_LEVEL": "SILENT",
    }


def fuzz(name: str, runs: int) -> int:
    """Run one target, print its row, and return 1 if it found a fault."""
    out = PROJECT / "build" / "fuzz" / name
    out.mkdir(parents=True, exist_ok=True)
    limits = [f"-runs={runs}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SECONDS}", "-max_len=16384", "-seed=1"]
    command = [
        sys.executable,
        HERE / "fuzz.py",
        "--target",
        name,
        *limits,
        f"-artifact_prefix={out}/",
        "-print_final_stats=1",
    ]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        code = subprocess.run(command, env=environment(), stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        text = log.read()
    done = re.search(r"stat::number_of_executed_units: (\d+)", text)
    count = int(done[1]) if done else 0
    speed = count / (time.monotonic() - started)
    lines = text.splitlines()
    faults = [line for line in lines if re.match(r"\w*(Error|Exception|Warning)\b", line)]
    fault = (faults or [line for line in lines if line.startswith("==")] or [""])[-1]
    print(
        f"{name:<16} {count:>8} {speed:>7.0f}  {'ok' if code == 0 else f'FAULT: {fault[:150]} (see {out})'}", flush=True
    )
    (out / "log.txt").write_text(text[-20_000:])
    return int(code != 0)


def one(name: str, options: list[str]) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["edge_runtime", "training", "export"]):
        from targets import TARGETS

    from mutate import mutated

    from edge_runtime.errors import EdgeUnetError

    target = TARGETS[name]()

    def call(data: bytes) -> None:
        try:
            target.call(data)
        except EdgeUnetError as error:
            str(error).encode()  # a message must be printable

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        changed = mutated(data, seed) if seed % 2 else data
        return changed[:most] if changed != data else atheris.Mutate(data, most)

    seeds = Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
    for number, data in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(data)
    more = {"custom_mutator": mutator} if target.json else {}
    atheris.Setup([sys.argv[0], *options, str(seeds)], call, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
