"""Write a frame's result to all its destinations."""

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
from edge_runtime.sinks.video import VIDEO_SUFFIX, VideoFiles
from edge_runtime.sinks.virtual_camera import VirtualCamera
from edge_runtime.sinks.window import Window
from edge_runtime.sources.frame import DEFAULT_FPS, Kind

_REST_S = 5.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Destinations of masks and pictures.

    Attributes:
        save: Folder for masks, and for pictures or a video; None: nothing is saved.
        limit_mb: Size of ``save`` in megabytes above which its oldest results are deleted; None: no limit.
        exact: Save pictures as PNG instead of JPEG.
        segment_s: Length of a video file in seconds, after which another file begins; None: one file.
        show: Show the pictures in a window.
        raw: File or named pipe for raw pictures; "-" for standard output.
        virtual_camera: Send the pictures to a virtual camera.

    Example:
        >>> from edge_runtime import OutputOptions, RunConfig, execute
        >>> output = OutputOptions(save=tmp_path / "results", exact=True)
        >>> summary = execute(RunConfig(package=package, source=folder, output=output))
        >>> sorted(path.name for path in (tmp_path / "results").glob("*/*.png"))
        ['0.png', '0.png', '1.png', '1.png', '2.png', '2.png']
    """

    save: str | Path | None = None
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
        """Whether any destination needs an effect to be drawn."""
        return self.save is not None or self.show or self.raw is not None or self.virtual_camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Outcome of writing a frame's result.

    Attributes:
        mask_path: File of the mask; None if masks are not saved.
        stages_ms: Milliseconds per stage: "effect" to draw, "sinks" to write, without waiting for a person.
    """

    mask_path: Path | None
    stages_ms: Mapping[str, float]


class Outputs:
    """All destinations of a frame's result except JSON; leaving the ``with`` block finishes them.

    Several threads may call ``write``. The main thread must pump the window, if there is one, and must leave the block
    when no other thread writes any more.

    Attributes:
        window: The window; None without one.
        finished: One line of text per output, after the block.
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
        """Combine sinks.

        Args:
            effects: Names and effects; the window switches between them. Without a window, the first is drawn.
            masks: Writer of the masks.
            files: Writer of the pictures as files, called from several threads at once.
            streams: Sinks that need the pictures one after the other.
            window: Window for the pictures.
            rest_s: Seconds for which a sink is not used after a failure.
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
        """Whether the window is still open; True without a window."""
        return self.window is None or self.window.wants_more

    def write(self, result: FrameResult) -> Written:
        """Draw the effect once and write mask and picture to every sink.

        Raises:
            StorageError: A sink failed; all others have written their part. For a few seconds, the sink raises the same
                error again, then it tries again, so that a caller may continue.
            UsageError: There is no virtual camera.
            SourceError: The virtual camera no longer exists.
            BrokenPipeError: The reader of the raw frames has closed the pipe.
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
        with contextlib.ExitStack() as stack:  # finishes all sinks, whatever one of them raises
            for sink in reversed(sinks):
                stack.callback(self._close, sink, failures)
        # If the disk became full while writing, finishing fails as well; the first error says more.
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
    """Guard that does not use a sink for a while after a failure, so that a full disk is not tried with every frame."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._until = 0.0
        self._message = ""

    def call(self, write: Callable[[], _T]) -> _T:
        """Call ``write``, or raise its recent error again."""
        if time.monotonic() < self._until:
            raise StorageError(self._message)  # a new object, because a traceback would keep the pictures alive
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
    *,
    sound: Path | None = None,
) -> Outputs:
    """Return the outputs for an open source.

    Args:
        kind: Kind of the source; images are saved as pictures, a video or live source as a video.
        fps: Nominal frames per second of the source; None if unknown.
        effects: Names and effects; the first is drawn until the window switches to another.
        options: Destinations of the results; None: no destinations.
        sound: Video whose sound a saved video gets; None: none.
        stop: Set when the run is to end, so that outputs stop waiting for a person or a stalled reader.

    Raises:
        StorageError: ``raw`` cannot be opened, or ``save`` cannot be read.
    """
    options, stop = options or OutputOptions(), stop or threading.Event()
    save = None if options.save is None else Path(options.save)
    # The nominal rate of a live source does not tell how many of its frames the model has time for.
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
            streams.append(
                VideoFiles(path, video_fps, sound=sound, segment_s=options.segment_s, retention=retention, stop=stop)
            )
    if options.raw is not None:
        streams.append(RawFrames(options.raw, stop))
    if options.virtual_camera:
        streams.append(VirtualCamera(fps or DEFAULT_FPS))
    window = Window(kind, [name for name, _ in effects], stop) if options.show else None
    return Outputs(effects, masks=masks, files=files, streams=streams, window=window)
