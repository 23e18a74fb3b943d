"""Execute the frames of a run in its own threads, so that the caller's thread can serve signals, window and watchdog.

- Images: several workers, each of which reads, segments and writes one picture; results are reported in order.
- Video: one thread reads ahead, one segments, one writes behind. No frame is lost.
- Live: the source's thread keeps the newest frame. Segmenting and writing alternate, because queueing results would
  only make them stale.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias

from edge_runtime.errors import StorageError
from edge_runtime.run.counts import Statistics
from edge_runtime.segment.stream import FrameResult, Segment, segment_frame
from edge_runtime.sinks import Outputs, Written
from edge_runtime.sources import ReadAhead, Source
from edge_runtime.sources.read_ahead import JOIN_AT_EXIT_S

_log = logging.getLogger("edge_runtime")
_DEPTH = 2
_COMPLAIN_S = 60.0

_Pending: TypeAlias = "Future[tuple[FrameResult, Written] | None]"

Report = Callable[[FrameResult, Written], None]
"""Callback for each result, in order, after its files are written."""


class Stopped(Exception):  # noqa: N818 - not an error: the run was told to end
    """Raised by the progress callback of a segmenter to abandon the current picture."""


class Runner:
    """Threads that take frames from a source, segment them and write the results.

    Call ``start``, then ``wait``, perhaps ``stop``, and at the end ``close``.

    Attributes:
        source: Source of the frames.
        statistics: Counts and times so far.
        outputs: Outputs of the run; None until the source is open.
        stopping: Set by ``stop``.
        last_error: Message of the latest result that could not be written, if ``keep_going``.
    """

    def __init__(
        self,
        source: Source,
        make_segment: Callable[[], Segment],
        open_outputs: Callable[[Source], Outputs],
        report: Report,
        *,
        stopping: threading.Event,
        workers: int = 1,
        max_frames: int | None = None,
        keep_going: bool = False,
    ) -> None:
        """Prepare a run.

        Args:
            source: Source of the frames, not open yet.
            make_segment: Makes a segmenter; called once per segmenting thread, because some segmenters have a state.
            open_outputs: Opens the outputs; called with the open source.
            report: Callback for each result.
            stopping: Event that ends the run; the outputs share it, so that they stop waiting.
            workers: Number of threads for the images of a folder.
            max_frames: Number of frames after which the run ends; None: at the end of the source.
            keep_going: Count a result that cannot be written as failed and continue, as a service must.
        """
        self.source = source
        self.statistics = Statistics()
        self.outputs: Outputs | None = None
        self.stopping = stopping
        self.last_error: str | None = None
        self._make_segment = make_segment
        self._open_outputs = open_outputs
        self._report = report
        self._workers = workers
        self._max_frames = max_frames
        self._keep_going = keep_going
        self._busy: dict[int, float] = {}
        self._clock_from = float("-inf")
        self._complained_at = float("-inf")
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-unet-run", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        atexit.register(self._exit)  # as ``ReadAhead`` does
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most this long for the end of the run; return whether it has ended."""
        return self._done.wait(timeout_s)

    def stop(self) -> None:
        """End the run after the current frame."""
        self.stopping.set()
        self.source.stop()

    def close(self) -> list[str]:
        """Finish the outputs after the run has ended, in the thread that shows the window.

        Returns:
            One line of text per written output.

        Raises:
            EdgeUnetError: The error that ended the run; see ``stream``.
            StorageError: An output could not be finished.
            BrokenPipeError: The reader of an output has closed the pipe.
        """
        atexit.unregister(self._exit)
        try:
            if self.outputs is not None:
                self.outputs.__exit__(type(self._error) if self._error else None)
        finally:
            if self._error is not None:
                raise self._error
        return self.outputs.finished if self.outputs else []

    @property
    def busy_s(self) -> float:
        """Seconds that the oldest unfinished frame has been worked on; 0 while the run waits for frames."""
        started = list(self._busy.values())
        return time.monotonic() - max(min(started), self._clock_from) if started else 0.0

    def restart_clock(self) -> None:
        """Measure ``busy_s`` from now on only, because nothing was worked on until now."""
        self._clock_from = time.monotonic()

    def _exit(self) -> None:
        """Wait for the threads when the interpreter ends, because a run may be left in another thread."""
        self.stop()
        self._done.wait(JOIN_AT_EXIT_S)

    def _run(self) -> None:
        try:
            with self.source:
                self.outputs = outputs = self._open_outputs(self.source)
                run = {"images": self._images, "video": self._video, "live": self._live}[self.source.kind]
                run(outputs)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised in ``close``, in the caller's thread
            self._error = error
        finally:
            self._done.set()

    def _live(self, outputs: Outputs) -> None:
        segment = self._make_segment()
        for frame in self.source:
            with self._work():
                result = segment_frame(segment, frame)
            self._deliver(outputs, result)
            if self._enough(outputs):
                break

    def _video(self, outputs: Outputs) -> None:
        segment = self._make_segment()
        reading = ReadAhead(self.source, self._max_frames)
        writing = _WriteBehind(lambda result: self._deliver(outputs, result))
        try:
            with writing, reading:
                for frame in reading:
                    with self._work():
                        result = segment_frame(segment, frame)
                    writing.put(result)
                    if self._enough(outputs):
                        break
        finally:
            self.statistics.add_dropped(reading.unused + writing.unused)

    def _images(self, outputs: Outputs) -> None:
        local = threading.local()

        def work(index: int) -> tuple[FrameResult, Written] | None:
            frame = self.source.load(index)
            if frame is None:
                return None
            with self._work():
                if not hasattr(local, "segment"):
                    local.segment = self._make_segment()
                result = segment_frame(local.segment, frame)
                return result, outputs.write(result)

        found = self.source.total or 0
        total = min(found, self._max_frames or found)
        pending: deque[_Pending] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="edge-unet-image") as pool:
            try:
                for index in range(total):
                    pending.append(pool.submit(work, index))
                    # One more than the workers, so that no worker waits while the oldest image is reported.
                    if len(pending) > self._workers:
                        self._take(pending)
                    if self._enough(outputs):
                        break
                while pending:
                    self._take(pending)
            finally:
                for future in pending:  # after an error: cancel what has not started, discard finished results
                    if not future.cancel() and future.exception() is None and future.result() is not None:
                        self.statistics.add_dropped()
        if not self.stopping.is_set():
            self.source.raise_problems()

    def _take(self, pending: deque[_Pending]) -> None:
        """Report the oldest pending image."""
        future = pending.popleft()
        if self.stopping.is_set() and future.cancel():
            return
        if (done := future.result()) is not None:
            with self._work():
                self._report(*done)
            self._add(*done)

    def _deliver(self, outputs: Outputs, result: FrameResult) -> None:
        """Write and report a result; with ``keep_going``, one that cannot be written is counted as failed."""
        try:
            with self._work():
                written = outputs.write(result)
                self._report(result, written)
        except StorageError as error:
            if not self._keep_going:
                raise
            self._complain(str(error))
        else:
            self._add(result, written)

    def _add(self, result: FrameResult, written: Written) -> None:
        decode = {"decode": result.frame.decode_ms} if result.frame.decode_ms else {}
        self.statistics.add(result, {**decode, **result.stages_ms, **written.stages_ms})

    def _enough(self, outputs: Outputs) -> bool:
        done = self.statistics.processed + self.statistics.failed
        return self.stopping.is_set() or not outputs.wants_more or done == self._max_frames

    def _complain(self, problem: str) -> None:
        """Log that results cannot be written, at most once per minute because the problem may last for weeks."""
        self.last_error = problem
        if time.monotonic() - self._complained_at >= _COMPLAIN_S:
            self._complained_at = time.monotonic()
            _log.warning("%s (%d results lost so far)", problem, self.statistics.failed)

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Measure the work on a frame for ``busy_s``, and count the frame as failed if the block raises an error."""
        thread = threading.get_ident()
        self._busy[thread] = time.monotonic()
        try:
            yield
        except Stopped:
            self.statistics.add_dropped()
            raise
        except BaseException:
            self.statistics.add_failed()
            raise
        finally:
            del self._busy[thread]


class _WriteBehind:
    """Thread that delivers results; leaving the ``with`` block delivers the remaining ones.

    Attributes:
        unused: Number of results that were not delivered because of an error, after the block.
    """

    def __init__(self, deliver: Callable[[FrameResult], None]) -> None:
        self._deliver = deliver
        self._waiting: queue.Queue[FrameResult | None] = queue.Queue(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="edge-unet-write", daemon=True)
        self.unused = 0

    def put(self, result: FrameResult) -> None:
        """Queue a result, or raise the error of an earlier delivery."""
        self._waiting.put(result)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> _WriteBehind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        while (result := self._waiting.get()) is not None:
            if self._error is not None:  # continue to empty the queue, so that ``put`` does not block
                self.unused += 1
                continue
            try:
                self._deliver(result)
            except BaseException as error:  # noqa: BLE001 - raised by ``put``
                self._error = error
