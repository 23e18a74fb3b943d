"""Run many frames through ``edge-unet run`` and check that its memory, open files and threads do not grow.

    python tests/benchmarks/bench_soak.py models/person [--frames 50000] [--out build/soak]

Frames of 640×480 go through a pipe into `edge-unet run PACKAGE --source - --raw-size 480x640`, which writes JSON Lines
and a status file. With `--mode everything` it also smooths the masks, draws soft edges and writes pictures to
/dev/null. Every 250 frames, resident memory, open files and threads of the process are read from /proc. The exit code
is 1 if memory grows by more than 5 bytes per frame, if the threads change in number or the open files by more than one,
or if a frame is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HEIGHT_PX, WIDTH_PX = 480, 640
SAMPLE_FRAMES = 250
WARM_UP_SHARE = 0.2
LIMIT_BYTES_A_FRAME = 5.0
MODES = {
    "plain": [],
    "everything": ["--smooth", "--edges", "soft", "--effect", "blur", "--raw", "/dev/null", "--shapes", "rle"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    parser.add_argument("--mode", choices=MODES, default="plain", help="everything: smooth, soft edges, blur, raw, RLE")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    samples, summary = soak(args.package, args.frames, args.out, MODES[args.mode])
    report = evaluate(samples)
    report |= {"frames": summary["processed"], "fps": summary["fps"], "latency_ms": summary["latency_ms"]}
    (args.out / f"soak-{args.mode}.json").write_text(json.dumps({"report": report, "samples": samples}))
    draw(samples, args.out / f"soak-{args.mode}.png")
    print(json.dumps(report, indent=2))
    balanced = summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"] == args.frames
    return 0 if report["ok"] and balanced else 1


def soak(package: Path, frames: int, out: Path, options: list[str]) -> tuple[list[dict[str, int]], dict]:
    """Feed the frames and return the samples from /proc and the summary of the run."""
    lines = out / "results.jsonl"
    command = [sys.executable, "-m", "edge_runtime", "run", str(package), "--source", "-"]
    command += ["--raw-size", f"{HEIGHT_PX}x{WIDTH_PX}", "--json", str(lines), "--status", str(out / "status.json")]
    pictures = np.random.default_rng(0).integers(0, 256, (16, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    samples = []
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        started = time.monotonic()
        for number in range(frames):
            child.stdin.write(pictures[number % len(pictures)].data)
            if number % SAMPLE_FRAMES == SAMPLE_FRAMES - 1:
                samples.append({"frame": number + 1, **process_facts(child.pid)})
                if number % 5000 == 4999:
                    rate = (number + 1) / (time.monotonic() - started)
                    print(f"{number + 1} frames, {rate:.0f} per second, {samples[-1]}", file=sys.stderr)
        child.stdin.close()
        if child.wait() != 0:
            raise SystemExit(f"the command ended with {child.returncode}")
    with lines.open("rb") as file:
        file.seek(-4096, os.SEEK_END)
        summary = json.loads(file.read().splitlines()[-1])["summary"]
    lines.unlink()
    return samples, summary


def process_facts(pid: int) -> dict[str, int]:
    """Return resident bytes, open files and threads of a process."""
    root = Path(f"/proc/{pid}")
    pages = int((root / "statm").read_text().split()[1])
    return {
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "open_files": len(list((root / "fd").iterdir())),
        "threads": len(list((root / "task").iterdir())),
    }


def evaluate(samples: list[dict[str, int]]) -> dict:
    """Return the median slope of memory after the warm-up, which ignores single steps, and the ranges of the counts."""
    steady = samples[int(len(samples) * WARM_UP_SHARE) :]
    frames = np.array([s["frame"] for s in steady], float)
    memory = np.array([s["resident_bytes"] for s in steady], float)
    later, earlier = np.triu_indices(len(steady), 1)[::-1]
    slope = float(np.median((memory[later] - memory[earlier]) / (frames[later] - frames[earlier])))
    report = {
        "resident_mb": [round(memory.min() / 1e6, 1), round(memory.max() / 1e6, 1)],
        "bytes_a_frame": round(slope, 3),
        **{key: sorted({s[key] for s in steady}) for key in ("open_files", "threads")},
    }
    ok = slope <= LIMIT_BYTES_A_FRAME and len(report["threads"]) == 1 and np.ptp(report["open_files"]) <= 1
    return {"ok": bool(ok), **report}


def draw(samples: list[dict[str, int]], path: Path) -> None:
    """Draw resident memory over frames."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot([s["frame"] for s in samples], [s["resident_bytes"] / 1e6 for s in samples])
    axes.set(xlabel="frames", ylabel="resident memory, MB", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
