"""Search for presets: measure the size of each candidate, its latency beside a peer's, and its accuracy after training.

Latency is that of the exported file in onnxruntime with random weights: in float and in INT8, as the runtime runs them
by default, and in INT8 with threads that spin while they wait, as ``edge-unet tune`` may choose and as LiteRT's threads
do. Each way is timed in its own process; they take turns in rounds, and the median is over all rounds. Milliseconds are
of this machine at this hour, so read the ratios to the peer, which is timed in the same rounds.

Every result is a line of ``results.jsonl`` in the output folder; results that are there are not measured again.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_candidates import CANDIDATES

from edge_runtime.resources import usable_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

PEER = "peer"
FLOAT, INT8, SPINNING = "fp32", "int8", "int8-spinning"
METRICS = ("mean_iou", "pixel_accuracy")
SIZE, CLASSES = 224, 11
WARM_UP_S, TIMED_S = 0.2, 0.5
Record = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=CANDIDATES, help="one candidate only; may be repeated")
    parser.add_argument("--peer", type=Path, help=".tflite file to time beside the candidates, in LiteRT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", type=Path, metavar="DATA", help="dataset folder on which to train each candidate")
    parser.add_argument("--minutes", type=float, default=10, help="minutes of training per candidate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--options",
        default="",
        help="further options of `edge-unet train`, such as \"--group-by '^(.+)_' --val-groups 0006R0\"",
    )
    parser.add_argument("--out", type=Path, default=Path("build/presets"))
    parser.add_argument("--write", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spinning", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_models(args.write, args.out)
    elif args.time:
        print(json.dumps(times_ms(args.time, args.threads, spinning=args.spinning)))
    else:
        search(args)
    return 0


def search(args: argparse.Namespace) -> None:
    """Measure and train the candidates that have no result yet, and write the tables."""
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    names = args.only or list(CANDIDATES)
    done = read_results(results)
    missing = [name for name in names if "latency" not in done.get(name, {})]
    if missing:
        unwritten = [name for name in missing if not file_of(args.out, name, "facts").exists()]
        if unwritten:
            child("--write", *unwritten, "--out", args.out)
        for record in measure(missing, args):
            append(results, record)
    if args.train:
        for name in names:
            if "training" not in read_results(results)[name]:
                how = {"data": args.train.name, "minutes": args.minutes, "cores": usable_cores(), "seed": args.seed}
                training = {**how, "options": args.options, **train_candidate(name, args)}
                append(results, {"name": name, "training": training})
    found = read_results(results)
    records = sorted((found[name] for name in names), key=_slowness)
    table = markdown(records)
    (args.out / "results.md").write_text(table, encoding="utf-8")
    (args.out / "results.csv").write_text(csv_text(records), encoding="utf-8")
    if any("training" in record for record in records):
        write_plot(records, args.out / "pareto.png")
    print(table)


def train_candidate(name: str, args: argparse.Namespace) -> Record:
    """Train a candidate by ``edge-unet train`` and return its metrics on the validation split."""
    run = args.out / f"run-{name.replace(',', '').replace(' ', '-')}"
    options = ["--input-size", f"{SIZE}x{SIZE}", "--max-minutes", str(args.minutes), "--seed", str(args.seed)]
    resume = ["--resume"] if run.exists() else []
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_presets as b; b.train(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        name,
        args.train,
        "--out",
        run,
        *options,
        *shlex.split(args.options),
        *resume,
    ]
    subprocess.run(list(map(str, command)), check=True, stdout=sys.stderr)
    metrics = json.loads((run / "run.json").read_bytes())["metrics"]
    return {name: metrics[name] for name in METRICS}


def train(arguments: list[str]) -> None:
    """Run ``edge-unet train`` with a candidate as an additional preset."""
    from dataclasses import replace

    from edge_runtime import cli
    from training.presets import PRESETS

    name, *rest = arguments
    PRESETS[name] = replace(PRESETS["edge"], shape=CANDIDATES[name])  # type: ignore[index]
    sys.exit(cli.main(["train", *rest, "--preset", name]))


def write_models(names: Iterable[str], folder: Path) -> None:
    """Export each candidate with random weights, in float and in 8-bit integers."""
    import bench_models
    import keras

    from edge_runtime.model.contract import Contract
    from export.convert import convolution_layers, gflops, trace
    from export.int8_search import measure_ranges
    from export.optimise import integer_layout, optimise, to_int8
    from training.data.dataset import make_classes

    for name in names:
        keras.backend.clear_session()
        classes = make_classes([f"class_{i}" for i in range(CLASSES)])
        contract = Contract(name="candidate", height_px=SIZE, width_px=SIZE, channels=3, binary=False, classes=classes)
        frames = bench_models.draw_frames(contract)[:4]
        model = bench_models.random_model(contract, CANDIDATES[name], bench_models.network_input(frames, contract))
        raw, layers = trace(model, bench_models.OPSET), convolution_layers(model)
        layout = integer_layout(raw, layers)[-1].model
        files = {
            FLOAT: optimise(raw, contract, layers)[-1].model,
            INT8: to_int8(layout, contract, measure_ranges(layout, list(frames))),
        }
        for kind, graph in files.items():
            file_of(folder, name, kind).write_bytes(graph.SerializeToString())
        facts = {"parameters": model.count_params(), "gflops": gflops(raw)}
        file_of(folder, name, "facts").write_text(json.dumps(facts))
        print(f"written: {name}", file=sys.stderr)


def measure(names: list[str], args: argparse.Namespace) -> list[Record]:
    """Time all files in turns and return one record per candidate."""
    ways: dict[tuple[str, str], list[object]] = {}
    for name in names:
        for kind in (FLOAT, INT8):
            ways[name, kind] = [file_of(args.out, name, kind)]
        ways[name, SPINNING] = [file_of(args.out, name, INT8), "--spinning"]
    if args.peer:
        ways[PEER, FLOAT] = [args.peer]
    times: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
    for number in range(1, args.rounds + 1):
        start = time.monotonic()
        # In another order each round, so that no file is always timed after the same one.
        for key in random.Random(number).sample(list(ways), len(ways)):
            times[key] += child("--time", *ways[key], "--threads", args.threads)
        print(f"round {number} of {args.rounds} took {time.monotonic() - start:.0f} s", file=sys.stderr)
    medians = {key: float(np.median(found)) for key, found in times.items()}
    how: Record = {"threads": args.threads, "rounds": args.rounds, "load": os.getloadavg()[0]}
    if args.peer:
        how[PEER] = medians[PEER, FLOAT]
    return [
        {
            "name": name,
            "plan": asdict(CANDIDATES[name]),
            **json.loads(file_of(args.out, name, "facts").read_text()),
            "latency": {**how, **{kind: medians[name, kind] for kind in (FLOAT, INT8, SPINNING)}},
        }
        for name in names
    ]


def times_ms(path: Path, threads: int, *, spinning: bool) -> list[float]:
    """Return the milliseconds of single frames with a file, after a warm-up."""
    run = _litert(path, threads) if path.suffix == ".tflite" else _onnxruntime(path, threads, spinning)
    begin = time.perf_counter()
    while time.perf_counter() < begin + WARM_UP_S:
        run()
    times: list[float] = []
    while sum(times) < TIMED_S * 1e3:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _onnxruntime(path: Path, threads: int, spinning: bool) -> Callable[[], object]:
    from edge_runtime.model.session import Session, SessionOptions

    session = Session(path.read_bytes(), path.name, options=SessionOptions(threads=threads, spinning=spinning))
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return lambda: session.mask(image)


def _litert(path: Path, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    image = np.random.default_rng(0).random(source["shape"], np.float32)

    def run() -> object:
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run


def markdown(records: list[Record]) -> str:
    """Return the results as a Markdown table, sorted by INT8 latency."""
    lines = [
        "| candidate | parameters | GFLOPs | fp32 ms | INT8 ms | INT8 / peer | INT8 spinning / peer | mean IoU | pixels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        row = _row(record)
        numbers = [f"{row['parameters']:,}", *(_short(row[key]) for key in list(row)[2:])]
        lines.append(f"| {row['candidate']} | {' | '.join(numbers)} |")
    for sentence in dict.fromkeys(_how_trained(record["training"]) for record in records if "training" in record):
        lines += ["", sentence]
    return "\n".join(lines) + "\n"


def csv_text(records: list[Record]) -> str:
    """Return the results as CSV."""
    rows = [_row(record) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(record: Record) -> Record:
    latency = record["latency"]
    peer = latency.get(PEER)
    return {
        "candidate": record["name"],
        "parameters": record["parameters"],
        "gflops": record["gflops"],
        "fp32_ms": latency[FLOAT],
        "int8_ms": latency[INT8],
        "int8_by_peer": latency[INT8] / peer if peer else "",
        "int8_spinning_by_peer": latency[SPINNING] / peer if peer else "",
        **{name: record.get("training", {}).get(name, "") for name in METRICS},
    }


def _slowness(record: Record) -> float:
    """Return the latency over the peer's, because milliseconds of different runs cannot be compared."""
    return record["latency"][INT8] / record["latency"].get(PEER, 1.0)


