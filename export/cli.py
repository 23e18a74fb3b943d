"""The commands ``export`` and ``demo``. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.cli import Commands, quiet_native_logs, require_modules
from edge_runtime.storage import printable

_NEEDED = ("jinja2", "keras", "matplotlib", "onnx", "onnx_ir", "rich", "tensorflow", "tf2onnx", "yaml")

_EXPORT_EPILOG = """\
example:
  edge-unet export runs/first --out models/first
  edge-unet export runs/first --out models/first --calibration pictures/of/the/place --overwrite

The package is written only if the ONNX model gives what Keras gives, on real, random and extreme images, within the
budget; otherwise nothing is written and the exit code is 5. An INT8 variant is added if it loses no more than its
budget and is faster on this machine; report.html says what was tried and what came of it.
"""


def register(commands: Commands) -> None:
    """Add ``export`` and ``demo`` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    export = commands.add_parser(
        "export",
        help="turn a run folder into a model package, if it is proved the same",
        epilog=_EXPORT_EPILOG,
        formatter_class=raw,
    )
    export.add_argument("run", type=Path, metavar="RUN", help="what `edge-unet train` wrote")
    export.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="the package folder to write")
    export.add_argument("--overwrite", action="store_true", help="exchange an existing package for the new one")
    export.add_argument("--opset", type=int, default=17, metavar="N", help="ONNX opset, 13 to 18 (default: 17)")
    export.add_argument("--data", type=Path, metavar="DIR", help="where the dataset is now, if it has moved")
    export.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PASS",
        help="leave out a graph pass (may be repeated): upsampling, phases, copies, pixel-groups, pixel-groups-1x1",
    )
    int8 = export.add_argument_group("INT8")
    int8.add_argument(
        "--int8",
        choices=("auto", "off", "always"),
        default="auto",
        help="if it wins (default), never, or always, which fails where it loses too much",
    )
    int8.add_argument("--calibration", type=Path, metavar="DIR", help="images to calibrate on (default: of validation)")
    int8.add_argument("--max-iou-drop", type=float, default=0.005, metavar="D", help="of mean IoU (default: 0.005)")
    int8.add_argument("--max-class-drop", type=float, default=0.02, metavar="D", help="of any class (default: 0.02)")
    int8.add_argument("--min-speedup", type=float, default=1.15, metavar="X", help="against float (default: 1.15)")
    budget = export.add_argument_group("parity budget")
    budget.add_argument("--max-diff", type=float, default=1e-4, metavar="P", help="of any probability (default: 1e-4)")
    budget.add_argument("--min-agreement", type=float, default=0.9999, metavar="A", help="of classes (default: 0.9999)")
    budget.add_argument("--max-iou-change", type=float, default=5e-4, metavar="D", help="of mean IoU (default: 0.0005)")
    budget.add_argument(
        "--max-layer-diff", type=float, default=5e-5, metavar="R", help="inside a layer (default: 5e-5)"
    )
    export.set_defaults(handler=_export)

    demo = commands.add_parser("demo", help="the whole chain on built-in data, in a few minutes")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="a new folder (default: demo)")
    demo.add_argument("--max-minutes", type=float, default=4.0, metavar="M", help="for training (default: 4)")
    demo.set_defaults(handler=_demo)


def _export(args: argparse.Namespace) -> int:
    require_modules("export", _NEEDED)
    from export.config import ExportConfig, Int8Budget, ParityBudget

    config = ExportConfig(
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
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with quiet_native_logs():
        import tensorflow

        from export.package import export_package

        tensorflow.config.list_physical_devices()  # looks for GPUs, and complains where there is none

    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in tasks.values():  # what is done is done, also where it did not count its steps
                    progress.update(task, completed=1, total=1)
                tasks[stage] = progress.add_task(stage)
            progress.update(tasks[stage], completed=done, total=total)

        manifest = export_package(config, show)
    parity, keras, fp32 = manifest.parity, manifest.metrics["keras"], manifest.metrics["fp32"]
    print(f"parity: max |Δ probability| {parity['max_abs_diff']:.1e}, same class {parity['class_agreement']:.4%}")
    print(f"mean IoU on validation: Keras {keras['mean_iou']:.4f}, package {fp32['mean_iou']:.4f}")
    print(manifest.quantization["reason"] + ("" if manifest.quantization["shipped"] else ": not in the package"))
    name = printable(args.out)
    models = ", ".join(f"{variant.file} ({variant.bytes / 1e6:.1f} MB)" for variant in manifest.variants.values())
    print(f"{name}: {models}, model.app.onnx, manifest.json, golden/, report.html")
    print(f"next: edge-unet run {name} --source 0 --show, or open {name}/report.html")
    return 0


def _demo(args: argparse.Namespace) -> int:
    require_modules("demo", _NEEDED)
    from export.demo import run_demo

    print(run_demo(args.out, max_minutes=args.max_minutes))
    return 0
