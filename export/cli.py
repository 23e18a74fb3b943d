"""Register the commands ``export`` and ``demo``; heavy packages are imported only when a command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edge_runtime.cli import Commands, quiet_native_logs, require_modules
from edge_runtime.commands.arguments import parse_size
from edge_runtime.errors import UsageError
from edge_runtime.progress import OnProgress
from edge_runtime.storage import printable
from export.config import (
    DEFAULT_OPSET,
    MODEL_SUFFIXES,
    OPSETS,
    ExportConfig,
    Int8Budget,
    Output,
    ParityBudget,
    PixelRange,
)
from export.passes import OPTIONAL_PASSES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edge_runtime.model.package import Manifest

_SPLITS = {"val": "the validation split", "test": "the test split"}
_NEEDED = ("h5py", "jinja2", "keras", "matplotlib", "onnx", "onnx_ir", "rich", "tensorflow", "tf2onnx", "yaml")

_EXPORT_EPILOG = """\
examples:
  edge-unet export runs/first --out models/first
  edge-unet export runs/first --out models/first --calibration pictures/of/the/place --overwrite
  edge-unet export unet.keras --data my-data --out models/mine
  edge-unet export unet.h5 --data my-data --out models/mine --pixels 0-1 --input-size 256x256

MODEL is a Keras model for segmentation that was trained elsewhere and saved by model.save. What it expects of pixels and
what it gives is found out on the images of --data, best images with masks that it was not trained on.

The package is written only if the ONNX model gives the same results as Keras, on real, random and extreme images,
within the parity budget; otherwise nothing is written and the exit code is 5. An INT8 variant is added if it loses no
more accuracy than its budget allows and is faster on this machine; report.html shows all attempts and their results.
"""


def register_export(commands: Commands) -> None:
    """Add ``export`` to the command line."""
    export = commands.add_parser(
        "export",
        help="convert a run folder or a Keras model to a model package, if ONNX gives the same results as Keras",
        epilog=_EXPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(export)
    _add_model_options(export)
    _add_int8_options(export)
    _add_budget_options(export)
    export.set_defaults(handler=_export)


def register_demo(commands: Commands) -> None:
    """Add ``demo`` to the command line."""
    demo = commands.add_parser("demo", help="train, export and run a model on built-in data, in a few minutes")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="new folder for all results (default: demo)"
    )
    demo.add_argument(
        "--max-minutes", type=float, default=4.0, metavar="M", help="longest training in minutes (default: %(default)g)"
    )
    demo.set_defaults(handler=_demo)


def _add_options(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "run",
        type=Path,
        metavar="RUN|MODEL",
        help="run folder that `edge-unet train` wrote, or a Keras model, .keras or .h5",
    )
    export.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="model package folder to write")
    export.add_argument("--overwrite", action="store_true", help="replace an existing package")
    export.add_argument(
        "--opset",
        type=int,
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"ONNX opset, {OPSETS.start} to {OPSETS.stop - 1} (default: %(default)d)",
    )
    export.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="dataset folder: of a run, if it has moved since training; for a Keras model, images with masks",
    )
    export.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PASS",
        help=f"leave out a graph pass (may be repeated): {', '.join(OPTIONAL_PASSES)}",
    )


def _add_model_options(export: argparse.ArgumentParser) -> None:
    group = export.add_argument_group("a Keras model that was trained elsewhere")
    group.add_argument(
        "--pixels",
        choices=get_args(PixelRange),
        help="values that it expects of pixels; imagenet: mean and deviation of ImageNet (default: what gives the best masks)",
    )
    group.add_argument(
        "--bgr",
        action=argparse.BooleanOptionalAction,
        help="it expects blue first, as OpenCV reads images (default: what gives the best masks)",
    )
    group.add_argument(
        "--input-size", type=parse_size, metavar="HxW", help="size of its input in pixels, if it takes any size"
    )
    group.add_argument(
        "--output", choices=get_args(Output), help="what it gives for each pixel (default: what its last layers tell)"
    )


def _add_int8_options(export: argparse.ArgumentParser) -> None:
    group, budget = export.add_argument_group("INT8"), Int8Budget()
    group.add_argument(
        "--int8",
        choices=("auto", "off", "always"),
        default="auto",
        help="add an INT8 variant: auto = if it is accurate enough and faster; always = also if it is not faster, and "
        "fail if it is not accurate enough; off = never (default: %(default)s)",
    )
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="folder of images for calibrating INT8 (default: the validation images)",
    )
    for option, metavar, default, meaning in (
        ("--max-iou-drop", "D", budget.mean_iou_drop, "largest drop of the mean IoU (0-1) from float to INT8"),
        ("--max-class-drop", "D", budget.class_iou_drop, "largest drop of any class's IoU (0-1) from float to INT8"),
        ("--min-speedup", "X", budget.speedup, "smallest ratio of float latency to INT8 latency on this machine"),
    ):
        text = f"{meaning} (default: %(default)g)"
        group.add_argument(option, type=float, default=default, metavar=metavar, help=text)


def _add_budget_options(export: argparse.ArgumentParser) -> None:
    group, budget = export.add_argument_group("parity budget"), ParityBudget()
    for option, metavar, default, meaning in (
        ("--max-diff", "P", budget.max_abs_diff, "largest difference of any probability between Keras and ONNX"),
        (
            "--min-agreement",
            "A",
            budget.class_agreement,
            "smallest share (0-1) of pixels with the same class in Keras and ONNX",
        ),
        (
            "--max-iou-change",
            "D",
            budget.mean_iou_change,
            "largest difference of the mean IoU (0-1) between Keras and ONNX",
        ),
        (
            "--max-layer-diff",
            "R",
            budget.layer_diff,
            "largest difference between Keras and ONNX inside any layer, relative to the layer's largest value",
        ),
    ):
        text = f"{meaning} (default: %(default)g)"
        group.add_argument(option, type=float, default=default, metavar=metavar, help=text)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the attributes of ``ExportConfig`` that a run folder and a Keras model have in common."""
    return {
        "out": args.out,
        "data": args.data,
        "opset": args.opset,
        "overwrite": args.overwrite,
        "budget": ParityBudget(
            max_abs_diff=args.max_diff,
            class_agreement=args.min_agreement,
            mean_iou_change=args.max_iou_change,
            layer_diff=args.max_layer_diff,
        ),
        "int8": args.int8,
        "int8_budget": Int8Budget(
            mean_iou_drop=args.max_iou_drop, class_iou_drop=args.max_class_drop, speedup=args.min_speedup
        ),
        "calibration": args.calibration,
        "without": tuple(args.without),
    }


