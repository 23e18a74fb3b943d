"""Define the options of ``edge-unet run`` and turn their values into a ``RunConfig``."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Literal

from edge_runtime.commands.arguments import file_name, parse_size, positive, seconds, share

if TYPE_CHECKING:
    from edge_runtime.run.config import RunConfig, TileSize

_MODEL: Literal["model"] = "model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    frames = parser.add_argument_group("source")
    frames.add_argument(
        "--source",
        metavar="SRC",
        action="append",
        required=True,
        help="image, folder, glob, video, camera index or device, rtsp or http address, - or a named pipe for JPEGs, or env:NAME for"
        " the value of that environment variable (other users cannot read a password there); may be repeated for"
        " images, folders and globs",
    )
    frames.add_argument(
        "--camera-size",
        metavar="HxW",
        type=parse_size,
        help="frame size to request from the camera in pixels (default: the camera's own)",
    )
    frames.add_argument(
        "--raw-size",
        metavar="HxW",
        type=parse_size,
        help="stdin carries raw BGR frames of this size in pixels (default: JPEGs)",
    )
    frames.add_argument(
        "--live", action="store_true", help="treat stdin as a camera: segment the newest frame, drop older ones"
    )
    frames.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=5.0,
        help="seconds without a frame after which a camera or stream counts as lost (default: 5)",
    )
    frames.add_argument(
        "--max-frames", metavar="N", type=positive, help="stop after N frames (default: at the end of the source)"
    )
    model = parser.add_argument_group("segmentation")
    model.add_argument(
        "--variant",
        metavar="NAME",
        help="variant of the model, such as int8 (default: from the device profile, else the fastest)",
    )
    model.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        help="threads per inference (default: from the device profile, else all usable cores)",
    )
    model.add_argument(
        "--workers", metavar="N", type=positive, help="images segmented at a time, for a folder (default: usable cores)"
    )
    model.add_argument(
        "--tile",
        metavar="HxW",
        type=_tile,
        nargs="?",
        const=_MODEL,
        help="segment large pictures in overlapping tiles of this size in pixels, instead of shrinking them; a tile"
        " should show as much as a training image (default without HxW: the size of the model's input)",
    )
    model.add_argument("--smooth", action="store_true", help="reduce the flicker of a video or camera")
    model.add_argument(
        "--edges",
        choices=("hard", "soft"),
        default="hard",
        help="soft: edges follow those of the picture (default: hard)",
    )
    results = parser.add_argument_group("results")
    results.add_argument(
        "--save", metavar="DIR", type=file_name, help="write masks, and pictures or a video, to this folder"
    )
    results.add_argument(
        "--keep-mb",
        metavar="MB",
        type=positive,
        help="delete the oldest saved files above this many megabytes (default: no limit)",
    )
    results.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that no earlier run has written (default: refuse; results of an earlier run are replaced)",
    )
    results.add_argument("--show", action="store_true", help="show the effect in a window")
    results.add_argument(
        "--effect",
        metavar="EFFECT",
        help="how to draw a mask: overlay (default), mask, blur, cutout, or a new background by replace=IMAGE,"
        " replace=VIDEO or replace=COLOUR",
    )
    results.add_argument(
        "--opacity", metavar="X", type=share, default=0.5, help="opacity of the overlay, 0–1 (default: 0.5)"
    )
    results.add_argument("--legend", action="store_true", help="write the class names on the overlay")
    results.add_argument(
        "--json",
        metavar="FILE|-",
        type=file_name,
        help="write a JSON line per frame and a summary to this file; - for stdout",
    )
    results.add_argument(
        "--shapes", choices=("polygons", "rle"), help="add polygons or COCO RLE masks to the JSON lines"
    )
    results.add_argument(
        "--raw",
        metavar="FILE|-",
        type=file_name,
        help="write pictures as raw BGR bytes to this file, for ffmpeg; - for stdout",
    )
    results.add_argument(
        "--virtual-camera", action="store_true", help="send pictures to a virtual camera (needs the extra 'camera')"
    )
    service = parser.add_argument_group("unattended operation")
    service.add_argument(
        "--service", action="store_true", help="never give up: retry the source for ever, continue on a full disk"
    )
    service.add_argument(
        "--status",
        metavar="FILE|-",
        type=file_name,
        help="keep this file up to date with a JSON status; - for lines on stderr",
    )
    service.add_argument(
        "--status-interval",
        metavar="S",
        type=seconds,
        default=10.0,
        help="seconds between two updates of --status (default: 10)",
    )


def run_config(args: argparse.Namespace) -> RunConfig:
    """Return the configuration of the run that the options describe.

    Raises:
        UsageError: Options contradict each other, or ``env:NAME`` names a variable that is not set.
    """
    from edge_runtime.run import RunConfig
    from edge_runtime.sinks import OutputOptions
    from edge_runtime.sources import Patience, SourceOptions

    patience = Patience(open_s=args.timeout, read_s=args.timeout, give_up_s=max(60.0, 2 * args.timeout))
    return RunConfig(
        package=args.package,
        source=_address(args.source[0]) if len(args.source) == 1 else [_address(source) for source in args.source],
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
        overwrite=args.overwrite,
        status=args.status,
        status_interval_s=args.status_interval,
    )


def _address(source: str) -> str:
    """Return the value of ``--source``, or for ``env:NAME`` the value of that environment variable."""
    from edge_runtime.errors import UsageError

    if not source.startswith("env:"):
        return source
    variable = source.removeprefix("env:")
    address = os.environ.get(variable, "").strip()  # a file of secrets ends with a line break
    if not address:
        raise UsageError(f"--source env:{variable} — the environment variable is not set — export {variable}=…")
    return address


def _tile(text: str) -> TileSize:
    """Parse a tile size; "model" is the value of ``--tile`` without a size."""
    return _MODEL if text == _MODEL else parse_size(text)
