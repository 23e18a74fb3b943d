"""``edge-unet eval``: measure a model package on a labelled dataset."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.tolerance import TOLERATED, add_switches, values_of
from edge_runtime.models import located
from edge_runtime.progress import silent

if TYPE_CHECKING:
    from edge_runtime.dataset.evaluate import Evaluation

_DESCRIPTION = """\
Measure a model package on images with masks, through the same runtime as on the device: mean IoU, IoU and Dice per
class, pixel accuracy and boundary F, from one confusion matrix at the images' own sizes. Masks are read as training
read them; dataset.yaml is not read again, but other classes in it are named. Masks in other encodings are read by the
ids and colours of the classes; black and white masks of two classes always have the second in white. --ignore-color names other colours whose pixels are not counted. In a dataset without test and val, the images that the
model was trained on are left out. Without --variant and --threads, the configuration that `edge-unet tune` chose for
this device is measured, as `edge-unet run` would run it.
"""
_EPILOG = """\
example:
  edge-unet eval models/first my-data --split val --json
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "eval",
        help="measure a model package on a labelled dataset",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", metavar="PACKAGE", type=located, help="model package, or a bare .onnx file")
    parser.add_argument("data", metavar="DATA", type=Path, help="dataset folder: [train|val|test]/images and masks")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        help="split to measure (default: test if there is one, else val, else all that the model was not trained on)",
    )
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="variant of the model, such as int8 (default: from the device profile, else the fastest)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=0,
        help="threads per inference (default: from the device profile, else all usable cores)",
    )
    parser.add_argument(
        "--ignore-color",
        metavar="R,G,B",
        type=_color,
        action="append",
        default=[],
        help="RGB colour of colour masks whose pixels are not counted; may be repeated",
    )
    add_switches(parser.add_argument_group("tolerate"), TOLERATED)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate the package and print the metrics."""
    from edge_runtime.dataset.stated import notices
    from edge_runtime.model.device_profile import notice
    from edge_runtime.model.session import SessionOptions
    from edge_runtime.segment.evaluation import evaluate_dataset
    from edge_runtime.segment.segmenter import Segmenter

    options = SessionOptions(threads=args.threads) if args.threads else None  # None: as the device profile says
    segmenter = Segmenter.load(args.package, variant=args.variant, options=options)
    if segmenter.profile is not None:
        sys.stderr.write(f"{notice(segmenter.profile, args.package)}\n")
    for line in notices(args.data, segmenter.contract):
        sys.stderr.write(f"{line}\n")
    evaluation = evaluate_dataset(
        segmenter,
        args.data,
        args.split,
        ignore_colors=tuple(args.ignore_color),
        **values_of(args, TOLERATED),
        on_progress=_progress if sys.stderr.isatty() else silent,
    )
    for line in _notes(evaluation):
        sys.stderr.write(f"{line}\n")
    if args.json:
        left_out = {why: len(of) for why, of in evaluation.left_out.items()}
        value = {**evaluation.to_dict(), "trained_on": evaluation.trained_on, "left_out": left_out}
        text = json.dumps({**value, "variant": segmenter.variant}, allow_nan=False)
    else:
        text = _table(evaluation, segmenter.variant)
    sys.stdout.write(text + "\n")
    return 0


def _notes(evaluation: Evaluation) -> list[str]:
    """Return a line for each kind of image that was left out, and for images that the model was trained on."""
    from edge_runtime.storage import printable

    counts = {why: len(of) for why, of in evaluation.left_out.items()}
    lines = []
    if "trained_on" in counts:
        lines.append(
            f"{counts['trained_on']} images were trained on and left out: {evaluation.images} held out are measured "
            "(--split all: every image)"
        )
    if evaluation.trained_on:
        lines.append(
            f"{evaluation.trained_on} of {evaluation.images} images were trained on: the figures flatter the model"
        )
    if evaluation.without_mask:
        lines.append(f"{evaluation.without_mask} of {evaluation.images} images have no mask: all background")
    if evaluation.several_pages:
        lines.append(
            f"{evaluation.several_pages} of {evaluation.images} images have several pages or frames: the first one counts"
        )
    if evaluation.white_class is not None:
        lines.append(
            f"masks hold 0 and 255 alone: 255 is read as '{printable(evaluation.white_class)}' and not ignored, as it is in "
            "masks of class ids"
        )
    for why in ("unpaired", "bad"):
        if why in counts:
            more = f" (and {counts[why] - 1} more)" if counts[why] > 1 else ""
            lines.append(f"left out: {evaluation.left_out[why][0]}{more}")
    return lines


def _color(text: str) -> tuple[int, int, int]:
    """Parse "R,G,B", each 0–255."""
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")]
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} — expected red, green, blue from 0 to 255, as 128,64,0")
    return numbers[0], numbers[1], numbers[2]


def _table(evaluation: Evaluation, variant: str) -> str:
    """Return the metrics as a text table: one row per class, then the means."""
    from edge_runtime.storage import printable

    names = [printable(name) for name in evaluation.class_names]
    width = max(14, *(len(name) for name in names))
    columns = zip(names, evaluation.per_class_iou.values(), evaluation.per_class_dice.values(), strict=True)
    rows = [f"{'class':<{width}}  {'IoU':>6}  {'Dice':>6}"]
    rows += [f"{name:<{width}}  {_number(iou)}  {_number(dice)}" for name, iou, dice in columns]
    rows += [
        f"{'mean':<{width}}  {_number(evaluation.mean_iou)}  {_number(evaluation.mean_dice)}",
        "",
        f"{'pixel accuracy':<{width}}  {_number(evaluation.pixel_accuracy)}",
        f"{'boundary F':<{width}}  {_number(evaluation.boundary_f)}",
        f"{'images':<{width}}  {evaluation.images:>6}",
        *([f"{'trained on':<{width}}  {evaluation.trained_on:>6}"] if evaluation.trained_on else []),
        f"{'variant':<{width}}  {variant:>6}",
    ]
    return "\n".join(rows)


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:6.4f}"


def _progress(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{done}/{total} images" + ("\n" if done == total else ""))
    sys.stderr.flush()
