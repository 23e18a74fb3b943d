"""The options of ``edge-unet run``: their names, their values, and which contradict each other."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

MODEL_SIZE = (0, 0)
"""``--tile`` without a size: that of the model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    frames = parser.add_argument_group("where frames come from")
    frames.add_argument(
        "--source",
        metavar="SRC",
        required=True,
        help="image, folder, glob, video, camera index or device, rtsp or http address, - for stdin, env:NAME for what"
        " that environment variable holds (other users cannot read a password there)",
    )
    frames.add_argument("--camera-size", metavar="HxW", type=_size, help="ask a camera for this size")
    frames.add_argument("--raw-size", metavar="HxW", type=_size, help="stdin is raw BGR frames of this size, not JPEG")
    frames.add_argument("--live", action="store_true", help="stdin is a camera: take the newest frame, drop others")
    frames.add_argument(
        "--timeout",
        metavar="S",
        type=_seconds,
        default=5.0,
        help="silence of a camera that counts as lost (default: 5)",
    )
    frames.add_argument("--max-frames", metavar="N", type=_positive, help="stop after this many frames")
    model = parser.add_argument_group("how they are segmented")
    model.add_argument("--variant", metavar="NAME", help="variant of the model; default: the fastest in the package")
    model.add_argument("--threads", metavar="N", type=_positive, help="of one inference; default: all usable cores")
    model.add_argument("--workers", metavar="N", type=_positive, help="images at a time; default: all usable cores")
    model.add_argument(
        "--tile",
        metavar="HxW",
        type=_size,
        nargs="?",
        const=(0, 0),
        help="cut large pictures into overlapping tiles rather than shrink them; a tile should show as much as a training"
        " image did (default: as many pixels as the model takes)",
    )
    model.add_argument("--smooth", action="store_true", help="calm the flicker of a video or camera")
    model.add_argument("--edges", choices=("hard", "soft"), default="hard", help="soft: edges that follow the picture")
    results = parser.add_argument_group("what is made of them")
    results.add_argument(
        "--save", metavar="DIR", type=Path, help="write masks, and pictures or a video, to this folder"
    )
    results.add_argument("--keep-mb", metavar="MB", type=_positive, help="delete the oldest saved files above this")
    results.add_argument("--show", action="store_true", help="show the effect in a window")
    results.add_argument(
        "--effect",
        metavar="EFFECT",
        help="overlay (default), mask, blur, replace=IMAGE, replace=VIDEO or replace=COLOUR (background), cutout",
    )
    results.add_argument("--opacity", metavar="X", type=_share, default=0.5, help="of the overlay, 0–1 (default: 0.5)")
    results.add_argument("--legend", action="store_true", help="names of the classes on the overlay")
    results.add_argument("--json", metavar="FILE|-", help="write JSON Lines to a file, or to standard output for -")
    results.add_argument("--shapes", choices=("polygons", "rle"), help="outlines or COCO masks in the JSON lines")
    results.add_argument("--raw", metavar="FILE|-", help="write pictures as raw BGR bytes, for ffmpeg")
    results.add_argument("--virtual-camera", action="store_true", help="feed a virtual camera (extra 'camera')")
    service = parser.add_argument_group("unattended")
    service.add_argument("--service", action="store_true", help="never give up: retry for ever, survive full disks")
    service.add_argument("--status", metavar="FILE|-", help="keep a JSON status there; - for lines on stderr")
    service.add_argument(
        "--status-interval", metavar="S", type=_seconds, default=10.0, help="time between two of them (default: 10)"
    )


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: Two of them do.
    """
    from edge_runtime.errors import UsageError

    drawn = args.save is not None or args.show or args.raw is not None or args.virtual_camera
    whole = args.smooth or args.edges == "soft"
    refused = {
        f"--effect {args.effect} — is drawn nowhere — add --save DIR or --show": args.effect is not None and not drawn,
        "--shapes — go into the JSON lines — add --json FILE": args.shapes is not None and args.json is None,
        "--keep-mb — limits what --save writes — add --save DIR": args.keep_mb is not None and args.save is None,
        "--service and --show — a service has no screen — leave one of them out": args.service and args.show,
        "--json - and --raw - — both want standard output — name a file for one of them": args.json == args.raw == "-",
        "--tile with --smooth or --edges soft — those need the whole picture at once — leave one of them out": (
            args.tile is not None and whole
        ),
    }
    for message, found in refused.items():
        if found:
            raise UsageError(message)


def _positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} — expected a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    """Parse seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} — expected seconds above 0")
    return value


def _share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} — expected a number from 0 to 1")
    return value


def _size(text: str) -> tuple[int, int]:
    """Parse a size, HxW, into (height, width)."""
    height, _, width = text.lower().partition("x")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in (height, width)):
        raise argparse.ArgumentTypeError(f"{text!r} — expected a height and a width, such as 480x640")
    return int(height), int(width)
