"""Register the commands ``export`` and ``demo``; heavy packages are imported only when a command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.cli import Commands, quiet_native_logs, require_modules
from edge_runtime.progress import OnProgress
from edge_runtime.storage import printable
from export.config import DEFAULT_OPSET, OPSETS, ExportConfig, Int8Budget, ParityBudget
from export.passes import OPTIONAL_PASSES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edge_runtime.model.package import Manifest

_NEEDED = ("jinja2", "keras", "matplotlib", "onnx", "onnx_ir", "rich", "tensorflow", "tf2onnx", "yaml")

_EXPORT_EPILOG = """\
example:
  edge-unet export runs/first --out models/first
  edge-unet export runs/first --out models/first --calibration pictures/of/the/place --overwrite

The package is written only if the ONNX model gives the same results as Keras, on real, random and extreme images,
within the parity budget; otherwise nothing is written and the exit code is 5. An INT8 variant is added if it loses no
more accuracy than its budget allows and is faster on this machine; report.html shows all attempts and their results.
"""


def register_export(commands: Commands) -> None:
    """Add ``export`` to the command line."""
    export = commands.add_parser(
        "export",
        help="convert a run folder to a model package, if the ONNX model gives the same results as Keras",
        epilog=_EXPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(export)
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
    export.add_argument("run", type=Path, metavar="RUN", help="run folder that `edge-unet train` wrote")
    export.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="model package folder to write")
    export.add_argument("--overwrite", action="store_true", help="replace an existing package")
    export.add_argument(
        "--opset",
        type=int,
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"ONNX opset, {OPSETS.start} to {OPSETS.stop - 1} (default: %(default)d)",
    )
    export.add_argument("--data", type=Path, metavar="DIR", help="dataset folder, if it has moved since training")
    export.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PASS",
        help=f"leave out a graph pass (may be repeated): {', '.join(OPTIONAL_PASSES)}",
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


def _config(args: argparse.Namespace) -> ExportConfig:
    return ExportConfig(
        run=args.run,
        out=args.out,
        data=args.data,
        opset=args.opset,
        overwrite=args.overwrite,
        budget=ParityBudget(
            max_abs_diff=args.max_diff,
            class_agreement=args.min_agreement,
            mean_iou_change=args.max_iou_change,
            layer_diff=args.max_layer_diff,
        ),
        int8=args.int8,
        int8_budget=Int8Budget(
            mean_iou_drop=args.max_iou_drop, class_iou_drop=args.max_class_drop, speedup=args.min_speedup
        ),
        calibration=args.calibration,
        without=tuple(args.without),
    )


def _export(args: argparse.Namespace) -> int:
    require_modules("export", _NEEDED)
    config = _config(args)
    from rich.console import Console
    from rich.progress import Progress

    with quiet_native_logs():
        import tensorflow

        from export.package import export_package

        tensorflow.config.list_physical_devices()  # here, because TensorFlow logs a complaint where it finds no GPU

    with Progress(console=Console(stderr=True), transient=True) as progress:
        manifest = export_package(config, _shown_on(progress))
    _print_summary(manifest, printable(args.out))
    return 0


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
    print(f"mean IoU on the validation split: Keras {keras['mean_iou']:.4f}, package {fp32['mean_iou']:.4f}")
    print(manifest.quantization["reason"] + ("" if manifest.quantization["shipped"] else ": not in the package"))
    models = ", ".join(f"{variant.file} ({variant.bytes / 1e6:.1f} MB)" for variant in manifest.variants.values())
    print(f"{name}: {models}, model.app.onnx, manifest.json, golden/, report.html")
    print(f"next: edge-unet run {name} --source 0 --show, or open {name}/report.html")


def _demo(args: argparse.Namespace) -> int:
    require_modules("demo", _NEEDED)
    from export.demo import run_demo

    print(run_demo(args.out, max_minutes=args.max_minutes))
    return 0
