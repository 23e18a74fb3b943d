"""Execute a run: open everything, supervise it from the caller's thread, and finish its files in any case."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects import Effect, parse_effect
from edge_runtime.errors import EdgeUnetError, StorageError
from edge_runtime.image import MAX_PIXELS
from edge_runtime.model.package import MANIFEST
from edge_runtime.model.session import SessionOptions
from edge_runtime.models import located
from edge_runtime.resources import usable_cores
from edge_runtime.run.config import RunConfig
from edge_runtime.run.observer import Observer
from edge_runtime.run.runner import Runner, Stopped
from edge_runtime.run.service import WEDGED_S, Notifier, Supervisor
from edge_runtime.segment.refined import RefinedSegmenter
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.stream import FrameResult, Segment
from edge_runtime.segment.tiled import MAX_TILED_PIXELS, TiledSegmenter, draw_in_bands
from edge_runtime.sinks import (
    VIDEO_SUFFIX,
    JsonLines,
    OutputOptions,
    Written,
    check_apart,
    check_display,
    check_file,
    check_folder,
    check_virtual_camera,
    frame_record,
    open_outputs,
    prepare_folder,
)
from edge_runtime.sources import Source, SourceOptions, open_source
from edge_runtime.storage import RESULTS_MARKER, in_use, printable

_log = logging.getLogger("edge_runtime")
_WAIT_S = 0.2
_STOP_S = 1.6
_SEGMENT_S = 600.0
"""Seconds per video file of a service: a power cut costs one file at most."""


def execute(
    config: RunConfig,
    *,
    observer: Observer | None = None,
    notifier: Notifier | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Execute a run to its end, or to an error or interrupt; files, JSON lines and status are finished in any case.

    The one exception: if an interrupt arrives while native code hangs, the files of that moment are left unfinished.

    All settings are checked before the first frame. No signal handler, environment variable or setting of OpenCV is
    changed. A window is drawn by the calling thread, which must be the main thread on macOS.

    Args:
        config: Configuration of the run.
        observer: Receives the events of the run.
        notifier: Reports a service to systemd; None: systemd is not notified.
        stop: Ends the run when set, from any thread; the current frame is finished first, a picture in tiles is given up.
            One event may stop several runs.

    Returns:
        The summary of the run, as "summary" of ``edge-unet run --json``: counts, frames per second, and times in
        milliseconds.

    Raises:
        UsageError: Settings contradict each other or the source, or there is no display or virtual camera.
        InputError: A file cannot be read; for one image of many, or a video that ends early, after all other frames.
        ModelError: The package is refused, or fails on a frame.
        StorageError: A result could not be written, or the reader of a named pipe has gone.
        SourceError: The camera or stream is not available.
        WedgedError: Native code hangs, in a service.
        BrokenPipeError: The reader of standard output has closed the pipe.

    Example:
        >>> from edge_runtime import OutputOptions, RunConfig, execute
        >>> output = OutputOptions(save=tmp_path / "results")
        >>> summary = execute(RunConfig(package=package, source=folder, effect="cutout", output=output))
        >>> summary["processed"], summary["failed"]
        (3, 0)
    """
    observer = observer or Observer()
    stopping = threading.Event()  # of this run alone: the caller's may be shared with other runs, and is never set here
    effects = _effects(config)
    source = _source(config)
    workers = _workers(config, source)
    _check_outputs(config, source)
    segmenter = Segmenter.load(config.package, variant=config.variant, options=_session_options(config, workers))
    make_segment = _segmenters(config, segmenter, observer, [stopping] if stop is None else [stopping, stop])
    make_segment()  # refuses a tile size that cannot be used, before anything is opened
    observer.begun(source, segmenter)

    def report(result: FrameResult, written: Written) -> None:
        if lines is not None:
            lines.write(frame_record(result, written.mask_path, config.shapes))
        observer.result(result, written)

    runner = Runner(
        source,
        make_segment,
        lambda opened: open_outputs(
            opened.kind,
            opened.fps,
            effects,
            _output_options(config),
            stopping,
            sound=next(iter(opened.files)) if opened.has_sound else None,
        ),
        report,
        stopping=stopping,
        workers=workers,
        max_frames=config.max_frames,
        keep_going=config.service,
    )
    supervisor = _supervisor(config, runner, segmenter, notifier or Notifier({}))
    with _results(config, source, stopping) as lines:
        try:
            _watch(runner, observer, supervisor, stop)
        except BaseException:
            try:
                _end(runner, observer, supervisor, lines)
            except EdgeUnetError as error:  # log it, because the exception that interrupted the run is raised
                _log.error("%s", error)
            raise
        return _end(runner, observer, supervisor, lines)


