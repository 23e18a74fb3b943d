"""Work done ahead by threads, its results in order, its errors where they are taken, and no wait without an end."""

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
"""Time after which one piece of work counts as hung."""
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
    """Yield ``work(item)`` for each item, in order, worked on by threads before it is asked for.

    An iterator that is closed or dropped early leaves no thread behind, except one that hangs: the threads are daemons,
    which keep no process alive. (Those of ``concurrent.futures`` would: the interpreter waits for them when it ends.)

    Args:
        work: Called in threads.
        items: What to work on; taken as far as ``ahead``.
        threads: How many work at once.
        ahead: How many results may be under way or waiting.
        describe: What an item is, for the message of a hang; asked only then.
        patience_s: How long to wait for one result.

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
    """Wait for a result in slices: a process that was stopped for an hour has waited for one slice, not for an hour."""
    return any(wait([future], patience_s / _SLICES).done for _ in range(_SLICES))
