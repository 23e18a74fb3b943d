"""Run work ahead in threads: results in order, errors raised at their item, and a time limit on every wait."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from edge_runtime.errors import WedgedError

PATIENCE_S = 60.0
"""Seconds after which the work on an item counts as hung."""
_FAREWELL_S = 5.0
_SLICES = 60

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    describe: Callable[[Item], str],
    patience_s: float = PATIENCE_S,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for each item in order, computed ahead in threads.

    Closing or dropping the iterator ends its threads, except one that hangs. The threads are daemons, so that a hanging
    one does not keep the process alive; the interpreter would wait for threads of ``concurrent.futures`` at its end.

    Args:
        work: Function that is called in threads.
        items: Items to work on, taken at most ``ahead`` in advance.
        threads: Number of threads.
        ahead: Maximum number of results in progress or waiting.
        describe: Function that describes an item for the message of a hang; called only then.
        patience_s: Seconds to wait for one result.

    Raises:
        WedgedError: A result takes longer than ``patience_s``.
        BaseException: Whatever ``work`` raises, in place of that item's result.
    """
    jobs: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    waiting: deque[tuple[Future[Result], Item]] = deque()
    workers = [Thread(target=_serve, args=(jobs, work), name=f"worker {i}", daemon=True) for i in range(threads)]
    remaining = iter(items)
    farewell_s = _FAREWELL_S
    try:
        for worker in workers:
            worker.start()
        for item in itertools.islice(remaining, ahead):
            _submit(item, jobs, waiting)
        while waiting:
            future, item = waiting.popleft()
            if not _done_within(future, patience_s):
                farewell_s = 0.0
                raise WedgedError(
                    f"{describe(item)} — has taken more than {patience_s:g} s — expected a fraction of one — the disk, a "
                    "network share or a decoder hangs: copy the data to a local disk, then go on with --resume"
                )
            for following in itertools.islice(remaining, 1):
                _submit(following, jobs, waiting)
            yield future.result()
    finally:
        for future, _ in waiting:
            future.cancel()
        for _ in workers:
            jobs.put(None)
        end_s = time.monotonic() + farewell_s
        for worker in workers:
            worker.join(max(0.0, end_s - time.monotonic()))


def _submit(
    item: Item,
    jobs: SimpleQueue[tuple[Future[Result], Item] | None],
    waiting: deque[tuple[Future[Result], Item]],
) -> None:
    job = (Future[Result](), item)
    waiting.append(job)
    jobs.put(job)


def _serve(jobs: SimpleQueue[tuple[Future[Result], Item] | None], work: Callable[[Item], Result]) -> None:
    while (job := jobs.get()) is not None:
        future, item = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(work(item))
        except BaseException as error:  # noqa: BLE001 - raised where the result is taken
            future.set_exception(error)


def _done_within(future: Future[Result], patience_s: float) -> bool:
    """Wait for a result in slices, so that a process that was suspended for an hour has waited for one slice only."""
    return any(wait([future], patience_s / _SLICES).done for _ in range(_SLICES))
