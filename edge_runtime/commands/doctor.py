"""``edge-unet doctor``: what is wrong with this machine or this package, why, and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.device.doctor import Report

_DESCRIPTION = """\
Check Python, the three dependencies, cores, memory, clock, heat, display, disk and cameras, and name cause and fix of
what is wrong. With a package, verify its files, see whether its device profile fits, and run its golden frames: this
machine must give the masks that the exporting machine gave.
"""
_EPILOG = """\
example:
  edge-unet doctor models/first

exit codes: 2 the installation is broken, 4 the package is refused, 5 the self-test failed
"""
_MARKS = {"ok": "[ok]  ", "warning": "[warn]", "error": "[FAIL]"}  # plain letters: they fit every terminal's encoding
_ORDER = ("error", "warning", "ok")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine, and a package on it",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", metavar="PACKAGE", type=Path, nargs="?", help="model package to test on this device")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Examine, print the report, and only then fail."""
    from edge_runtime.device.doctor import examine

    report = examine(args.package, Path.cwd())
    text = json.dumps(report.to_dict(), allow_nan=False) if args.json else _text(report)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # before the error's line on stderr
    report.raise_if_bad()
    return 0


def _text(report: Report) -> str:
    """Return the report as text for people: what is wrong first, a line a check, and the fix below it."""
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
