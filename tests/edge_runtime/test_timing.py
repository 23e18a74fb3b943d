"""The times of stages, collected beside a result."""

import time

import pytest

from edge_runtime.segment.timing import StageTimes


def test_a_stage_takes_as_long_as_its_block():
    times = StageTimes()
    start = time.perf_counter()
    with times.stage("resize"):
        time.sleep(0.02)
    with times.stage("mask"):
        pass
    elapsed_ms = (time.perf_counter() - start) * 1e3
    assert list(times.stages_ms) == ["resize", "mask"]
    assert 20 <= times.stages_ms["resize"] <= times.total_ms <= elapsed_ms
    assert 0 < times.stages_ms["mask"] < 20


def test_a_stage_that_is_entered_again_adds_up_and_keeps_its_place():
    times = StageTimes()
    for name in ("resize", "inference", "resize"):
        with times.stage(name):
            time.sleep(0.01)
    assert list(times.stages_ms) == ["resize", "inference"]
    assert times.stages_ms["resize"] >= 20
    assert times.total_ms == sum(times.stages_ms.values()) >= 30


def test_a_block_that_raises_is_measured_and_its_error_goes_on():
    times = StageTimes()
    with pytest.raises(ValueError, match="no such frame"), times.stage("inference"):
        raise ValueError("no such frame")
    assert times.stages_ms["inference"] > 0


def test_without_stages_the_total_is_zero():
    assert (StageTimes().stages_ms, StageTimes().total_ms) == ({}, 0)
