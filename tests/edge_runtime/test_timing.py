"""The times of stages, collected beside a result; the clock is one that tests move on."""

from types import SimpleNamespace

import pytest

from edge_runtime.segment.timing import StageTimes


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now_s=100.0, perf_counter=lambda: clock.now_s)
    monkeypatch.setattr("edge_runtime.segment.timing.time", clock)
    return clock


def test_a_stage_takes_as_long_as_its_block(clock):
    times = StageTimes()
    with times.stage("resize"):
        clock.now_s += 2
    clock.now_s += 8  # between two stages
    with times.stage("mask"):
        clock.now_s += 1
    assert times.stages_ms == {"resize": 2000, "mask": 1000}
    assert times.total_ms == 3000


def test_a_stage_that_is_entered_again_adds_up_and_keeps_its_place(clock):
    times = StageTimes()
    for name in ("resize", "inference", "resize"):
        with times.stage(name):
            clock.now_s += 1
    assert list(times.stages_ms.items()) == [("resize", 2000), ("inference", 1000)]


def test_a_block_that_raises_is_measured_and_its_error_goes_on(clock):
    times = StageTimes()
    with pytest.raises(ValueError, match="no such frame"), times.stage("inference"):
        clock.now_s += 1
        raise ValueError("no such frame")
    assert times.stages_ms == {"inference": 1000}


def test_without_stages_the_total_is_zero():
    assert (StageTimes().stages_ms, StageTimes().total_ms) == ({}, 0)
