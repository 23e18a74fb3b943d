"""``edge-unet doctor``: find faults of this machine or a package, with cause and fix."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.arguments import add_package

if TYPE_CHECKING:
    from edge_runtime.device.doctor import Report

_DESCRIPTION = """\
Check Python, the three dependencies, cores, memory, clock, heat, display, disk and cameras, and name cause and fix of
each fault. Then verify the files of a model package, check whether its device profile fits, and run its golden frames:
this machine must compute the same masks as the exporting machine.
"""
_EPILOG = """\
example:
  edge-unet doctor models/first

exit codes: 2 the installation is broken, 4 the package is refused, 5 the self-test failed
"""
_MARKS = {"ok": "[ok]  ", "warning": "[warn]", "error": "[FAIL]"}  # ASCII, which every terminal can show
_ORDER = ("error", "warning", "ok")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine, and a model package on it",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_package(parser, "model package to test")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks, print the report, then raise if a check failed."""
    from edge_runtime.device.doctor import examine

    report = examine(args.package, Path())
    text = json.dumps(report.to_dict(), allow_nan=False) if args.json else _text(report)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # the report must appear before the error on stderr
    args.json = False  # the report is the one object, whatever it says
    report.raise_if_bad()
    return 0


def _text(report: Report) -> str:
    """Return the report as text: one line per check, errors first, each with its fix below."""
    lines = []
    width = max(len(check.name) for check in report.checks) + 1
    for check in sorted(report.checks, key=lambda c: _ORDER.index(c.status)):
        lines.append(f"{_MARKS[check.status]} {check.name + ':':<{width}} {check.cause}")
        if check.fix is not None:
            lines.append(f"       {'fix:':>{width}} {check.fix}")
    if report.golden is not None:
        golden = report.golden
        shares = ", ".join(f"{name} {share:.4%}" for name, share in golden.variants.items())
        mark = _MARKS["ok" if golden.ok else "error"]
        lines.append(f"{mark} {'golden:':<{width}} {golden.frames} frames, pixels that agree: {shares}")
    lines.append("" if report.ok else "\nnot ok: see the lines marked [FAIL]")
    return "\n".join(lines).rstrip()
