"""``edge-unet run``: segment images, videos, cameras and streams."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.effects import Effect
    from edge_runtime.pipeline import FrameResult, Statistics
    from edge_runtime.segmenter import Segmenter
    from edge_runtime.sinks import Outputs
    from edge_runtime.sinks.records import JsonLines
    from edge_runtime.sources.frame import Source

_DESCRIPTION = """\
Segment every frame of a source. Files lose no frame; of a camera or stream the newest frame is taken, and what there is
no time for is dropped and counted. Ctrl-C and SIGTERM finish the files that are being written.
"""
_EPILOG = """\
examples:
  edge-unet run models/first --source photo.jpg --save out
  edge-unet run models/first --source 'pictures/*.png' --save out --effect mask
  edge-unet run models/first --source talk.mp4 --save out --effect blur
  edge-unet run models/first --source 0 --show --effect replace=beach.jpg
  edge-unet run models/first --source rtsp://user:password@camera/stream --json - | jq .classes

--save DIR writes
  DIR/masks/NAME.png       class ids, one PNG an image or frame
  DIR/overlays/NAME.jpg    images with the effect drawn (PNG for --effect mask)
  DIR/overlay.mp4          the same for videos, cameras and streams

--json prints one line a frame
  {"frame": 0, "source": "a.jpg", "age_ms": 9.1, "latency_ms": 8.2, "classes": {"person": 0.31}, "mask": null}
and last
  {"summary": {"captured": 1, "processed": 1, "dropped": 0, "failed": 0, "reconnects": 0, "fps": 98.0, …}}
"""
_PROGRESS_S = 0.2
# Read by OpenCV when it is loaded. Its logs and FFmpeg's say less than our errors and may hold the password of an
# address; a camera that was unplugged is noticed after this many seconds.
_OPENCV_SETTINGS = {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
    "QT_LOGGING_RULES": "*=false",  # the windows of the wheels complain about fonts that they do not need
}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "run",
        help="segment images, videos, a camera or a stream",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", metavar="PACKAGE", type=Path, help="model package, or a bare .onnx file")
    parser.add_argument(
        "--source", metavar="SRC", required=True, help="image, folder, glob, video, camera index, rtsp or http address"
    )
    parser.add_argument("--save", metavar="DIR", type=Path, help="write masks, and pictures or a video, to this folder")
    parser.add_argument(
        "--effect",
        metavar="EFFECT",
        help="what is drawn: overlay, mask, blur (background), replace=IMAGE (background); default: overlay",
    )
    parser.add_argument("--show", action="store_true", help="show the effect in a window; q or Esc quits")
    parser.add_argument("--json", metavar="FILE|-", help="write JSON Lines to a file, or to standard output for -")
    parser.add_argument("--variant", metavar="NAME", help="variant of the model; default: the fastest in the package")
    parser.add_argument("--threads", metavar="N", type=_positive, help="default: all usable cores")
    parser.add_argument("--max-frames", metavar="N", type=_positive, help="stop after this many frames")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked before the first frame, then run."""
    for name, value in _OPENCV_SETTINGS.items():
        os.environ.setdefault(name, value)
    from edge_runtime.effects import parse_effect
    from edge_runtime.errors import UsageError
    from edge_runtime.segmenter import Segmenter
    from edge_runtime.session import SessionOptions
    from edge_runtime.sinks import prepare_folder
    from edge_runtime.sinks.records import JsonLines
    from edge_runtime.sinks.window import check_display
    from edge_runtime.sources import open_source

    if args.effect is not None and args.save is None and not args.show:
        raise UsageError(f"--effect {args.effect} — is drawn nowhere — add --save DIR or --show")
    effect = parse_effect(args.effect or "overlay")
    source = open_source(args.source)
    if args.show:
        check_display()
    segmenter = Segmenter.load(args.package, variant=args.variant, options=SessionOptions(threads=args.threads or 0))
    if args.save is not None:
        prepare_folder(args.save, source.kind)
    if args.json is None:
        _run(args, source, segmenter, effect, None)
        return 0
    with JsonLines(args.json) as lines:
        _run(args, source, segmenter, effect, lines)
    return 0


def _run(
    args: argparse.Namespace, source: Source, segmenter: Segmenter, effect: Effect, lines: JsonLines | None
) -> None:
    """Run to the end, or to an error or interrupt; files, JSON summary and the line for people are finished in any case."""
    from edge_runtime.pipeline import Statistics, stream
    from edge_runtime.sinks import open_outputs
    from edge_runtime.sinks.records import frame_record

    statistics = Statistics()
    console = _Console(source, statistics, shares=args.save is None and not args.show and lines is None)
    outputs: Outputs | None = None
    try:
        with source:
            exact = args.effect == "mask"
            outputs = open_outputs(source.kind, source.fps, effect, save=args.save, show=args.show, exact=exact)
            with outputs:
                for result in stream(segmenter, source):
                    mask_path = outputs.write(result)
                    if lines is not None:
                        lines.write(frame_record(result, mask_path))
                    statistics.add(result)
                    console.frame(result)
                    if statistics.processed == args.max_frames or not outputs.wants_more:
                        break
    finally:
        summary = statistics.summary(source)
        console.finish(summary, outputs.finished if outputs else [])
        if lines is not None:
            lines.write({"summary": summary})


class _Console:
    """What a person sees: a progress line on a terminal, class shares of images, one line at the end."""

    def __init__(self, source: Source, statistics: Statistics, *, shares: bool) -> None:
        self._source = source
        self._statistics = statistics
        self._progress = sys.stderr.isatty()
        self._shares = shares and source.kind == "images"
        self._nothing_kept = shares and not self._shares
        self._next_at = 0.0

    def frame(self, result: FrameResult) -> None:
        """Report a frame."""
        if self._shares:
            self._clear()
            # Largest first; a class that is not there is not worth reading.
            shares = sorted(result.segmentation.fractions().items(), key=lambda item: -item[1])
            found = ", ".join(f"{name} {share:.1%}" for name, share in shares if share >= 0.0005)
            sys.stdout.write(f"{result.frame.source}: {found}\n")
        elif self._progress and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _PROGRESS_S
            total = f"/{self._source.total}" if self._source.total else ""
            dropped = f"  dropped {self._source.dropped}" if self._source.live else ""
            rate = f"{self._statistics.fps:.1f} fps"
            sys.stderr.write(f"\r\x1b[Kframe {self._statistics.processed}{total}  {rate}{dropped}")
            sys.stderr.flush()

    def finish(self, summary: dict[str, Any], finished: list[str]) -> None:
        """Report the run in one line, and what was written."""
        self._clear()
        if not summary["captured"]:  # the error that follows says it all
            return
        processed, latency = summary["processed"], summary["latency_ms"]
        times = f", latency {latency['p50']:.1f} ms (p95 {latency['p95']:.1f})" if processed else ""
        sys.stderr.write(
            f"{processed} frame{'s' * (processed != 1)}, {summary['fps']:.1f} fps{times},"
            f" {summary['dropped']} dropped, {summary['failed']} failed\n"
        )
        for line in finished:
            sys.stderr.write(f"wrote {line}\n")
        if self._nothing_kept:
            sys.stderr.write("nothing was kept: add --save DIR, --show or --json FILE\n")

    def _clear(self) -> None:
        if self._progress:
            sys.stderr.write("\r\x1b[K")


def _positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} — expected a whole number from 1")
    return int(text)
