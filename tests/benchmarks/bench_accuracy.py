"""Compare the accuracy of what several trainers make of the same images in the same minutes on the same cores.

The rules, the same for all:

- The tasks of ``tasks/registry.py`` are written from the seed; all trainers get the same train/ and val/.
- Every trainer starts from random weights, and has the same minutes of wall time, which include reading the images and
  validating, on the same cores with the same number of threads. One process runs at a time.
- Each has its own recommended settings. Ours is ``edge-unet train`` without options. The peers' files in ``trainers/``
  say which settings they take and from where. None is tuned for a task.
- A trainer may use val/ as it likes; all choose their best epoch by it. test/ is read once, for the score.
- Scores and times come from the exported ONNX file, by the same code for all (``accuracy_score``): the largest logit,
  resized to the size of the mask; the time is that of one ``session.run`` at the network's own input size.

Every result is a line of ``results.jsonl`` in the output folder; results that are there are not measured again, so a
run that was stopped goes on. ``make accuracy`` makes the peers' environment and runs this file, which prints tables and
writes ``accuracy.md`` and ``accuracy.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import accuracy_report
from accuracy_report import Record
from accuracy_score import score
from tasks.dataset_folder import AbsentError
from tasks.registry import TASKS

TRAINERS = Path(__file__).parent / "trainers"


class Engine(NamedTuple):
    """A trainer: its script, options of its own, and whether it runs in the peers' environment."""

    script: str
    options: tuple[str, ...] = ()
    peer: bool = False


ENGINES = {
    "edge-unet": Engine("ours.py"),
    "plain Keras": Engine("plain_keras.py"),
    "smp U-Net": Engine("smp_unet.py", peer=True),
    "YOLO26n-sem 320": Engine("ultralytics_semantic.py", ("--imgsz", "320"), peer=True),
    "YOLO26n-sem 640": Engine("ultralytics_semantic.py", ("--imgsz", "640"), peer=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="tasks:\n" + "\n".join(f"  {name:<10}{t.minutes:g} min  {t.description}" for name, t in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=TASKS, action="append", help="task; may be repeated (default: all)")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="trainer; may be repeated (default: all)")
    parser.add_argument("--minutes", type=float, help="minutes of training (default: by task, as listed below)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of data and training (default: 0,1,2)")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores that are used (default: 2)")
    parser.add_argument("--peers", type=Path, default=Path(".accuracy-peers"), help="virtual environment of the peers")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"), help="folder for all that is written")
    args = parser.parse_args()
    limit_cores(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    failed, absent = 0, set()
    wanted = list(combinations(args))
    for number, run in enumerate(wanted, start=1):
        if run["task"] in absent or find(read_results(results), [run]):
            continue
        try:
            data = task_data(run["task"], run["seed"], args.out)
        except AbsentError as cause:
            absent.add(run["task"])
            progress(f"{run['task']}: skipped, because {cause}")
            continue
        progress(
            f"{number} of {len(wanted)}: {run['task']}, {run['engine']}, seed {run['seed']}, {run['minutes']:g} min"
        )
        try:
            record = {**run, **measure(run, data, args)}
        except subprocess.CalledProcessError as cause:
            failed += 1
            progress(f"  failed with status {cause.returncode}; {cause.cmd[-1]} says why")
            continue
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        progress(f"  foreground IoU {record['foreground_iou']:.3f}, boundary F {record['boundary_f']:.3f}")
    found = find(read_results(results), wanted)
    if found:
        tables = accuracy_report.markdown(found)
        (args.out / "accuracy.md").write_text(tables, encoding="utf-8")
        accuracy_report.write_chart(found, args.out / "accuracy.png")
        print(tables)
    return 1 if failed or not found else 0


def combinations(args: argparse.Namespace) -> Iterable[Record]:
    """Yield what identifies each result, so that every task has all engines at the first seed before the second."""
    for seed in map(int, args.seeds.split(",")):
        for task in args.task or TASKS:
            minutes = TASKS[task].minutes if args.minutes is None else args.minutes
            for engine in args.engine or ENGINES:
                yield {"task": task, "engine": engine, "seed": seed, "minutes": minutes, "threads": args.threads}


def find(records: Iterable[Record], wanted: Iterable[Record]) -> list[Record]:
    """Return the results of the wanted combinations, in their order; the later one where there are two."""
    wanted = list(wanted)
    by_run = {tuple(record[key] for key in wanted[0]): record for record in records} if wanted else {}
    return [by_run[tuple(run.values())] for run in wanted if tuple(run.values()) in by_run]


def read_results(path: Path) -> list[Record]:
    """Return the results so far; a line that a killed run left incomplete is skipped."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def task_data(task: str, seed: int, out: Path) -> Path:
    """Return the dataset folder of a task and seed; written unless it is there and complete."""
    folder = out / "data" / f"{task}-{seed}"
    if not (folder / "dataset.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        TASKS[task].write(folder, seed)
    return folder


def measure(run: Record, data: Path, args: argparse.Namespace) -> Record:
    """Train in a process of its own and score the network that it exported."""
    engine = ENGINES[run["engine"]]
    name = f"{run['task']}-{run['engine'].replace(' ', '-')}-{run['seed']}"
    folder, log = args.out / "runs" / name, args.out / "runs" / f"{name}.log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = args.peers / "bin/python" if engine.peer else sys.executable
    limits = ("--minutes", run["minutes"], "--seed", run["seed"], "--threads", run["threads"])
    command = [*map(str, (python, TRAINERS / engine.script, data, folder, *limits)), *engine.options]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, check=False, env=environment(args.threads)
        )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, [*command, log])
    return score(folder, data, args.threads)


def environment(threads: int) -> dict[str, str]:
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **dict.fromkeys(counts, str(threads))}


def limit_cores(threads: int) -> None:
    """Keep this process and all that it starts on so many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
