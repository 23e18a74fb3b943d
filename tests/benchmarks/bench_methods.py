"""Compare the networks of all presets: trained alike on the same images, exported, scored and timed.

All are trained by ``edge-unet train`` with the same recipe, input size, minutes and cores, from random weights; nothing
is tuned for one of them. The images are those of the task ``camvid`` of the accuracy benchmark, whose splits are drives;
``EDGE_UNET_DATA`` names the folder that has them. ``seed`` keeps its own recipe, because it is the network that the project began with. val/
chooses the best epoch, and test/ is read once, by ``edge-unet eval``, for the score. Times come from ``edge-unet bench``,
the files of all presets one after the other, in a process each, in several rounds.

Every result is a line of ``results.jsonl`` in the output folder; results that are there are not measured again, so a run
that was stopped goes on. The tables are printed and written to ``methods.md``, the chart to ``methods.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tasks import camvid

from edge_runtime.model.package import Package
from training.presets import PRESETS

Record = dict[str, Any]
SMALL = [name for name in PRESETS if "-vgg16" not in name and "-xception" not in name and name != "classic"]
"""Presets that a CPU trains in minutes."""
FAMILIES = {"fcn": "#b5651d", "segnet": "#7a4fa3", "deeplab": "#2f6fb0"}
OTHERS = "#0b7a75"
TICKS_MS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="dataset with train/, val/ and test/ (default: the task camvid)")
    parser.add_argument("--preset", choices=PRESETS, action="append", help="preset; may be repeated")
    parser.add_argument("--input-size", default="224x224", help="height and width of the input of all networks")
    parser.add_argument("--minutes", type=float, default=60, help="minutes of training per network")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of training")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores that are used")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing")
    parser.add_argument("--out", type=Path, default=Path("build/methods"), help="folder for all that is written")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    args.out.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.out / "camvid"
        if not (args.data / "dataset.yaml").exists():
            shutil.rmtree(args.data, ignore_errors=True)
            camvid.write(args.data, seed=0)
    results = args.out / "results.jsonl"
    keys = [
        {
            "preset": preset,
            "seed": seed,
            "minutes": args.minutes,
            "input_size": args.input_size,
            "threads": args.threads,
        }
        for seed in map(int, args.seeds.split(","))
        for preset in args.preset or SMALL
    ]
    for number, key in enumerate(keys, start=1):
        if not find(read(results), [key]):
            print(f"{number} of {len(keys)}: {key['preset']}, seed {key['seed']}", file=sys.stderr, flush=True)
            record = {**key, **measure(key, args)}
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    found = find(read(results), keys)
    times = timed({r["preset"]: folder_of(r, args.out) / "package" for r in found[::-1]}, args)
    rows = [row(preset, found, times[preset]) for preset in dict.fromkeys(r["preset"] for r in found)]
    text = table(rows)
    (args.out / "methods.md").write_text(text, encoding="utf-8")
    write_chart(rows, args.out / "methods.png")
    print(text)
    return 0


def measure(key: Record, args: argparse.Namespace) -> Record:
    """Train, export with the INT8 variant that export chooses, and score the default variant on the test split."""
    folder = folder_of(key, args.out)
    run, package = folder / "run", folder / "package"
    options = ["--preset", key["preset"], "--seed", key["seed"], "--max-minutes", key["minutes"]]
    # An interrupted run goes on; its seconds so far count.
    more = ["--resume"] if (run / "run.json").exists() else []
    edge_unet("train", args.data, "--out", run, "--input-size", key["input_size"], *options, *more, cores=args.threads)
    edge_unet("export", run, "--out", package, "--overwrite", cores=args.threads)
    scores = {
        name: json.loads(
            edge_unet("eval", package, args.data, "--split", "test", "--variant", name, "--json", cores=args.threads)
        )
        for name in Package.open(package).manifest.variants
    }
    manifest = Package.open(package).manifest
    return {
        "epochs": len((run / "history.csv").read_text().splitlines()) - 1,
        "parameters": manifest.parameters,
        "gflops": manifest.gflops,
        "mean_iou": {name: score["mean_iou"] for name, score in scores.items()},
        "boundary_f": {name: score["boundary_f"] for name, score in scores.items()},
    }


def timed(packages: dict[str, Path], args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of a session's run per variant, over rounds in which the packages take turns."""
    samples: dict[str, dict[str, list[float]]] = {preset: {} for preset in packages}
    for _ in range(args.rounds):
        for preset, package in packages.items():
            latency = json.loads(
                edge_unet("bench", package, "--threads", args.threads, "--runs", 30, "--json", cores=args.threads)
            )
            for name, variant in latency["variants"].items():
                samples[preset].setdefault(name, []).append(variant["session_ms"]["p50"])
    return {preset: {name: median(ms) for name, ms in variants.items()} for preset, variants in samples.items()}


