"""``edge-unet run``: segment images, videos, cameras and streams."""

from __future__ import annotations

import argparse
import gc
import os

from edge_runtime.commands.arguments import add_package
from edge_runtime.commands.run_options import add_arguments, run_config

_DESCRIPTION = """\
Segment the frames of a source: every frame of a file, the newest frame of a camera or stream. Frames of a camera for
which there is no time are dropped and counted. A lost camera is opened again. Ctrl-C and SIGTERM finish the files that
are being written.
"""
_EPILOG = """\
examples:
  edge-unet run --source 0 --show --effect blur
  edge-unet run --source talk.mp4 --save out --effect replace=beach.jpg
  edge-unet run models/first --source photo.jpg --save out
  edge-unet run models/first --source 'pictures/*.png' --save out --effect mask
  edge-unet run models/first --source talk.mp4 --save out --effect blur --edges soft --smooth
  edge-unet run models/first --source 0 --show --effect replace=beach.jpg
  edge-unet run models/first --source rtsp://user:password@camera/stream --json - | jq .classes
  rpicam-vid -t 0 -n --codec mjpeg -o - | edge-unet run models/first --source - --live --show
  edge-unet run models/first --source talk.mp4 --raw - | ffmpeg -f rawvideo -pix_fmt bgr24 -s 640x480 -i - out.mp4
  edge-unet run models/first --source env:CAMERA --service --status status.json --json results.jsonl

--save DIR writes
  DIR/masks/NAME.png       class ids, one PNG per image or frame
  DIR/overlays/NAME.jpg    images with the effect drawn (PNG for --effect mask and cutout)
  DIR/overlay.mp4          the same for videos, cameras and streams

--json prints one line per frame
  {"frame": 0, "source": "a.jpg", "age_ms": 9.1, "latency_ms": 8.2, "classes": {"person": 0.31}, "mask": null, …}
and a summary at the end
  {"summary": {"captured": 1, "processed": 1, "dropped": 0, "failed": 0, "reconnects": 0, "fps": 98.0, …}}

keys in the window: space pauses, e changes the effect, h hides the text, q or Esc quits
"""
# OpenCV reads these when it is loaded. The log of FFmpeg says less than our errors and may contain the password of an
# address. The timeout is the number of seconds after which an unplugged camera is noticed.
_OPENCV_SETTINGS = {
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
    "QT_LOGGING_RULES": "*=false",  # OpenCV's windows warn about fonts that they do not need
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
    add_package(parser, "model package, or a bare .onnx file")
    add_arguments(parser)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prepare the process and execute the run that the options describe."""
    for name, value in _OPENCV_SETTINGS.items():
        os.environ.setdefault(name, value)
    gc.disable()  # there is no garbage yet, and looking for it takes 10 ms
    import cv2

    from edge_runtime.commands.console import Console
    from edge_runtime.errors import StorageError
    from edge_runtime.run import execute
    from edge_runtime.run.service import Notifier

    gc.enable()
    config = run_config(args)
    # The run has its own threads. OpenCV's would wake up and spin for every small resize.
    cv2.setNumThreads(1)
    console = Console(config)
    with console.attached():
        try:
            execute(config, observer=console, notifier=Notifier(os.environ))
        except BrokenPipeError as cause:
            if not config.service:
                raise  # as for `edge-unet run … | head`, which has seen enough
            raise StorageError("cannot write — the reader of standard output has gone — start both again") from cause
    return 0
