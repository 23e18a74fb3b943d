"""``edge-unet train``: train on a folder of images and masks and write a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, get_args

from edge_runtime.cli import Commands, Terminated, quiet_native_logs, require_modules
from edge_runtime.commands.arguments import parse_size
from edge_runtime.storage import printable
from training.commands.options import NEEDED, add_tolerance, check_with_progress, tolerance
from training.config import GENTLE, Flip, TrainConfig
from training.errors import TrainingStopped
from training.network.shape import EncoderName
from training.presets import PRESETS

if TYPE_CHECKING:
    from training.data.check import DatasetReport
    from training.data.validation import Validated
    from training.loop.run_folder import RunFolder

_EPILOG = """\
examples:
  edge-unet train my-data --out runs/first
  edge-unet train my-data --out runs/street --input-size 224x224 --max-minutes 60
  edge-unet train my-data --out runs/street --group-by '^(.+)_'      keep the frames of a video in one split
  edge-unet train my-data --out runs/first --resume

DATA holds images/ and masks/, or train/, val/ and test/ with images/ and masks/ in each. Image and mask share a name.
Masks are PNG files of class ids (0, 1, 2 …), of 0 and 255, of colours, or with a palette. dataset.yaml may name the
classes. `edge-unet data import` converts other formats. Ctrl-C saves the training state; --resume continues from it.
"""

_SETTINGS = (
    "input_size",
    "crop",
    "epochs",
    "max_minutes",
    "batch_size",
    "accumulate",
    "learning_rate",
    "loss",
    "class_weights",
    "label_smoothing",
    "augment",
    "flip",
    "mix",
    "precision",
    "encoder",
    "encoder_weights",
    "start_from",
    "validation_fraction",
    "group_by",
    "patience",
    "seed",
)
"""Options that go into the configuration unchanged; None leaves the choice to the preset, or to data and memory."""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    train = commands.add_parser(
        "train",
        help="train a U-Net on a folder of images and masks",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("data", type=Path, metavar="DATA", help="dataset folder")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to write")
    train.add_argument("--resume", action="store_true", help="continue from the last checkpoint in RUN")
    train.add_argument(
        "--force-resume", action="store_true", help="like --resume, even if the configuration or the data have changed"
    )
    train.add_argument(
        "--seed", type=int, metavar="S", help="random seed for weights, split, order and augmentation (default: 0)"
    )
    _add_network(train.add_argument_group("network"))
    _add_length(train.add_argument_group("length"))
    _add_recipe(train.add_argument_group("recipe"))
    _add_split(train.add_argument_group("validation"))
    add_tolerance(train.add_argument_group("data"))
    train.set_defaults(handler=run)


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--preset", default="edge", metavar="|".join(PRESETS), help="network and its training settings (default: edge)"
    )
    group.add_argument(
        "--input-size",
        type=parse_size,
        metavar="HxW",
        help="input height and width of the model (default: chosen from the data)",
    )
    group.add_argument(
        "--encoder",
        choices=get_args(EncoderName),
        help="keras.applications backbone to use as encoder (default: the preset's own encoder)",
    )
    group.add_argument(
        "--encoder-weights",
        metavar="imagenet|FILE",
        help="pre-trained weights of --encoder: imagenet (Keras downloads them) or a .weights.h5 file (default: none)",
    )
    group.add_argument(
        "--start-from",
        metavar="mediapipe:FILE",
        help="start from the public weights of MediaPipe's selfie segmentation, a .tflite file of its package, with a "
        f"learning rate of {GENTLE:g} times the preset's (default: random weights; needs --preset selfie)",
    )


def _add_length(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help=f"maximum number of epochs {_by_preset('epochs')}")
    group.add_argument(
        "--max-minutes",
        type=float,
        metavar="M",
        help="time limit in minutes, into which the learning rate schedule is fitted; without --epochs it replaces the "
        "preset's epochs and patience (default: none)",
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help=f"stop after N epochs without a better validation mean IoU; 0 never stops early {_by_preset('patience')}",
    )


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    yes_or_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--crop",
        type=parse_size,
        metavar="HxW",
        help="height and width of the part of the input that a training step sees of each image, at a random place "
        "(default: chosen from the data; the whole input where --input-size is given)",
    )
    group.add_argument(
        "--batch-size", type=int, metavar="B", help="images per step (default: chosen from data and memory)"
    )
    group.add_argument(
        "--accumulate",
        type=int,
        metavar="K",
        help="update the weights every K steps, with the mean of their gradients (default: 1)",
    )
    group.add_argument(
        "--learning-rate", type=float, metavar="R", help=f"peak learning rate {_by_preset('learning_rate')}"
    )
    group.add_argument(
        "--loss",
        metavar="SUM",
        help="weighted sum of cross_entropy, dice, focal, tversky, lovasz, boundary, such as cross_entropy+0.5*lovasz "
        f"{_by_preset('loss')}",
    )
    group.add_argument(
        "--class-weights",
        action=yes_or_no,
        help=f"give rare classes a higher weight in the loss {_by_preset('class_weights')}",
    )
    group.add_argument(
        "--label-smoothing",
        type=float,
        metavar="S",
        help=f"share of each label that is spread over all classes, 0 to below 1 {_by_preset('label_smoothing')}",
    )
    group.add_argument(
        "--augment",
        action=yes_or_no,
        help=f"augment training images by random geometry and light {_by_preset('augment')}",
    )
    group.add_argument(
        "--flip",
        choices=get_args(Flip),
        help="directions in which augmentation flips images; both is left to right and upside down (default: horizontal; "
        "both if 40 or more images with objects are alike above and below)",
    )
    group.add_argument(
        "--mix",
        type=float,
        metavar="SHARE",
        help="share of training images that receive a CutMix patch, 0 to below 1 (default: 0)",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help=f"precision of the arithmetic; auto is bfloat16 if the device has it {_by_preset('precision')}",
    )


def _add_split(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        dest="validation_fraction",
        help=f"share of the training images held out for validation without val/ {_by_preset('validation_fraction')}",
    )
    group.add_argument(
        "--group-by",
        metavar="PATTERN",
        help="regular expression on file names with one group in brackets; images with the same match of the group "
        "stay in one split",
    )
    group.add_argument(
        "--val-groups", metavar="G[,G…]", help="groups of training images to validate on instead of val/"
    )


def _by_preset(setting: str) -> str:
    """Return the default of a setting as text for its help line: the preset's, with that of ``edge`` as an example."""
    value = getattr(PRESETS["edge"], setting)
    text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
    return f"(default: by preset, {text} for edge)"


