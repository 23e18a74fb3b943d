"""``edge-unet run``: segment images, videos, cameras and streams."""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.run_options import MODEL_SIZE, add_arguments, check_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.commands.console import Console
    from edge_runtime.effects import Effect
    from edge_runtime.run.runner import Runner
    from edge_runtime.run.service import Supervisor
    from edge_runtime.segment.segmentation import Segmentation
    from edge_runtime.segment.segmenter import Segmenter
    from edge_runtime.segment.stream import FrameResult, Segment
    from edge_runtime.sinks import JsonLines, Outputs, Written
    from edge_runtime.sources import Source

_DESCRIPTION = """\
Segment every frame of a source. Files lose no frame; of a camera or stream the newest frame is taken, and what there is
no time for is dropped and counted. A camera that was lost is looked for again. Ctrl-C and SIGTERM finish the files that
are being written.
"""
_EPILOG = """\
examples:
  edge-unet run models/first --source photo.jpg --save out
  edge-unet run models/first --source 'pictures/*.png' --save out --effect mask
  edge-unet run models/first --source talk.mp4 --save out --effect blur --edges soft --smooth
  edge-unet run models/first --source 0 --show --effect replace=beach.jpg
  edge-unet run models/first --source rtsp://user:password@camera/stream --json - | jq .classes
  rpicam-vid -t 0 -n --codec mjpeg -o - | edge-unet run models/first --source - --live --show
  edge-unet run models/first --source talk.mp4 --raw - | ffmpeg -f rawvideo -pix_fmt bgr24 -s 640x480 -i - out.mp4
  edge-unet run models/first --source env:CAMERA --service --status status.json --json results.jsonl

--save DIR writes
  DIR/masks/NAME.png       class ids, one PNG an image or frame
  DIR/overlays/NAME.jpg    images with the effect drawn (PNG for --effect mask and cutout)
  DIR/overlay.mp4          the same for videos, cameras and streams

--json prints one line a frame
  {"frame": 0, "source": "a.jpg", "age_ms": 9.1, "latency_ms": 8.2, "classes": {"person": 0.31}, "mask": null, …}
and last
  {"summary": {"captured": 1, "processed": 1, "dropped": 0, "failed": 0, "reconnects": 0, "fps": 98.0, …}}

keys in the window: space pauses, e changes the effect, h hides the text, q or Esc quits
"""
_WAIT_S = 0.2
_STOP_S = 1.6
_SEGMENT_S = 600.0
"""A service saves its video in pieces of ten minutes: a power cut costs one of them at most."""
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
    add_arguments(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked before the first frame, then run."""
    for name, value in _OPENCV_SETTINGS.items():
        os.environ.setdefault(name, value)
    import cv2

    from edge_runtime.effects import parse_effect
    from edge_runtime.model.device_profile import profile_path
    from edge_runtime.model.session import SessionOptions, usable_cores
    from edge_runtime.segment.segmenter import Segmenter
    from edge_runtime.sinks import check_display, check_virtual_camera, prepare_folder
    from edge_runtime.storage import printable

    check_options(args)
    names = [args.effect or "overlay", *(("mask", "blur", "cutout") if args.show else ())]
    effects = [(name, parse_effect(name, opacity=args.opacity, legend=args.legend)) for name in dict.fromkeys(names)]
    if args.tile is not None and not args.legend:
        local = ("overlay", "mask")  # they look only at what is near a pixel
        effects = [(name, _in_bands(effect) if name in local else effect) for name, effect in effects]
    source = _open_source(args)
    if args.show:
        check_display()
    if args.virtual_camera:
        check_virtual_camera()
    # The run has threads of its own; OpenCV's would wake up for every small resize, and spin.
    cv2.setNumThreads(1)
    workers = _workers(args, source, usable_cores())
    threads = args.threads or (0 if workers == 1 else max(1, usable_cores() // workers))
    options = SessionOptions(threads=threads) if threads else None  # None: as the device profile says
    segmenter = Segmenter.load(args.package, variant=args.variant, options=options)
    if segmenter.profile is not None:
        profile = printable(profile_path(args.package))
        sys.stderr.write(f"device profile {profile}: {segmenter.profile.describe()}\n")
    if args.save is not None:
        prepare_folder(args.save, source.kind)
    return _run(args, source, segmenter, effects, workers)


def _open_source(args: argparse.Namespace) -> Source:
    """Recognise the source, and refuse options that do not go with it.

    Raises:
        UsageError: One does not, or ``env:NAME`` names a variable that is not set.
        InputError: See ``open_source``.
    """
    from edge_runtime.errors import UsageError
    from edge_runtime.image import MAX_PIXELS
    from edge_runtime.segment.tiled import MAX_TILED_PIXELS
    from edge_runtime.sources import Patience, SourceOptions, open_source

    address = args.source
    if address.startswith("env:"):
        variable = address.removeprefix("env:")
        address = os.environ.get(variable, "")
        if not address:
            raise UsageError(f"--source env:{variable} — the environment variable is not set — export {variable}=…")
    patience = Patience(
        open_s=args.timeout,
        read_s=args.timeout,
        give_up_s=math.inf if args.service else max(60.0, 2 * args.timeout),
        retry_at_start=args.service,
    )
    options = SourceOptions(
        patience=patience,
        camera_size=args.camera_size,
        raw_size=args.raw_size,
        live=args.live,
        max_pixels=MAX_PIXELS if args.tile is None else MAX_TILED_PIXELS,
    )
    source = open_source(address, options)
    if args.service and not source.live:
        raise UsageError("--service — is for cameras and streams, which come back — leave it out for files")
    if args.smooth and source.kind == "images":
        raise UsageError("--smooth — averages over the frames of a video or camera — leave it out for images")
    if args.workers is not None and source.kind != "images":
        raise UsageError(
            "--workers — are for a folder of images; frames of a video depend on their order — leave it out"
        )
    return source


def _workers(args: argparse.Namespace, source: Source, cores: int) -> int:
    """Return how many images are worked on at a time; one where a person looks at each, or where each is huge."""
    if source.kind != "images" or args.show:
        return 1
    return args.workers or (1 if args.tile is not None else min(cores, source.total or 1))


def _segmenters(
    args: argparse.Namespace, segmenter: Segmenter, console: Console, stopping: threading.Event
) -> Callable[[], Segment]:
    """Return what makes the segmenter of a thread."""
    from edge_runtime.run.runner import Stopped
    from edge_runtime.segment.refined import RefinedSegmenter
    from edge_runtime.segment.tiled import TiledSegmenter

    def on_progress(_what: str, done: int, total: int) -> None:
        if stopping.is_set():
            raise Stopped
        console.tile(done, total)

    if args.tile is not None:
        tile_size = None if args.tile is MODEL_SIZE else args.tile
        return lambda: TiledSegmenter(segmenter, tile_size=tile_size, on_progress=on_progress)
    if args.smooth or args.edges == "soft":
        return lambda: RefinedSegmenter(segmenter, smooth=args.smooth, soft_edges=args.edges == "soft")
    return lambda: segmenter


def _in_bands(effect: Effect) -> Effect:
    """Return an effect that draws pictures above the usual limit in place: there is no memory for a second one."""
    from edge_runtime.image import MAX_PIXELS
    from edge_runtime.segment.tiled import draw_in_bands

    def draw(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        if segmentation.mask.size <= MAX_PIXELS:
            return effect(image_bgr, segmentation)
        return draw_in_bands(effect, image_bgr, segmentation)

    return draw


def _run(
    args: argparse.Namespace,
    source: Source,
    segmenter: Segmenter,
    effects: list[tuple[str, Effect]],
    workers: int,
) -> int:
    """Run to the end, or to an error or signal; files, JSON summary and the line for people are finished in any case."""
    from edge_runtime.commands.console import Console
    from edge_runtime.errors import EdgeUnetError
    from edge_runtime.run.runner import Runner
    from edge_runtime.run.service import WEDGED_S, Notifier, Supervisor
    from edge_runtime.sinks import JsonLines, frame_record, open_outputs

    stopping = threading.Event()
    lines = JsonLines(args.json, stopping) if args.json is not None else None
    kept = args.save or args.show or lines or args.raw or args.virtual_camera
    console = Console(source, shares=not kept, quiet=args.service)

    def outputs(opened: Source) -> Outputs:
        return open_outputs(
            opened.kind,
            opened.fps,
            effects,
            save=args.save,
            show=args.show,
            exact=args.effect == "mask",
            segment_s=_SEGMENT_S if args.service else None,
            limit_mb=args.keep_mb,
            raw=args.raw,
            virtual_camera=args.virtual_camera,
            stop=stopping,
        )

    def report(result: FrameResult, written: Written) -> None:
        if lines is not None:
            lines.write(frame_record(result, written.mask_path, args.shapes))
        console.frame(result)

    runner = Runner(
        source,
        _segmenters(args, segmenter, console, stopping),
        outputs,
        report,
        stopping=stopping,
        workers=workers,
        max_frames=args.max_frames,
        keep_going=args.service,
    )
    supervisor = None
    if args.service or args.status is not None:
        supervisor = Supervisor(
            runner,
            model={"model": segmenter.contract.name, "variant": segmenter.variant},
            notifier=Notifier(os.environ),
            status=args.status,
            interval_s=args.status_interval,
            # Elsewhere a person may have paused the window, or a picture have thousands of tiles.
            wedged_s=WEDGED_S if args.service else math.inf,
        )
    with console.attached(), lines or nullcontext():
        try:
            _watch(runner, console, supervisor)
        except BaseException:
            try:
                _end(runner, console, supervisor, lines)
            except EdgeUnetError as error:  # what interrupted the run decides the exit code
                console.line(f"edge-unet: {error}")
            raise
        _end(runner, console, supervisor, lines)
    return 0


def _watch(runner: Runner, console: Console, supervisor: Supervisor | None) -> None:
    """Start the run and look after it until it ends: the window, the progress line, the watchdog."""
    runner.start()
    if supervisor is not None:
        supervisor.start()
    # Each look takes a tenth of a millisecond out of cold caches: a quiet run is looked at once a second.
    wait_s = min([_WAIT_S if console.draws else 1.0, supervisor.period_s if supervisor is not None else 1.0])
    window = None
    while not runner.wait(0.0 if window is not None else wait_s):
        window = runner.outputs.window if runner.outputs is not None else None
        if window is not None:
            window.pump(_WAIT_S)
        console.progress(runner.statistics)
        if supervisor is not None:
            supervisor.tick()


def _end(runner: Runner, console: Console, supervisor: Supervisor | None, lines: JsonLines | None) -> None:
    """Stop the run where it has not ended, finish its files, and report.

    Raises:
        EdgeUnetError: What ended the run.
    """
    runner.stop()
    ended = runner.wait(_STOP_S)
    finished: list[str] = []
    try:
        if ended:
            finished = runner.close()
        else:
            console.line("edge-unet: the frame in hand does not come to an end — left behind, files are not finished")
    finally:
        summary = runner.statistics.summary(runner.source)
        console.finish(summary, finished or (runner.outputs.finished if runner.outputs else []))
        if supervisor is not None:
            supervisor.stop()
        if lines is not None:
            lines.write({"summary": summary})
