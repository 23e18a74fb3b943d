import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from colors import color_scene, color_truth

from edge_runtime import InputError, Segmenter
from edge_runtime.pipeline import FrameResult, Statistics, stream
from edge_runtime.sources import ImageSource, open_source


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number, size in enumerate([(48, 64), (96, 128), (24, 32)]):
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", color_scene(*size))[1].tobytes())
    return folder


class TestStream:
    def test_gives_a_mask_for_every_frame(self, color_package, scenes):
        before = time.monotonic()
        results = list(Segmenter.load(color_package).stream(scenes))
        assert [r.frame.name for r in results] == ["0", "1", "2"]
        for result in results:
            truth = color_truth(result.frame.image_bgr)
            assert (result.segmentation.mask == truth).mean() > 0.95
            assert before <= result.frame.captured_at <= time.monotonic()
            assert result.age_ms >= result.segmentation.latency_ms > 0

    def test_an_open_source_stays_open(self, color_package, scenes):
        closed = []

        class Watched(ImageSource):
            def close(self):
                closed.append(True)

        segmenter = Segmenter.load(color_package)
        with Watched(sorted(scenes.iterdir()), "scenes") as source:
            assert len(list(stream(segmenter, source))) == 3
            assert not closed
        assert closed

    def test_leaving_early_closes_the_source(self, color_package, tmp_path):
        results = Segmenter.load(color_package).stream(tmp_path / "nothing.png")
        with pytest.raises(InputError, match=r"nothing\.png — no such file"):
            next(results)

    def test_bad_files_are_reported_after_the_others(self, color_package, scenes):
        (scenes / "1.png").write_bytes(b"")
        results = Segmenter.load(color_package).stream(scenes)
        assert [next(results).frame.name, next(results).frame.name] == ["0", "2"]
        with pytest.raises(InputError, match=r"1 of 3 images cannot be used: .*1\.png — empty file"):
            next(results)


def results_of(color_package, scenes, latencies_ms):
    """Real results with known times."""
    (result, *_) = Segmenter.load(color_package).stream(scenes)
    return [
        FrameResult(
            frame=result.frame, segmentation=replace(result.segmentation, latency_ms=float(ms)), age_ms=2.0 * float(ms)
        )
        for ms in latencies_ms
    ]


class TestStatistics:
    def test_summary_of_a_run(self, color_package, scenes):
        (scenes / "1.png").write_bytes(b"")
        statistics = Statistics()
        with open_source(scenes) as source, pytest.raises(InputError):
            for result in stream(Segmenter.load(color_package), source):
                statistics.add(result)
        summary = statistics.summary(source)
        assert list(summary) == [
            "captured", "processed", "dropped", "failed", "reconnects", "fps", "latency_ms", "age_ms",
        ]  # fmt: skip
        assert [summary[key] for key in ("captured", "processed", "dropped", "failed", "reconnects")] == [3, 2, 0, 1, 0]
        assert summary["fps"] > 0

    def test_percentiles(self, color_package, scenes):
        statistics = Statistics()
        for result in results_of(color_package, scenes, range(101)):
            statistics.add(result)
        summary = statistics.summary(open_source(scenes))
        assert summary["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
        assert summary["age_ms"] == {"p50": 100.0, "p95": 190.0, "p99": 198.0}

    def test_memory_is_bounded_and_the_latest_count(self, color_package, scenes):
        statistics = Statistics(latest=10)
        for result in results_of(color_package, scenes, [1000] * 50 + [5] * 10):
            statistics.add(result)
        assert statistics.processed == 60
        assert statistics.summary(open_source(scenes))["latency_ms"] == {"p50": 5.0, "p95": 5.0, "p99": 5.0}

    def test_without_frames_there_is_null_and_no_nan(self, scenes):
        summary = Statistics().summary(open_source(scenes))
        assert (summary["fps"], summary["latency_ms"]) == (0.0, {"p50": None, "p95": None, "p99": None})

    def test_a_frame_that_was_not_finished_counts_as_dropped(self, color_package, scenes):
        segmenter, statistics = Segmenter.load(color_package), Statistics()

        def interrupted(image_bgr: np.ndarray):
            if image_bgr.shape[0] == 96:
                raise KeyboardInterrupt
            return segmenter(image_bgr)

        with open_source(scenes) as source, pytest.raises(KeyboardInterrupt):
            for result in stream(interrupted, source):
                statistics.add(result)
        summary = statistics.summary(source)
        assert (summary["captured"], summary["processed"], summary["dropped"]) == (2, 1, 1)