def row(preset: str, records: Iterable[Record], times: dict[str, float]) -> Record:
    """Return what the tables show of a preset: means over its seeds, of the float variant and of the INT8 one."""
    runs = [record for record in records if record["preset"] == preset]
    scores = {
        measure: {name: mean(run[measure][name] for run in runs if name in run[measure]) for name in times}
        for measure in ("mean_iou", "boundary_f")
    }
    sizes = {name: runs[0][name] for name in ("parameters", "gflops")}
    spread = max(run["mean_iou"]["fp32"] for run in runs) - min(run["mean_iou"]["fp32"] for run in runs)
    epochs = round(mean(run["epochs"] for run in runs))
    return {"preset": preset, "seeds": len(runs), "spread": spread, "epochs": epochs, "ms": times, **sizes, **scores}


def table(rows: Sequence[Record]) -> str:
    lines = [
        "| preset | parameters | GFLOPs | epochs | mean IoU | boundary F | fp32, ms | INT8, ms | mean IoU in INT8 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        spread = f" ± {r['spread'] / 2:.3f}" if r["seeds"] > 1 else ""
        int8 = f"{r['ms']['int8']:.2f} | {r['mean_iou']['int8']:.3f}" if "int8" in r["ms"] else "– | –"
        lines.append(
            f"| `{r['preset']}` | {r['parameters']:,} | {r['gflops']:.2f} | {r['epochs']} | {r['mean_iou']['fp32']:.3f}{spread} "
            f"| {r['boundary_f']['fp32']:.3f} | {r['ms']['fp32']:.2f} | {int8} |"
        )
    return "\n".join(lines) + "\n"


def write_chart(rows: Sequence[Record], path: Path) -> None:
    """Draw accuracy over time per frame, a point per variant, and the line of those that nothing else dominates."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    points = [(ms, r["mean_iou"][name], r["preset"], name) for r in rows for name, ms in r["ms"].items()]
    best = [p for p in sorted(points) if all(p[1] > q[1] for q in points if q[0] < p[0])]
    axes.step([p[0] for p in best], [p[1] for p in best], where="post", color="#c3c8cd", zorder=0)
    for ms, iou, preset, name in points:
        color = FAMILIES.get(preset.partition("-")[0], OTHERS)
        axes.plot(ms, iou, "o", color=color, markersize=7, fillstyle="full" if name == "fp32" else "none")
        label = preset if name == "fp32" else f"{preset}, {name.upper()}"
        axes.annotate(label, (ms, iou), xytext=(6, 4), textcoords="offset points", fontsize=8.5, color=color)
    axes.set_xscale("log")
    shortest, longest = min(points)[0], max(points)[0]
    axes.set_xticks([ms for ms in TICKS_MS if 0.7 * shortest < ms < 1.5 * longest])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.18, y=0.12)
    axes.set_xlabel("ms per frame, onnxruntime; filled: float, hollow: INT8")
    axes.set_title("Mean IoU on test images over time per frame", loc="left", fontsize=11)
    axes.grid(color="#eef0f1")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def folder_of(key: Record, out: Path) -> Path:
    return out / f"{key['preset']}-{key['seed']}-{key['minutes']:g}min-{key['input_size']}"


def find(records: Iterable[Record], keys: Sequence[Record]) -> list[Record]:
    """Return the records of the keys, in their order."""
    by_key = {tuple(record[name] for name in keys[0]): record for record in records}
    return [by_key[tuple(key.values())] for key in keys if tuple(key.values()) in by_key]


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def edge_unet(*arguments: object, cores: int) -> str:
    counts = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(cores))
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **counts}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


if __name__ == "__main__":
    sys.exit(main())
