"""``edge-unet tune``: find the best configuration of a package for this machine and save it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from edge_runtime.models import located
from edge_runtime.progress import OnProgress, silent

if TYPE_CHECKING:
    from edge_runtime.device.tune import Tuning

_DESCRIPTION = """\
Measure variants, numbers of threads, spinning and execution providers of a package on this machine. The best
configuration is written to a device profile beside the package (models/first.device.json). It is used from then on,
unless a variant or a number of threads is given. Close other programs first; tuning takes about a minute.

A camera of 15 frames per second is simulated. The figures are the time from a 640x480 frame to its mask, and the CPU
time per frame, including the pauses between frames. Each configuration runs in its own process; they take turns.
"""
_EPILOG = """\
how the configuration is chosen:
  1. A configuration that does not compute the masks of the package's golden frames is excluded.
  2. Of those that meet the goal in 95 of 100 frames, the one with the least CPU time per frame is chosen; if that
     differs by less than 5 %, the faster one.
  3. If none meets the goal, the fastest is chosen.

example:
  edge-unet tune models/first --goal-ms 20
"""
_BUSY = 0.5
"""Load per core above which other programs disturb the measurement."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "tune",
        help="find the best configuration for this machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", metavar="PACKAGE", type=located, help="model package")
    parser.add_argument(
        "--goal-ms",
        metavar="MS",
        type=float,
        default=33.0,
        help="latency goal in milliseconds (default: 33, for 30 frames per second)",
    )
    parser.add_argument(
        "--rounds", metavar="N", type=int, default=3, help="times that each configuration is measured (default: 3)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the figures without writing a device profile")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Measure the configurations, write the device profile and print the figures."""
    from edge_runtime.device.tune import tune
    from edge_runtime.model.device_profile import check_writable, write_profile
    from edge_runtime.model.package import Package

    package = Package.open(args.package)
    if not args.dry_run:
        check_writable(package.root)  # fail before measuring, not after
    _warn_of_load()
    try:
        tuning = tune(package, goal_ms=args.goal_ms, rounds=args.rounds, on_progress=_progress())
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
    path = None if args.dry_run else write_profile(tuning.profile(package), package.root)
    if args.json:
        value = {**tuning.to_dict(), "profile": None if path is None else str(path)}
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        return 0
    sys.stdout.write(_table(tuning) + "\n")
    if path is not None:
        from edge_runtime.storage import printable

        sys.stderr.write(f"wrote {printable(path)}\n")
    return 0


def _warn_of_load() -> None:
    """Warn on stderr if other programs keep the CPU busy, because they distort the figures."""
    if not hasattr(os, "getloadavg"):
        return
    from edge_runtime.resources import usable_cores

    load, cores = os.getloadavg()[0], usable_cores()
    if load > _BUSY * cores:
        sys.stderr.write(f"other programs are running (load {load:.1f} on {cores} cores): the figures say less\n")


def _progress() -> OnProgress:
    """Return a callback that shows the current step on stderr, or ``silent`` if stderr is not a terminal."""
    if not sys.stderr.isatty():
        return silent

    def show(what: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r\x1b[K{done + 1}/{total}  {what}")
        sys.stderr.flush()

    return show


def _table(tuning: Tuning) -> str:
    """Return the figures as a text table, one row per configuration; the chosen one is marked."""
    from edge_runtime.model.device_profile import describe, provider_name
    from edge_runtime.storage import printable

    names = [printable(figures.configuration.variant) for figures in tuning.tried]
    width = max(len("variant"), *map(len, names))
    rows = [f"  {'variant':<{width}}  threads  spinning  {'provider':<9}  {'p50 ms':>8}  {'p95 ms':>8}  {'CPU ms':>8}"]
    for name, figures in zip(names, tuning.tried, strict=True):
        options = figures.configuration.options
        spinning, provider = "yes" if options.spinning else "no", provider_name(options.provider)
        mark = "*" if figures is tuning.chosen else " "
        row = f"{mark} {name:<{width}}  {options.threads:>7}  {spinning:<8}  {provider:<9}"
        if figures.frame_ms is None or figures.cpu_ms is None:
            rows.append(f"{row}  left out: {printable(figures.excluded or '')}")
        else:
            rows.append(f"{row}  {figures.frame_ms.p50:>8.2f}  {figures.frame_ms.p95:>8.2f}  {figures.cpu_ms:>8.2f}")
    chosen = describe(tuning.chosen.configuration.variant, tuning.chosen.configuration.options)
    why = (
        f"least CPU time per frame of those that keep {tuning.goal_ms:g} ms"
        if tuning.goal_met
        else f"no configuration keeps {tuning.goal_ms:g} ms in 95 of 100 frames; this is the fastest"
    )
    return "\n".join([*rows, "", f"* {chosen}: {why}"])
