"""The workstation's commands: ``data check``, ``data preview``, ``data synth`` and ``train``.

Nothing heavy is imported before a command runs, and TensorFlow not before the dataset has been found good.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge_runtime.cli import Commands, Terminated, quiet_native_logs, require_modules
from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.config import PRESETS, TrainConfig

_NEEDED = ("keras", "rich", "tensorboard", "tensorflow", "yaml")

_TRAIN_EPILOG = """\
examples:
  edge-unet train my-data --out runs/first
  edge-unet train my-data --out runs/street --input-size 224x224 --max-minutes 20
  edge-unet train my-data --out runs/first --resume

DATA holds images/ and masks/, or train/images, train/masks (val, test); images and masks pair by name.
Masks are PNGs of class ids (0, 1, 2 …), of 0 and 255, or palette PNGs; dataset.yaml may name the classes.
"""


def register(commands: Commands) -> None:
    """Add ``data`` and ``train`` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    data = commands.add_parser("data", help="check, look at or make a dataset").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    check = data.add_parser("check", help="list everything that is wrong with a dataset, in one pass")
    check.add_argument("data", type=Path, metavar="DIR")
    check.add_argument("--json", action="store_true", help="one JSON object on stdout")
    check.set_defaults(handler=_check)
    preview = data.add_parser("preview", help="draw a contact sheet of images with their masks")
    preview.add_argument("data", type=Path, metavar="DIR")
    preview.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    preview.set_defaults(handler=_preview)
    synth = data.add_parser("synth", help="write the built-in dataset of small parts on a workbench, with a video")
    synth.add_argument("out", type=Path, metavar="DIR")
    synth.add_argument("--seed", type=int, default=0)
    synth.set_defaults(handler=_synth)

    train = commands.add_parser(
        "train", help="fit a U-Net on a folder of images and masks", epilog=_TRAIN_EPILOG, formatter_class=raw
    )
    train.add_argument("data", type=Path, metavar="DATA")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder to write")
    train.add_argument("--preset", default="edge", metavar="|".join(PRESETS), help="network and recipe (default: edge)")
    train.add_argument("--input-size", type=input_size, metavar="HxW", help="of the model, e.g. 256x256")
    train.add_argument("--epochs", type=int, metavar="N", help="at most so many")
    train.add_argument("--max-minutes", type=float, metavar="M", help="fit the schedule into this time")
    train.add_argument("--batch-size", type=int, metavar="B")
    train.add_argument("--learning-rate", type=float, metavar="R")
    train.add_argument(
        "--patience", type=int, metavar="N", help="stop after N epochs without a better mean IoU; 0: never"
    )
    train.add_argument("--augment", action=argparse.BooleanOptionalAction, help="random flip, scale, crop and light")
    train.add_argument("--seed", type=int, metavar="S", help="of weights, split, order and augmentation (default: 0)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN")
    train.set_defaults(handler=_train)


def input_size(text: str) -> tuple[int, int]:
    """Read "HxW" as (height, width)."""
    height, separator, width = text.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' — expected HEIGHTxWIDTH, as in 224x320")
    return int(height), int(width)


def _check(args: argparse.Namespace) -> int:
    require_modules("data check", _NEEDED)
    from edge_runtime.errors import InputError
    from training.check import check_dataset

    report = check_dataset(args.data)
    if args.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
        return 0 if report.ok else InputError.exit_code
    result = report.to_dict()
    splits = ", ".join(f"{split} {count}" for split, count in result["splits"].items())
    print(f"{printable(args.data)}: {result['images']} pairs ({splits}), masks: {report.encoding}")
    print(f"{'id':>4}  {'class':<20} {'images':>7} {'pixels':>8}")
    for c in result["classes"]:
        print(f"{c['id']:>4}  {c['name']:<20} {c['images']:>7} {c['pixel_share']:>8.2%}")
    for problem in report.problems:
        print(f"{problem.severity} [{problem.code}] {problem.message}")
    errors = sum(problem.severity == "error" for problem in report.problems)
    print(f"{errors} errors, {len(report.problems) - errors} warnings")
    return 0 if report.ok else InputError.exit_code


def _preview(args: argparse.Namespace) -> int:
    require_modules("data preview", _NEEDED)
    from edge_runtime.image import encode_png
    from edge_runtime.storage import write_bytes
    from training.check import check_dataset
    from training.pictures import contact_sheet

    if args.out.suffix.lower() != ".png":
        raise UsageError(f"--out {printable(args.out)} — expected a name that ends in .png")
    report = check_dataset(args.data)
    write_bytes(args.out, encode_png(contact_sheet(report), printable(args.out)))
    print(printable(args.out))
    return 0


def _synth(args: argparse.Namespace) -> int:
    require_modules("data synth", _NEEDED)
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} — expected 0 or more")
    from rich.console import Console
    from rich.progress import Progress

    from training.synth import TOTAL_IMAGES, write_synthetic_dataset

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("drawing", total=TOTAL_IMAGES)
        write_synthetic_dataset(args.out, seed=args.seed, on_image=lambda: progress.advance(task))
    print(f"{printable(args.out)}: dataset; {printable(args.out / 'video')}: a video with masks")
    return 0


def _train(args: argparse.Namespace) -> int:
    require_modules("train", _NEEDED)
    from training.check import check_dataset
    from training.run_folder import open_run

    config = TrainConfig.from_preset(
        args.preset,
        input_size=args.input_size,
        epochs=args.epochs,
        max_minutes=args.max_minutes,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        patience=args.patience,
        augment=args.augment,
        seed=args.seed,
    )
    with open_run(args.out, resume=args.resume) as run:
        report = check_dataset(args.data)
        report.require_ok()
        for problem in report.problems:
            print(f"warning: {problem.message}", file=sys.stderr)
        with quiet_native_logs():
            import tensorflow

            from training.fit import fit
            from training.progress import ProgressBar

            tensorflow.config.list_physical_devices()  # looks for GPUs, and complains where there is none

        try:
            with ProgressBar(config.epochs) as progress:
                result = fit(config, report, run, progress)
        except (KeyboardInterrupt, Terminated):
            print("stopped — the finished epochs are kept — go on with the same command and --resume", file=sys.stderr)
            raise
    name = printable(args.out)
    print(
        f"best mean IoU {result.mean_iou:.4f}, pixel accuracy {result.pixel_accuracy:.4f} on {result.images} validation images"
    )
    print(f"{name}: run.json, best.keras, last.keras, history.csv, pictures/, tensorboard/")
    print(f"next: edge-unet export {name} --out models/{args.out.name}")
    return 0