@contextmanager
def _results(config: RunConfig, source: Source, stopping: threading.Event) -> Iterator[JsonLines | None]:
    """Claim the folder for results, then open the JSON lines, so that a run that is refused leaves the earlier ones."""
    with ExitStack() as held:
        if config.output.save is not None:
            prepare_folder(Path(config.output.save), source.kind)
            held.enter_context(in_use(Path(config.output.save) / RESULTS_MARKER))
        yield None if config.json is None else held.enter_context(JsonLines(config.json, stopping))


def _watch(runner: Runner, observer: Observer, supervisor: Supervisor | None, stop: threading.Event | None) -> None:
    """Start the run and serve window, observer and watchdog until it ends; pass the caller's stop on to it."""
    runner.start()
    if supervisor is not None:
        supervisor.start()
    # Each check takes 0.1 ms with cold caches, so that a run without display is checked once per second.
    wait_s = min(observer.period_s, supervisor.period_s if supervisor is not None else 1.0)
    if stop is not None:
        wait_s = min(wait_s, _WAIT_S)
    window = None
    while not runner.wait(0.0 if window is not None else wait_s):
        if stop is not None and stop.is_set():
            runner.stop()
        window = runner.outputs.window if runner.outputs is not None else None
        if window is not None:
            window.pump(_WAIT_S)
        observer.tick(runner.statistics)
        if supervisor is not None:
            supervisor.tick()


def _end(runner: Runner, observer: Observer, supervisor: Supervisor | None, lines: JsonLines | None) -> dict[str, Any]:
    """Stop the run if it has not ended, finish its files, report the end, and return the summary.

    Raises:
        EdgeUnetError: The error that ended the run.
        BrokenPipeError: The reader of standard output has closed the pipe.
    """
    try:
        return _finished(runner, observer, supervisor, lines)
    except BrokenPipeError as cause:
        if cause.filename is None:  # standard output, as for `| head`, which has seen enough
            raise
        name = printable(cause.filename)
        raise StorageError(f"cannot write {name} — the reader of {name} has gone — start both again") from cause


def _finished(
    runner: Runner, observer: Observer, supervisor: Supervisor | None, lines: JsonLines | None
) -> dict[str, Any]:
    """Stop the run and finish its files; see ``_end``."""
    ended = runner.wait(0.0)
    if not ended:  # interrupted; outputs then give up what takes long
        runner.stop()
        ended = runner.wait(_STOP_S)
    finished: list[str] = []
    try:
        if ended:
            finished = runner.close()
        else:
            _log.warning("the frame in hand does not come to an end — left behind, files are not finished")
    finally:
        runner.stop()  # the last lines do not wait for a reader that has stalled
        summary = runner.statistics.summary(runner.source)
        with ExitStack() as stack:  # summary and last status are written even if the observer raises
            if lines is not None and runner.outputs is not None:  # else the source was never open, and nothing begins
                stack.callback(lines.write, {"summary": summary})
            if supervisor is not None:
                stack.callback(supervisor.stop)
            observer.ended(summary, finished or (runner.outputs.finished if runner.outputs else []))
    return summary


def _source(config: RunConfig) -> Source:
    """Return the source, after checking that the display or virtual camera of the run is available."""
    source = open_source(config.source, _source_options(config))
    config.check_kind(source.kind)
    if config.output.show:
        check_display()
    if config.output.virtual_camera:
        check_virtual_camera()
    return source


