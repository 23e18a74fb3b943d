"""Compare the latency of one frame: our packages, TensorFlow, the raw tf2onnx graph, OpenVINO, LiteRT and OpenCV.

All engines get the same weights and the same frames, batch 1. Results are compared with TensorFlow's before they are
timed. Each engine runs in its own process; they take turns in rounds, and the median is over all rounds. Where an
engine can run several forms of the model, each is timed and the fastest is shown. Milliseconds are of this machine, so
read the ratios. ``make bench`` runs this file, which prints a table and writes ``bench.json`` and ``bench.png``.

The other modules: ``bench_open`` loads a file in an engine, ``bench_variants`` lists the variants and times them,
``bench_models`` writes the files, ``bench_machine`` measures the peak of the machine, ``bench_report`` and
``bench_chart`` show the results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_chart
import bench_machine
import bench_report
from bench_report import Conditions, Network, Result
from bench_variants import OUR_ROWS, RAW_ROW, TENSORFLOW_ROW, VARIANTS, Variant

from training.presets import PRESETS

HERE = Path(__file__).parent
DEFAULT_PRESETS = ("seed", "edge")
LARGEST_DIFFERENCE = 1e-3
"""Largest difference of a probability from TensorFlow's that a float variant may have."""
REQUIRED = (TENSORFLOW_ROW, RAW_ROW, *OUR_ROWS.values())
"""Rows that must work; if another one fails, its row says why."""
HOPELESS = 1.25
"""Factor by which a file may be slower than the fastest of its row; slower ones are timed in the first round only."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, action="append", help="preset, random weights; may be repeated")
    parser.add_argument("--run", type=Path, action="append", help="run folder, instead of presets; may be repeated")
    parser.add_argument("--model", type=Path, action="append", help="Keras file of your own; may be repeated")
    parser.add_argument("--zoo", action="store_true", help="all models of tests/support/keras_zoo.py")
    parser.add_argument("--input-size", metavar="HxW", help="input of the models of your own that take any size")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for bench.json and bench.png")
    args = parser.parse_args()
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads — expected 1 or more")
    load = os.getloadavg()[0]
    # Before and after the comparison, because the machine may be busy with something else at one of these moments.
    peaks = measure_peaks(args.threads, {})
    networks, failed = [], False
    with tempfile.TemporaryDirectory() as zoo:
        try:
            sources = sources_of(args, Path(zoo))
        except ChildError as cause:
            print(cause, file=sys.stderr)
            return 1
        for source in sources:
            try:
                networks.append(compare(source, args.rounds, args.threads))
            except ChildError as cause:
                print(f"{source[1]}: {cause}", file=sys.stderr)
                failed = True
    if not networks:
        return 1
    peaks = measure_peaks(args.threads, peaks)
    args.out.mkdir(parents=True, exist_ok=True)
    how = Conditions(threads=args.threads, rounds=args.rounds, load=load, peaks=peaks)
    print(bench_report.text(networks, how))
    report = bench_report.as_json(networks, how)
    (args.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    bench_chart.write_chart(networks, args.threads, args.out / "bench.png")
    print(f"\nwritten: {args.out / 'bench.json'}, {args.out / 'bench.png'}")
    return 1 if failed else 0


def sources_of(args: argparse.Namespace, zoo: Path) -> list[tuple[str, ...]]:
    """Return the networks that the options name, as options of ``bench_models.py``; ``zoo`` is a folder for files."""
    models, size = list(args.model or []), args.input_size
    if args.zoo:
        child([HERE.parent / "support/keras_zoo.py", zoo])
        models += sorted(zoo.iterdir())
        size = size or "64x64"
    sources = [("--run", str(run)) for run in args.run or []]
    sources += [("--model", str(model), *(("--input-size", size) if size else ())) for model in models]
    return sources + [("--preset", preset) for preset in args.preset or ([] if sources else DEFAULT_PRESETS)]


def compare(source: tuple[str, ...], rounds: int, threads: int) -> Network:
    """Write one network's files, check the results of every engine, and time them all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress(f"{source[1]}: writing the models")
        child([HERE / "bench_models.py", *source, "--folder", folder])
        network = Network(facts=json.loads((folder / "facts.json").read_text()), results={})
        for number in range(1, rounds + 1):
            start = time.monotonic()
            for variant in still_timed(network.results):
                take_turn(variant, folder, threads, network.results)
            progress(f"{source[1]}: round {number} of {rounds} took {time.monotonic() - start:.0f} s")
    return network


def take_turn(variant: Variant, folder: Path, threads: int, results: dict[str, Result]) -> None:
    """Time a variant in its own process and add the times to the results; in the first round, check it, too."""
    first = variant.key not in results
    command = [HERE / "bench_variants.py", variant.key, "--folder", folder, "--threads", threads]
    try:
        found = child([*command, "--check"] if first else command)
    except ChildError as cause:
        if variant.row in REQUIRED:
            raise ChildError(f"{variant.key}: {cause}") from cause
        results[variant.key] = Result(variant=variant, failure=str(cause))
        return
    if first:
        difference = found["difference"]
        result = Result(variant=variant, precision=found["precision"], difference=difference)
        result.same_class = found["same_class"]
        results[variant.key] = result
        if variant.arithmetic == "fp32" and not difference <= LARGEST_DIFFERENCE:
            result.failure = f"differs from TensorFlow's probabilities by {difference:.2g}"
            if variant.row in REQUIRED:
                raise ChildError(f"{variant.key}: {result.failure}, expected at most {LARGEST_DIFFERENCE:g}")
            return
    results[variant.key].times_ms += found["times_ms"]


def still_timed(results: Mapping[str, Result]) -> list[Variant]:
    """Return the variants that work and may still be the fastest of their row; before the first round, all."""
    # By the shortest times, because other work may have disturbed the median of the only round so far.
    shortest: dict[str, float] = {}
    for result in results.values():
        if result.times_ms:
            row = result.variant.row
            shortest[row] = min(result.shortest_ms, shortest.get(row, result.shortest_ms))
    return [
        variant
        for variant in VARIANTS
        if variant.key not in results
        or (results[variant.key].times_ms and results[variant.key].shortest_ms <= HOPELESS * shortest[variant.row])
    ]


def measure_peaks(threads: int, before: Mapping[str, float]) -> dict[str, float]:
    """Return the best GFLOP/s of each type over all installed engines and the measurement before."""
    progress("measuring the machine's peak")
    peaks = dict(before)
    for engine in bench_machine.ENGINES:
        command = [HERE / "bench_machine.py", engine, "--threads", threads]
        try:
            found = child(command, bench_machine.environment(threads))
        except ChildError as cause:
            progress(f"no peak from {engine}: {cause}")
            continue
        peaks.update({name: max(gflops, peaks.get(name, 0.0)) for name, gflops in found.items()})
    return peaks


class ChildError(Exception):
    """A process of the benchmark failed, or a required variant is wrong; the message is the last line it wrote."""


def child(command: Sequence[object], environment: Mapping[str, str] = os.environ) -> Any:
    """Run a script of the benchmark and return the JSON of its last line; None if it prints nothing."""
    quiet = {**environment, "TF_CPP_MIN_LOG_LEVEL": "3", "OPENCV_LOG_LEVEL": "ERROR"}
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise ChildError(last_line(done.stderr.splitlines()) or f"ended with status {done.returncode}")
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None


def last_line(lines: Iterable[str]) -> str:
    return next((line.strip()[:100] for line in reversed(list(lines)) if line.strip()), "")


def progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
