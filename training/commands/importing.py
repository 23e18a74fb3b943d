"""``edge-unet data import``: convert a dataset of another format. Heavy imports wait until the command runs."""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.cli import Commands, require_modules
from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.importers import AUTO, IMPORTERS, ImportProblemsError, import_dataset

LISTED = 20
"""Maximum number of lines that are printed of a list."""
_EPILOG = """\
example:
  edge-unet data import {kind} downloads/{kind} my-data
  edge-unet data check my-data

SRC:
{layout}
{rules}
Shapes that cover no pixel, or lie mostly outside their image, are counted; most of them so is an error. A polygon
thinner than a pixel is drawn as a line. Objects of a class that --classes leaves out become background where they are
on top.
Images are copied byte for byte. If an image is rotated by its EXIF tag and its mask was drawn on the pixels before
rotation, the mask is rotated, too. DST must be new or empty. It is written completely or not at all.
"""


def register(data: Commands) -> None:
    """Add ``import`` to the commands of ``edge-unet data``."""
    raw = argparse.RawDescriptionHelpFormatter
    every = {"auto": AUTO, **IMPORTERS}
    lines = [f"{kind}:\n{_indented(entry.layout)}" for kind, entry in IMPORTERS.items()]
    examples = "\n".join(f"  edge-unet data import {kind} downloads/{kind} my-data" for kind in every)
    parser = data.add_parser(
        "import",
        help="convert COCO, LabelMe, VOC, CVAT or another format to a dataset folder",
        description="Convert a dataset of another format to a dataset folder.",
        epilog=f"examples:\n{examples}\n\nlayout of SRC by format:\n{''.join(lines)}",
        formatter_class=raw,
    )
    formats = parser.add_subparsers(title="formats", metavar="FORMAT", required=True)
    for kind, entry in every.items():
        one = formats.add_parser(
            kind,
            help=entry.title,
            description=f"Make a dataset folder from {entry.title}.",
            epilog=_EPILOG.format(kind=kind, layout=_indented(entry.layout), rules=entry.rules),
            formatter_class=raw,
        )
        one.add_argument("src", type=Path, metavar="SRC", help="folder to read")
        one.add_argument("dst", type=Path, metavar="DST", help="dataset folder to write, new or empty")
        one.add_argument(
            "--classes",
            metavar="NAME,NAME",
            help="classes of SRC to keep, in this order; objects of the others become background",
        )
        one.add_argument(
            "--merge",
            action="append",
            metavar="NEW=NAME,NAME",
            help="join classes of SRC to one, which may be one of them or new; may be repeated",
        )
        one.add_argument("--skip-bad", action="store_true", help="leave out faulty shapes and files")
        if kind == "via":
            one.add_argument(
                "--attribute",
                metavar="NAME",
                help="attribute whose values are the classes, if regions have several",
            )
        one.set_defaults(handler=_import, kind=kind, attribute=None)


def _import(args: argparse.Namespace) -> int:
    require_modules("data import", ("rich", "yaml"))
    from rich.console import Console
    from rich.progress import Progress

    from training.importers.detection import detect

    kind = args.kind
    if kind == "auto" and args.src.is_dir():
        kind, evidence = detect(args.src, args.dst)
        print(f"took {printable(args.src)} for {kind}, because {evidence}", flush=True)
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("importing", total=None)
            summary = import_dataset(
                kind,
                args.src,
                args.dst,
                classes=_names("--classes", args.classes),
                merge=_merges(args.merge or []),
                skip_bad=args.skip_bad,
                attribute=args.attribute,
                on_progress=lambda what, done, total: progress.update(
                    task, description=what, completed=done, total=total
                ),
            )
    except ImportProblemsError as error:
        if len(error.problems) > 1:
            _list("problem", error.problems)
        if not args.skip_bad:
            print("--skip-bad imports the rest", file=sys.stderr)
        raise
    images = ", ".join(f"{split} {count}" for split, count in summary.images.items())
    print(f"{printable(args.dst)}: {sum(summary.images.values())} images ({images})")
    print(f"classes: {', '.join(printable(c.name) for c in summary.classes)}")
    for note in summary.notes:
        print(f"note: {printable(note)}")
    _list("left out", summary.left_out)
    print(f"next: edge-unet data check {shlex.quote(printable(args.dst))}")
    return 0


def _names(option: str, text: str | None) -> list[str] | None:
    """Return the names of a comma-separated list; a name with a comma is in double quotes."""
    if text is None:
        return None
    names = [name for name in next(csv.reader([text]), []) if name.strip()]
    if not names:
        raise UsageError(f"{option} '{printable(text)}' — no class — expected names with commas between them")
    return names


def _merges(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes to join by the name of the new one."""
    merges: dict[str, list[str]] = {}
    for text in texts:
        new, equals, old = text.partition("=")
        if not equals or not new.strip():
            raise UsageError(f"--merge '{printable(text)}' — expected NEW=NAME,NAME, such as vehicle=car,truck")
        merges.setdefault(new.strip(), []).extend(_names("--merge", old) or [])
    return merges


def _list(what: str, lines: Sequence[str]) -> None:
    for line in lines[:LISTED]:
        print(f"{what}: {printable(line)}", file=sys.stderr)
    if len(lines) > LISTED:
        print(f"{what}: … and {len(lines) - LISTED} more ({len(lines)} in all)", file=sys.stderr)


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
