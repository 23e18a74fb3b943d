"""A whole run in threads of its own, so that the caller's thread stays free for signals, a window and a watchdog.

- Images: several workers, each reads, segments and writes a picture; they are reported in order.
- Video: a thread reads ahead, one segments, one writes behind. No frame is lost.
- Live: the source's own thread keeps the newest frame; segmenting and writing take turns, for a result that waits for the
  one before it would be old when it arrives.
"""

from __future__ import annotations

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

_log = logging.getLogger("edge_runtime")
_DEPTH = 2
_COMPLAIN_S = 60.0

_Pending: TypeAlias = "Future[tuple[FrameResult, Written] | None]"

Report = Callable[[FrameResult, Written], None]
"""Called with each result in order, after its files are written."""


class Stopped(Exception):  # noqa: N818 - no error: the run was told to end
    """Raised inside a segmenter by what it reports its progress to: the picture in hand is given up."""


class Runner:
    """Source, segmenter and outputs at work; ``start`` it, ``wait`` for it, perhaps ``stop`` it, then ``close``.

    Attributes:
        source: Where the frames come from.
        statistics: Counts and times so far.
        outputs: Where results go, once the source is open.
        stopping: Set by ``stop``.
        last_error: The latest result that could not be written, in a run that keeps going.
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
            source: Not open yet.
            make_segment: Called once in each thread that segments; some segmenters keep a state.
            open_outputs: Called with the open source.
            report: See ``Report``.
            stopping: Set when the run is to end; the outputs know it too, so that none of them waits any longer.
            workers: Threads that work on images of a folder.
            max_frames: End after so many.
            keep_going: Count a result that cannot be written as failed and go on, as a service must.
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
        self._complained_at = float("-inf")
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-unet-run", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most so long for the end; return whether it has come."""
        return self._done.wait(timeout_s)

    def stop(self) -> None:
        """End the run soon: the frame in hand is finished, files are closed."""
        self.stopping.set()
        self.source.stop()

    def close(self) -> list[str]:
        """Finish the outputs, in the thread that shows the window, once the run has ended.

        Returns:
            What was written, one line each, for people.

        Raises:
            EdgeUnetError: What ended the run; see ``stream``. StorageError: an output could not be finished.
            BrokenPipeError: The reader of our output has gone.
        """
        try:
            if self.outputs is not None:
                self.outputs.__exit__(type(self._error) if self._error else None)
        finally:
            if self._error is not None:
                raise self._error
        return self.outputs.finished if self.outputs else []

    @property
    def busy_s(self) -> float:
        """How long the oldest piece of work in hand has taken so far; waiting for frames is no work."""
        started = list(self._busy.values())
        return time.monotonic() - min(started) if started else 0.0

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
                    # One more than the workers: none waits while the oldest is reported.
                    if len(pending) > self._workers:
                        self._take(pending)
                    if self._enough(outputs):
                        break
                while pending:
                    self._take(pending)
            finally:
                for future in pending:  # after an error: what has not begun never does, what is done goes nowhere
                    if not future.cancel() and future.exception() is None and future.result() is not None:
                        self.statistics.add_dropped()
        if not self.stopping.is_set():
            self.source.raise_problems()

    def _take(self, pending: deque[_Pending]) -> None:
        """Report the oldest image in hand."""
        future = pending.popleft()
        if self.stopping.is_set() and future.cancel():
            return
        if (done := future.result()) is not None:
            with self._work():
                self._report(*done)
            self._add(*done)

    def _deliver(self, outputs: Outputs, result: FrameResult) -> None:
        """Write and report a result; a run that keeps going counts one that cannot be written."""
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
        """Say what cannot be written, at most once a minute: it may go on for weeks."""
        self.last_error = problem
        if time.monotonic() - self._complained_at >= _COMPLAIN_S:
            self._complained_at = time.monotonic()
            _log.warning("%s (%d results lost so far)", problem, self.statistics.failed)

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Do a frame's work: noted for ``busy_s``, and counted as failed where it raises an error."""
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
    """Delivers results in a thread of its own; leaving the ``with`` block delivers what is left.

    Attributes:
        unused: After the block: results that an error kept from being delivered.
    """

    def __init__(self, deliver: Callable[[FrameResult], None]) -> None:
        self._deliver = deliver
        self._waiting: queue.Queue[FrameResult | None] = queue.Queue(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="edge-unet-write", daemon=True)
        self.unused = 0

    def put(self, result: FrameResult) -> None:
        """Hand over a result, or raise what delivering an earlier one raised."""
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
            if self._error is not None:  # the queue is emptied all the same, so that nobody waits for room
                self.unused += 1
                continue
            try:
                self._deliver(result)
            except BaseException as error:  # noqa: BLE001 - raised by ``put``
                self._error = error