def _check_outputs(config: RunConfig, source: Source) -> None:
    """Refuse outputs that would replace what is read, or what no run of ours has written."""
    _, _, background = (config.effect or "").partition("=")
    package = located(config.package)
    read = [*source.files, package, *([Path(background)] if background else [])]
    with suppress(OSError):  # loading it says what is wrong
        if (package / MANIFEST).is_file():  # not any folder, which may be a whole disk
            read += [path for path in package.rglob("*") if path.is_file()]  # a link may lead out of the package
    if config.source == "-":
        read.append(Path("/dev/stdin"))
    save = config.output.save
    video = None if save is None or source.kind == "images" else Path(save) / f"overlay{VIDEO_SUFFIX}"
    status = None if config.status == "-" else config.status  # which is stderr
    files = {"--json": config.json, "--raw": config.output.raw, "--status": status}
    check_apart({**files, "--save": video})
    if save is not None:
        limited = config.output.limit_mb is not None
        check_folder(Path(save), read, overwrite=config.overwrite, limited=limited)
    for option, target in files.items():
        check_file(option, target, read, overwrite=config.overwrite)


def _source_options(config: RunConfig) -> SourceOptions:
    """Return the options of the source: a service waits for ever, and tiles allow very large pictures."""
    options = config.source_options
    if config.service:
        options = replace(options, patience=replace(options.patience, give_up_s=math.inf, retry_at_start=True))
    if config.tile is not None and options.max_pixels is None:
        options = replace(options, max_pixels=MAX_TILED_PIXELS)
    return options


def _output_options(config: RunConfig) -> OutputOptions:
    """Return the options of the outputs: a service writes its video in pieces, and mask colours are saved exactly."""
    options = config.output
    if config.service and options.segment_s is None:
        options = replace(options, segment_s=_SEGMENT_S)
    return replace(options, exact=options.exact or config.effect == "mask")


def _workers(config: RunConfig, source: Source) -> int:
    """Return the number of images segmented at the same time: one if they are shown in a window or tiled."""
    if source.kind != "images" or config.output.show:
        return 1
    return config.workers or (1 if config.tile is not None else min(usable_cores(), source.total or 1))


def _session_options(config: RunConfig, workers: int) -> SessionOptions | None:
    """Return the options of the session; None: those of the device profile."""
    threads = config.threads or (0 if workers == 1 else max(1, usable_cores() // workers))
    return SessionOptions(threads=threads) if threads else None


def _segmenters(
    config: RunConfig, segmenter: Segmenter, observer: Observer, stops: Sequence[threading.Event]
) -> Callable[[], Segment]:
    """Return a function that makes the segmenter of a thread."""

    def on_progress(what: str, done: int, total: int) -> None:
        if any(stop.is_set() for stop in stops):
            raise Stopped
        observer.progress(what, done, total)

    soft = config.edges == "soft"
    if config.tile is not None:
        tile_size = None if config.tile == "model" else config.tile
        return lambda: TiledSegmenter(segmenter, tile_size=tile_size, on_progress=on_progress)
    if config.smooth or soft:
        return lambda: RefinedSegmenter(segmenter, smooth=config.smooth, soft_edges=soft)
    return lambda: segmenter


def _effects(config: RunConfig) -> list[tuple[str, Effect]]:
    """Return the effects by name: the selected one, then those to which the window can switch."""
    names = [config.effect or "overlay", *(("mask", "blur", "cutout") if config.output.show else ())]
    effects = {name: parse_effect(name, opacity=config.opacity, legend=config.legend) for name in names}
    if config.tile is not None and not config.legend:
        local = ("overlay", "mask")  # these effects read only the neighbourhood of a pixel
        effects = {name: _in_bands(effect) if name in local else effect for name, effect in effects.items()}
    return list(effects.items())


def _in_bands(effect: Effect) -> Effect:
    """Return an effect that draws very large pictures in place, because a second one might not fit into memory."""

    def draw(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        if segmentation.mask.size <= MAX_PIXELS:
            return effect(image_bgr, segmentation)
        return draw_in_bands(effect, image_bgr, segmentation)

    return draw


def _supervisor(config: RunConfig, runner: Runner, segmenter: Segmenter, notifier: Notifier) -> Supervisor | None:
    """Return the supervisor of a service, or of a run with a status; else None."""
    if not config.service and config.status is None:
        return None
    return Supervisor(
        runner,
        model={"model": segmenter.contract.name, "variant": segmenter.variant},
        notifier=notifier,
        status=config.status,
        interval_s=config.status_interval_s,
        # Without --service, a person may have paused the window, or a picture may have thousands of tiles.
        wedged_s=WEDGED_S if config.service else math.inf,
    )