def _how_trained(training: Record) -> str:
    cores = "one core" if training["cores"] == 1 else f"{training['cores']} cores"
    how = f"{training['minutes']:g} minutes on {cores}, seed {training['seed']}, `{training['options']}`"
    return f"Trained on {training['data']} for {how}."


def _short(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:.3g}"


def write_plot(records: list[Record], path: Path) -> None:
    """Draw mean IoU over latency, with a line through the candidates that no other beats in both."""
    from matplotlib.figure import Figure

    points = sorted((_slowness(r), r["training"]["mean_iou"], r["name"]) for r in records if "training" in r)
    front = [p for p in points if all(p[1] > other[1] for other in points if other[0] < p[0])]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*((x, y) for x, y, _ in front), strict=True), color="#0b7a75", linewidth=1)
    axes.scatter(
        [p[0] for p in points], [p[1] for p in points], color=["#0b7a75" if p in front else "#c3c8cd" for p in points]
    )
    unit = "relative to the peer" if PEER in records[0]["latency"] else "ms per frame"
    axes.set_xlabel(f"INT8 latency, {unit}")
    axes.set_ylabel("mean IoU on the validation split")
    axes.spines[["top", "right"]].set_visible(False)
    _label(axes, points)
    figure.savefig(path, dpi=150)


