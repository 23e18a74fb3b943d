"""Everything that a frame's result becomes, together."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects import Effect
from edge_runtime.errors import StorageError, UsageError
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks.files import MaskFiles, PictureFiles, PictureSink
from edge_runtime.sinks.raw import RawFrames
from edge_runtime.sinks.retention import Retention
from edge_runtime.sinks.video import DEFAULT_FPS, VIDEO_SUFFIX, VideoFiles
from edge_runtime.sinks.virtual_camera import VirtualCamera
from edge_runtime.sinks.window import Window
from edge_runtime.sources.frame import Kind

_REST_S = 5.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Where masks and pictures go.

    Attributes:
        save: Folder for masks, and pictures or a video, that ``prepare_folder`` has made; None: nothing is saved.
        limit_mb: Delete the oldest results of ``save`` beyond this size; see ``Retention``.
        exact: Pictures as PNG rather than JPEG.
        segment_s: Begin another video after so many seconds.
        show: Open a window, after ``check_display``.
        raw: Write raw pictures to this file or named pipe, or to standard output for "-".
        virtual_camera: Show the pictures as a virtual camera, after ``check_virtual_camera``.

    Example:
        >>> from edge_runtime import OutputOptions, RunConfig, execute
        >>> output = OutputOptions(save=tmp_path / "results", exact=True)
        >>> summary = execute(RunConfig(package=package, source=folder, output=output))
        >>> sorted(path.name for path in (tmp_path / "results").glob("*/*.png"))
        ['0.png', '0.png', '1.png', '1.png', '2.png', '2.png']
    """

    save: Path | None = None
    limit_mb: float | None = None
    exact: bool = False
    segment_s: float | None = None
    show: bool = False
    raw: str | None = None
    virtual_camera: bool = False

    def __post_init__(self) -> None:
        if self.limit_mb is not None and not 0 < self.limit_mb < math.inf:
            raise UsageError(f"--keep-mb {self.limit_mb:g} — expected megabytes above 0")

    @property
    def draws(self) -> bool:
        """Whether an effect is drawn for anything."""
        return self.save is not None or self.show or self.raw is not None or self.virtual_camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a frame's result.

    Attributes:
        mask_path: The mask's file, if masks are saved.
        stages_ms: Time it took: "effect" to draw, "sinks" to write. Waiting for a person is not in it.
    """

    mask_path: Path | None
    stages_ms: Mapping[str, float]


class Outputs:
    """Everything that a frame's result becomes besides JSON; leaving the ``with`` block finishes all of it.

    ``write`` may be called from several threads. The window, where there is one, is for the main thread to pump, and the
    block must be left in the main thread, when no other thread writes any more.

    Attributes:
        window: The window, or None.
        finished: What was written, one line each, for people; once the block was left.
    """

    def __init__(
        self,
        effects: Sequence[tuple[str, Effect]],
        *,
        masks: MaskFiles | None = None,
        files: PictureFiles | None = None,
        streams: Sequence[PictureSink] = (),
        window: Window | None = None,
        rest_s: float = _REST_S,
    ) -> None:
        """Put sinks together.

        Args:
            effects: Names and effects; the window switches between them, without one the first is drawn.
            masks: Takes the masks.
            files: Takes the pictures, from several threads at once.
            streams: Take the pictures one after the other.
            window: Shows them.
            rest_s: Seconds that a sink rests after a failure.
        """
        self._effects = effects
        self._masks = masks
        self._files = files
        self._streams = streams
        self.window = window
        self._guards: dict[object, _Guard] = {sink: _Guard(rest_s) for sink in (masks, files, *streams) if sink}
        self._stream_turn, self._window_turn = threading.Lock(), threading.Lock()
        self.finished: list[str] = []

    @property
    def wants_more(self) -> bool:
        """False once the window was closed."""
        return self.window is None or self.window.wants_more

    def write(self, result: FrameResult) -> Written:
        """Draw the effect once and give mask and picture to every sink.

        Raises:
            StorageError: Something of this frame was not kept; everything else was. A sink that failed rests for a few
                seconds, in which it raises the same again, and then tries again: whoever wants to go on can.
            UsageError: There is no virtual camera.
            SourceError: The virtual camera has gone.
            BrokenPipeError: The reader of the raw frames has gone.
        """
        start = time.perf_counter()
        failures: list[StorageError] = []
        mask_path = None
        if self._masks is not None:
            write_mask = partial(self._masks.write, result.frame, result.segmentation.mask)
            mask_path = self._try(self._masks, write_mask, failures)
        drawing = time.perf_counter()
        effect = self.window.effect if self.window is not None else 0
        picture = self._draw(result, effect) if self._files or self._streams or self.window else None
        drawn = time.perf_counter()
        if picture is not None:
            self._keep(result, picture, failures)
        done = time.perf_counter()
        if picture is not None and self.window is not None:
            self._show(self.window, result, picture, effect)
        if failures:
            raise failures[0]
        sinks_ms = (done - drawn + drawing - start) * 1e3
        return Written(mask_path=mask_path, stages_ms={"effect": (drawn - drawing) * 1e3, "sinks": sinks_ms})

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        failures: list[StorageError] = []
        sinks = [sink for sink in (self._masks, self._files, *self._streams, self.window) if sink is not None]
        with contextlib.ExitStack() as stack:  # all are finished, whatever one of them raises
            for sink in reversed(sinks):
                stack.callback(self._close, sink, failures)
        # A disk that filled up while writing fails again while finishing; the first error says more.
        if failures and not (kind is not None and issubclass(kind, StorageError)):
            raise failures[0]

    def _draw(self, result: FrameResult, effect: int) -> NDArray[np.uint8]:
        return self._effects[effect][1](result.frame.image_bgr, result.segmentation)

    def _keep(self, result: FrameResult, picture: NDArray[np.uint8], failures: list[StorageError]) -> None:
        if self._files is not None:
            self._try(self._files, partial(self._files.write, result.frame, picture), failures)
        if self._streams:
            with self._stream_turn:
                for stream in self._streams:
                    self._try(stream, partial(stream.write, result.frame, picture), failures)

    def _show(self, window: Window, result: FrameResult, picture: NDArray[np.uint8], effect: int) -> None:
        with self._window_turn:
            while window.write(result.frame, picture, effect):
                effect = window.effect
                picture = self._draw(result, effect)

    def _try(self, sink: object, write: Callable[[], _T], failures: list[StorageError]) -> _T | None:
        try:
            return self._guards[sink].call(write)
        except StorageError as error:
            failures.append(error)
            return None

    def _close(self, sink: MaskFiles | PictureSink | Window, failures: list[StorageError]) -> None:
        try:
            self.finished += sink.close()
        except StorageError as error:
            failures.append(error)


class _Guard:
    """Lets a sink rest after a failure: a full disk is not asked again with every frame."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._until = 0.0
        self._message = ""

    def call(self, write: Callable[[], _T]) -> _T:
        """Write, or raise what went wrong a moment ago."""
        if time.monotonic() < self._until:
            raise StorageError(self._message)  # another object each time: a traceback would hold the pictures
        try:
            return write()
        except StorageError as error:
            self._message, self._until = str(error), time.monotonic() + self._rest_s
            raise