def _export(args: argparse.Namespace) -> int:
    require_modules("export", _NEEDED)
    settings, of_model = _settings(args), _of_model(args)
    config = ExportConfig(run=args.run, **settings)  # refuses settings before anything is loaded
    from rich.console import Console
    from rich.progress import Progress

    with quiet_native_logs():
        import tensorflow

        from export.own_model.export import export_model
        from export.package import export_package

        tensorflow.config.list_physical_devices()  # here, because TensorFlow logs a complaint where it finds no GPU

    with Progress(console=Console(stderr=True), transient=True) as progress:
        if of_model is None:
            manifest = export_package(config, _shown_on(progress))
        else:
            manifest = export_model(
                args.run, **of_model, **settings, on_progress=_shown_on(progress), note=progress.console.print
            )
    _print_summary(manifest, printable(args.out))
    return 0


def _of_model(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the options for a Keras model that was trained elsewhere; None for a run folder."""
    options = {"pixels": args.pixels, "bgr": args.bgr, "input_size": args.input_size, "output": args.output}
    if args.run.suffix.lower() in MODEL_SUFFIXES and not args.run.is_dir():
        if args.data is None:
            raise UsageError(
                f"export {printable(args.run)} — without --data — expected a dataset folder with images and masks, on which "
                "Keras and the package are compared"
            )
        return options
    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None:
        raise UsageError(
            f"--{given.replace('_', '-')} — is for a Keras model that was trained elsewhere — {printable(args.run)} is no "
            f"{' or '.join(MODEL_SUFFIXES)} file — leave it out"
        )
    return None


def _shown_on(progress: Progress) -> OnProgress:
    """Return a callback that shows each step as its own progress bar."""
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            for task in tasks.values():  # earlier steps are finished, also if they did not count their parts
                progress.update(task, completed=1, total=1)
            tasks[stage] = progress.add_task(stage)
        progress.update(tasks[stage], completed=done, total=total)

    return show


def _print_summary(manifest: Manifest, name: str) -> None:
    parity, keras, fp32 = manifest.parity, manifest.metrics["keras"], manifest.metrics["fp32"]
    print(
        f"parity with Keras: probabilities differ by at most {parity['max_abs_diff']:.1e}, "
        f"{parity['class_agreement']:.4%} of pixels have the same class"
    )
    split = _SPLITS.get(manifest.metrics["split"], "the images")
    print(f"mean IoU on {split}: Keras {keras['mean_iou']:.4f}, package {fp32['mean_iou']:.4f}")
    print(manifest.quantization["reason"] + ("" if manifest.quantization["shipped"] else ": not in the package"))
    models = ", ".join(f"{variant.file} ({variant.bytes / 1e6:.1f} MB)" for variant in manifest.variants.values())
    print(f"{name}: {models}, model.app.onnx, manifest.json, golden/, report.html")
    print(f"next: edge-unet run {name} --source 0 --show, or open {name}/report.html")


def _demo(args: argparse.Namespace) -> int:
    require_modules("demo", _NEEDED)
    from export.demo import run_demo

    print(run_demo(args.out, max_minutes=args.max_minutes))
    return 0
