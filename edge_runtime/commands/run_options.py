"""The options of ``edge-unet run``: their names, their values, and the run that they ask for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_runtime.commands.arguments import parse_size, positive, seconds, share

if TYPE_CHECKING:
    from edge_runtime.run.config import RunConfig, TileSize

_MODEL: Literal["model"] = "model"


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
    frames.add_argument("--camera-size", metavar="HxW", type=parse_size, help="ask a camera for this size")
    frames.add_argument(
        "--raw-size", metavar="HxW", type=parse_size, help="stdin is raw BGR frames of this size, not JPEG"
    )
    frames.add_argument("--live", action="store_true", help="stdin is a camera: take the newest frame, drop others")
    frames.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=5.0,
        help="silence of a camera that counts as lost (default: 5)",
    )
    frames.add_argument("--max-frames", metavar="N", type=positive, help="stop after this many frames")
    model = parser.add_argument_group("how they are segmented")
    model.add_argument("--variant", metavar="NAME", help="variant of the model; default: the fastest in the package")
    model.add_argument("--threads", metavar="N", type=positive, help="of one inference; default: all usable cores")
    model.add_argument("--workers", metavar="N", type=positive, help="images at a time; default: all usable cores")
    model.add_argument(
        "--tile",
        metavar="HxW",
        type=_tile,
        nargs="?",
        const=_MODEL,
        help="cut large pictures into overlapping tiles rather than shrink them; a tile should show as much as a training"
        " image did (default: as many pixels as the model takes)",
    )
    model.add_argument("--smooth", action="store_true", help="calm the flicker of a video or camera")
    model.add_argument("--edges", choices=("hard", "soft"), default="hard", help="soft: edges that follow the picture")
    results = parser.add_argument_group("what is made of them")
    results.add_argument(
        "--save", metavar="DIR", type=Path, help="write masks, and pictures or a video, to this folder"
    )
    results.add_argument("--keep-mb", metavar="MB", type=positive, help="delete the oldest saved files above this")
    results.add_argument("--show", action="store_true", help="show the effect in a window")
    results.add_argument(
        "--effect",
        metavar="EFFECT",
        help="overlay (default), mask, blur, replace=IMAGE, replace=VIDEO or replace=COLOUR (background), cutout",
    )
    results.add_argument("--opacity", metavar="X", type=share, default=0.5, help="of the overlay, 0–1 (default: 0.5)")
    results.add_argument("--legend", action="store_true", help="names of the classes on the overlay")
    results.add_argument("--json", metavar="FILE|-", help="write JSON Lines to a file, or to standard output for -")
    results.add_argument("--shapes", choices=("polygons", "rle"), help="outlines or COCO masks in the JSON lines")
    results.add_argument("--raw", metavar="FILE|-", help="write pictures as raw BGR bytes, for ffmpeg")
    results.add_argument("--virtual-camera", action="store_true", help="feed a virtual camera (extra 'camera')")
    service = parser.add_argument_group("unattended")
    service.add_argument("--service", action="store_true", help="never give up: retry for ever, survive full disks")
    service.add_argument("--status", metavar="FILE|-", help="keep a JSON status there; - for lines on stderr")
    service.add_argument(
        "--status-interval", metavar="S", type=seconds, default=10.0, help="time between two of them (default: 10)"
    )


def run_config(args: argparse.Namespace) -> RunConfig:
    """Return the run that the options ask for.

    Raises:
        UsageError: Options contradict each other, or ``env:NAME`` names a variable that is not set.
    """
    from edge_runtime.run import RunConfig
    from edge_runtime.sinks import OutputOptions
    from edge_runtime.sources import Patience, SourceOptions

    patience = Patience(open_s=args.timeout, read_s=args.timeout, give_up_s=max(60.0, 2 * args.timeout))
    return RunConfig(
        package=args.package,
        source=_address(args.source),
        source_options=SourceOptions(
            patience=patience, raw_size=args.raw_size, live=args.live, camera_size=args.camera_size
        ),
        max_frames=args.max_frames,
        variant=args.variant,
        threads=args.threads,
        workers=args.workers,
        tile=args.tile,
        smooth=args.smooth,
        edges=args.edges,
        effect=args.effect,
        opacity=args.opacity,
        legend=args.legend,
        output=OutputOptions(
            save=args.save,
            limit_mb=args.keep_mb,
            show=args.show,
            raw=args.raw,
            virtual_camera=args.virtual_camera,
        ),
        json=args.json,
        shapes=args.shapes,
        service=args.service,
        status=args.status,
        status_interval_s=args.status_interval,
    )


def _address(source: str) -> str:
    """Return the source that ``--source`` names, or that the environment variable holds which it names."""
    from edge_runtime.errors import UsageError

    if not source.startswith("env:"):
        return source
    variable = source.removeprefix("env:")
    address = os.environ.get(variable, "")
    if not address:
        raise UsageError(f"--source env:{variable} — the environment variable is not set — export {variable}=…")
    return address


def _tile(text: str) -> TileSize:
    """Parse a size, or "model", which stands for ``--tile`` without one."""
    return _MODEL if text == _MODEL else parse_size(text)