def open_outputs(
    kind: Kind,
    fps: float | None,
    effects: Sequence[tuple[str, Effect]],
    options: OutputOptions | None = None,
    stop: threading.Event | None = None,
) -> Outputs:
    """Return the outputs for an open source.

    Args:
        kind: Images become pictures, a video or live source one video.
        fps: The source's nominal rate.
        effects: Names and effects; the first is drawn until the window switches to another.
        options: Where results go; None: nowhere.
        stop: Set when the run is to end, so that nothing waits any longer for a person or a stalled reader.

    Raises:
        StorageError: ``raw`` cannot be opened, or ``save`` cannot be read.
    """
    options, stop = options or OutputOptions(), stop or threading.Event()
    save = options.save
    # A live source's nominal rate says nothing about how many of its frames the model has time for.
    video_fps = None if kind == "live" else fps or DEFAULT_FPS
    retention = Retention(save, options.limit_mb) if save is not None and options.limit_mb is not None else None
    masks = files = None
    streams: list[PictureSink] = []
    if save is not None:
        masks = MaskFiles(save / "masks", retention)
        if kind == "images":
            files = PictureFiles(save / "overlays", exact=options.exact, retention=retention)
        else:
            path = save / f"overlay{VIDEO_SUFFIX}"
            streams.append(VideoFiles(path, video_fps, segment_s=options.segment_s, retention=retention))
    if options.raw is not None:
        streams.append(RawFrames(options.raw, stop))
    if options.virtual_camera:
        streams.append(VirtualCamera(fps or DEFAULT_FPS))
    window = Window(kind, [name for name, _ in effects], stop) if options.show else None
    return Outputs(effects, masks=masks, files=files, streams=streams, window=window)
