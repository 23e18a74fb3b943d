"""``edge-unet data``: check, preview, generate or import a dataset."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge_runtime.cli import Commands, require_modules
from edge_runtime.errors import EdgeUnetError, InputError, UsageError
from edge_runtime.storage import printable, refuse_stranger
from training.commands import importing
from training.commands.options import NEEDED, add_empty_without_mask, add_tolerance, check_with_progress, tolerance

_PAGE, _SHEET = "edge-unet data check", "edge-unet data preview"
"""What a page and a sheet of ours say of themselves."""


def register(commands: Commands) -> None:
    """Add the commands to the command line."""
    data = commands.add_parser("data", help="check, preview, generate or import a dataset").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    check = data.add_parser(
        "check",
        help="list every problem of a dataset in one pass",
        description="Read every file once and list every problem: missing pairs, sizes that differ, mask encodings,\n"
        "damaged files, duplicates, leaks between splits. The exit code is 3 if a problem is an error.",
        epilog="example:\n  edge-unet data check my-data --json | python -m json.tool",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("data", type=Path, metavar="DIR", help="dataset folder")
    check.add_argument(
        "--all", action="store_true", help="list every file with a problem, not a few per kind of problem"
    )
    check.add_argument("--json", action="store_true", help="print the report as one JSON object, which has every file")
    check.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write a page with pictures of each kind of problem and every file",
    )
    _add_overwrite(check)
    add_tolerance(check.add_argument_group("tolerate (errors become warnings)"))
    check.set_defaults(handler=_check, json_of_failure=_of_refused)
    preview = data.add_parser(
        "preview",
        help="draw a contact sheet of images with their masks",
        description="Draw images of every split and class on one sheet, each beside a copy with its mask over it.",
    )
    preview.add_argument("data", type=Path, metavar="DIR", help="dataset folder")
    preview.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="PNG file to write")
    _add_overwrite(preview)
    add_empty_without_mask(preview)
    preview.set_defaults(handler=_preview)
    synth = data.add_parser(
        "synth",
        help="write a synthetic dataset of coins, leaves and bolts on a workbench",
        description="Write a synthetic dataset of coins, leaves and bolts on a workbench: images and masks in train/, "
        "val/ and test/, and a video with one mask per frame.",
    )
    synth.add_argument("out", type=Path, metavar="DIR", help="dataset folder to write, new or empty")
    synth.add_argument("--seed", type=int, default=0, metavar="S", help="random seed, 0 or more (default: 0)")
    synth.set_defaults(handler=_synth)
    importing.register(data)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a file that this command has not written (default: refuse)"
    )


def _check(args: argparse.Namespace) -> int:
    require_modules("data check", NEEDED)
    from training.data.check import render

    if args.report is not None and args.report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {printable(args.report)} — expected a name that ends in .html")
    if args.report is not None:
        refuse_stranger("--report", args.report, lambda known: _PAGE.encode() in known, overwrite=args.overwrite)
    report = check_with_progress(args.data, tolerance(args))
    if args.report is not None:
        from training.report.problems import write_problems

        write_problems(args.report, report)
    text = json.dumps(report.to_dict(), ensure_ascii=False) if args.json else render(report, everything=args.all)
    sys.stdout.write(text + "\n")
    return 0 if report.ok else InputError.exit_code


def _of_refused(args: argparse.Namespace, error: EdgeUnetError) -> dict[str, Any]:
    """Return the keys of a report, as far as they are known, for a dataset that could not be checked at all."""
    problem = {"severity": "error", "code": "refused", "file": str(args.data), "message": str(error)}
    return {
        "images": 0,
        "splits": {},
        "classes": [],
        "ignore_id": None,
        "mask_encoding": None,
        "channels": None,
        "image_forms": {},
        "image_sizes": None,
        "groups": None,
        "ignored_files": 0,
        "fingerprint": None,
        "without_mask": 0,
        "background_only": [],
        "quarantined": [],
        "notes": [],
        "problem_counts": {"refused": 1},
        "problems": [problem],
    }


def _preview(args: argparse.Namespace) -> int:
    require_modules("data preview", NEEDED)
    from edge_runtime.headers.chunks import png_with_software
    from edge_runtime.image import encode_png
    from edge_runtime.storage import write_bytes
    from training.report.pictures import contact_sheet

    if args.out.suffix.lower() != ".png":
        raise UsageError(f"--out {printable(args.out)} — expected a name that ends in .png")
    refuse_stranger("--out", args.out, lambda known: _SHEET.encode() in known, overwrite=args.overwrite)
    report = check_with_progress(args.data, {"empty_without_mask": args.empty_without_mask})
    write_bytes(args.out, png_with_software(encode_png(contact_sheet(report), printable(args.out)), _SHEET))
    print(printable(args.out))
    return 0


def _synth(args: argparse.Namespace) -> int:
    require_modules("data synth", NEEDED)
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} — expected 0 or more")
    from rich.console import Console
    from rich.progress import Progress

    from training.data.synth import write_synthetic_dataset

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("drawing", total=None)
        write_synthetic_dataset(
            args.out,
            seed=args.seed,
            on_progress=lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )
    print(f"{printable(args.out)}: dataset; {printable(args.out / 'video')}: a video with masks")
    return 0
