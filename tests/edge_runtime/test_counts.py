"""Counts and times of a run."""

from dataclasses import replace

import cv2
import pytest
from colors import color_scene

from edge_runtime import Segmenter
from edge_runtime.run.counts import Statistics, Times
from edge_runtime.segment.stream import stream
from edge_runtime.sources import open_source


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
    return path


@pytest.fixture
def result(color_package, picture):
    (found,) = stream(Segmenter.load(color_package), picture)
    return found


def test_percentiles(result, picture):
    statistics = Statistics()
    for ms in range(101):
        statistics.add(replace(result, latency_ms=float(ms), age_ms=2.0 * ms), {"inference": ms / 2})
    summary = statistics.summary(open_source(picture))
    assert summary["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert summary["age_ms"] == {"p50": 100.0, "p95": 190.0, "p99": 198.0}
    assert summary["stages_ms"] == {"inference": {"p50": 25.0, "p95": 47.5, "p99": 49.5}}


def test_the_latest_times_count_in_memory_that_never_grows():
    times = Times(latest=10)
    for ms in [1000] * 50 + [5] * 10:
        times.add(ms)
    assert times.percentiles() == {"p50": 5.0, "p95": 5.0, "p99": 5.0}


def test_without_frames_there_is_null_and_no_nan(picture):
    summary = Statistics().summary(open_source(picture))
    assert (summary["fps"], summary["latency_ms"]) == (0.0, {"p50": None, "p95": None, "p99": None})


def test_every_way_that_a_frame_can_go_is_counted_once(result, picture):
    statistics = Statistics()
    statistics.add(result, {})
    statistics.add_dropped(2)
    statistics.add_failed()
    with open_source(picture) as source:
        source.captured, source.dropped, source.failed = 10, 5, 1
    summary = statistics.summary(source)
    assert [summary[key] for key in ("captured", "processed", "dropped", "failed")] == [10, 1, 7, 2]
