import threading
from concurrent.futures import Future

import pytest

from edge_runtime.errors import WedgedError
from training.input.workers import in_order


def run(work, items, **changes):
    options = {"threads": 3, "ahead": 4, "describe": lambda item: f"item {item}"} | changes
    return in_order(work, items, **options)


def alive():
    return [t for t in threading.enumerate() if t.name.startswith("worker ")]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 50])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_come_in_order_whatever_the_threads(threads, ahead, count):
    assert list(run(lambda n: n * n, range(count), threads=threads, ahead=ahead)) == [n * n for n in range(count)]
    assert alive() == []


def test_no_more_is_made_ahead_than_asked_for():
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    results = run(lambda n: n, items(), ahead=4)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3, 4]
    results.close()


def test_what_is_slow_does_not_hold_up_what_comes_after_it():
    last = threading.Event()

    def work(n):
        if n == 0:
            assert last.wait(30)
        if n == 2:
            last.set()
        return n

    assert list(run(work, range(3), threads=2)) == [0, 1, 2]


def test_an_error_surfaces_where_its_result_would_and_ends_the_threads():
    def work(n):
        if n == 2:
            raise KeyError("two")
        return n

    results = run(work, range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert alive() == []


def test_closing_early_ends_the_threads_and_drops_what_was_waiting(monkeypatch):
    """The threads are held in their work until all that waits has been cancelled."""
    count, threads, cancelled, all_cancelled, done = 50, 3, [], threading.Event(), []

    class Observed(Future):
        def cancel(self):
            cancelled.append(super().cancel())
            if len(cancelled) == count - 1:
                all_cancelled.set()
            return cancelled[-1]

    def work(n):
        assert n == 0 or all_cancelled.wait(30)
        done.append(n)

    monkeypatch.setattr("training.input.workers.Future", Observed)
    results = run(work, range(count), ahead=count, threads=threads)
    try:
        next(results)
        results.close()
        assert alive() == []
    finally:
        all_cancelled.set()
    assert len(cancelled) == count - 1
    assert done[0] == 0
    assert len(done) - 1 == cancelled.count(False) <= threads


def test_a_hang_is_an_error_that_names_the_work_and_keeps_no_process_alive():
    free = threading.Event()
    results = run(lambda n: n == 1 and free.wait(), range(3), patience_s=0.1)
    assert next(results) is False
    with pytest.raises(WedgedError, match=r"item 1 — has taken more than 0\.1 s .* --resume") as raised:
        next(results)
    assert raised.value.exit_code == 70
    assert all(thread.daemon for thread in alive())
    hanging = alive()
    free.set()
    for thread in hanging:
        thread.join()