def run(args: argparse.Namespace) -> int:
    """Check the data, train, and print where the results are."""
    require_modules("train", NEEDED)
    from training.data.check import warnings_in_short
    from training.data.validation import with_validation
    from training.loop.run_folder import open_run
    from training.loop.run_setup import recorded_splits

    config = configuration(args)  # refuses values that cannot work before any file is read
    with open_run(args.out, resume=args.resume or args.force_resume) as folder:
        report = check_with_progress(args.data, tolerance(args))
        report.require_ok()
        for line in warnings_in_short(report):
            print(line, file=sys.stderr)
        return _train(args, config, report, with_validation(config, report, recorded_splits(folder, config)), folder)


def configuration(args: argparse.Namespace) -> TrainConfig:
    """Return the configuration that the options describe."""
    groups = tuple(args.val_groups.split(",")) if args.val_groups else None
    return TrainConfig.from_preset(args.preset, val_groups=groups, **{name: getattr(args, name) for name in _SETTINGS})


def _train(
    args: argparse.Namespace, config: TrainConfig, report: DatasetReport, validated: Validated, folder: RunFolder
) -> int:
    # TensorFlow leaves oneDNN off on processors without AVX-512, where it trains 1.4 times as fast with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with quiet_native_logs():
        import tensorflow

        from training.fit.run import fit  # loads all that needs TensorFlow while its start-up messages are hidden
        from training.monitor.progress_bar import ProgressBar

        tensorflow.config.list_physical_devices()  # logs a warning where there is no GPU

    command, stop = shlex.join(["edge-unet", *sys.argv[1:]]), _StopSignal()
    with stop.watching(), ProgressBar(config.epochs) as progress:
        try:
            result = fit(
                config,
                report,
                validated,
                folder,
                progress,
                command=command,
                should_stop=stop,
                force_resume=args.force_resume,
            )
        except TrainingStopped as stopped:
            saved = " — saved" if folder.begun else ""
            progress.note(f"{stopped}{saved} — go on with the same command and --resume")
            stop.raise_as_signal()
    name = printable(args.out)
    print(
        f"best mean IoU {result.mean_iou:.4f}, pixel accuracy {result.pixel_accuracy:.4f} on {result.images} validation images"
    )
    print(f"{name}: report.html, best.keras, run.json, history.csv, pictures/, tensorboard/")
    print(f"next: edge-unet export {name} --out models/{args.out.name}")
    return 0


class _StopSignal:
    """Stop condition by SIGINT, SIGTERM or SIGHUP: the first stops after the running step, the second at once."""

    def __init__(self) -> None:
        self._number: int | None = None

    def __call__(self) -> bool:
        return self._number is not None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle the signals within the ``with`` block; only the command line does so, never the library."""
        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}

        def note(number: int, _frame: FrameType | None) -> None:
            if self._number is None:
                self._number = number
                print("stopping after this step; once more to stop at once", file=sys.stderr)
            else:
                self._raise(number)

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def raise_as_signal(self) -> NoReturn:
        """Raise the exception that the recorded signal raises without this handler."""
        self._raise(self._number or signal.SIGINT)

    @staticmethod
    def _raise(number: int) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