def _label(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Write each name beside its point, if possible inside the figure and without covering another name."""
    axes.figure.draw_without_rendering()
    taken: list[Bbox] = []
    for x, y, name in points:
        label = axes.annotate(name, (x, y), textcoords="offset points", fontsize=8)
        label.set_in_layout(False)
        for right, up in ((5, 4), (5, -10), (-5, 4), (-5, -10)):
            label.xyann = right, up
            label.set_horizontalalignment("left" if right > 0 else "right")
            box = label.get_window_extent()
            if box.x1 < axes.figure.bbox.x1 and not box.count_overlaps(taken):
                break
        taken.append(box)


def read_results(path: Path) -> dict[str, Record]:
    """Return the results of each candidate, later lines merged into earlier ones; an incomplete line is skipped."""
    found: dict[str, Record] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.setdefault(record["name"], {}).update(record)
    return found


def append(path: Path, record: Record) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def file_of(folder: Path, name: str, kind: str) -> Path:
    return folder / f"{name.replace(',', '').replace(' ', '-')}-{kind}.{'json' if kind == 'facts' else 'onnx'}"


def child(*arguments: object) -> Any:
    """Run this script in its own process and return the JSON of its last line; None if it prints nothing."""
    command = [sys.executable, __file__, *map(str, arguments)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


if __name__ == "__main__":
    sys.exit(main())
