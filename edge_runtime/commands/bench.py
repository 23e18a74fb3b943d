"""``edge-unet bench``: measure the latency of a model package on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edge_runtime.commands.arguments import add_package

if TYPE_CHECKING:
    from edge_runtime.device.bench import Latency

_DESCRIPTION = """\
Measure the latency of every variant of a model package on this machine: of the bare onnxruntime session, of a whole
640x480 frame to a mask of its size, and of each stage. Idle threads do not spin, as in a camera loop. Close other
programs first.
"""
_EPILOG = """\
example:
  edge-unet bench models/first --threads 2 --runs 200
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure the latency of a model package on this machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_package(parser, "model package, or a bare .onnx file")
    parser.add_argument(
        "--threads", metavar="N", type=int, default=0, help="threads per inference (default: all usable cores)"
    )
    parser.add_argument("--runs", metavar="N", type=int, default=50, help="timed runs per variant (default: 50)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Measure the package and print the latencies."""
    from edge_runtime.device.bench import bench

    latency = bench(args.package, threads=args.threads, runs=args.runs)
    text = json.dumps(latency.to_dict(), allow_nan=False) if args.json else _table(latency)
    sys.stdout.write(text + "\n")
    return 0


def _table(latency: Latency) -> str:
    """Return the latencies as a text table, one block of rows per variant."""
    rows = [f"{latency.threads} threads, {latency.runs} runs, 640x480 frame; milliseconds"]
    for name, variant in latency.variants.items():
        rows += ["", f"{name:<22}  {'p50':>8}  {'p95':>8}"]
        lines = {
            "session": variant.session_ms,
            "frame": variant.frame_ms,
            **{f"  {stage.replace('_', ' ')}": times for stage, times in variant.stages_ms.items()},
        }
        rows += [f"{label:<22}  {times.p50:>8.2f}  {times.p95:>8.2f}" for label, times in lines.items()]
        rows.append(f"{'frames per second':<22}  {1000 / variant.frame_ms.p50:>8.1f}")
    return "\n".join(rows)
