"""A whole run in threads: order, exact accounting whatever happens, prompt stops, hangs noticed."""

import io
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_runtime import InputError, ModelError, Segmenter, StorageError
from edge_runtime.effects import parse_effect
from edge_runtime.errors import WedgedError
from edge_runtime.run.runner import Runner
from edge_runtime.run.service import Notifier, Supervisor
from edge_runtime.sinks import OutputOptions, open_outputs
from edge_runtime.sources import Source, StdinSource, open_source
from edge_runtime.sources.frame import decoded_frame

DEADLINE_S = 20.0
KINDS = ["images", "video", "live"]
FRAMES = 40


@pytest.fixture
def make_source(tmp_path):
    """A source of FRAMES frames of each kind: images and a video from files, a live one of raw frames."""

    def make(kind):
        data = [cv2.imencode(".png", np.full((24, 32, 3), number, np.uint8))[1].tobytes() for number in range(FRAMES)]
        if kind == "images":
            folder = tmp_path / "images"
            folder.mkdir()
            for number, png in enumerate(data):
                (folder / f"{number:03d}.png").write_bytes(png)
            return open_source(folder)
        if kind == "video":
            path = tmp_path / "video.avi"
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (32, 24))
            for number in range(FRAMES):
                writer.write(np.full((24, 32, 3), number, np.uint8))
            writer.release()
            return open_source(path)
        return StdinSource(io.BytesIO(bytes(24 * 32 * 3) * FRAMES), raw_size=(24, 32), live=True)

    return make


@pytest.fixture
def make_runner(color_package, make_source, tmp_path):
    segmenter = Segmenter.load(color_package)

    def make(source, report=lambda result, written: None, segment=segmenter, save=False, **options):
        source = make_source(source) if isinstance(source, str) else source
        stopping = threading.Event()
        folder = tmp_path / "out" if save else None

        def outputs(opened):
            if folder is not None:
                (folder / "masks").mkdir(parents=True)
                (folder / "overlays").mkdir()
            effects = [("overlay", parse_effect("overlay"))]
            return open_outputs(opened.kind, opened.fps, effects, OutputOptions(save=folder), stopping)

        return Runner(source, lambda: segment, outputs, report, stopping=stopping, **options)

    return make


def ended(runner):
    assert runner.wait(DEADLINE_S), "the run does not end"
    return runner


def balanced(runner):
    summary = runner.statistics.summary(runner.source)
    assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"], summary
    return summary


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_runs_to_the_end(self, make_runner, kind):
        seen = []
        runner = make_runner(kind, lambda result, written: seen.append(result.frame.index), workers=3)
        runner.start()
        ended(runner).close()
        summary = balanced(runner)
        assert seen == sorted(seen) and len(seen) == summary["processed"]
        assert summary["captured"] == FRAMES
        assert (summary["processed"] == FRAMES) or kind == "live"
        assert {"resize", "inference", "mask", "effect", "sinks"} <= summary["stages_ms"].keys()

    @pytest.mark.parametrize("kind", KINDS)
    def test_stops_after_some_frames(self, make_runner, kind):
        runner = make_runner(kind, max_frames=5, workers=2)
        runner.start()
        ended(runner).close()
        summary = balanced(runner)
        assert summary["processed"] == 5 or (kind == "live" and summary["processed"] < 5)
        assert kind == "live" or summary["captured"] == 5

    @pytest.mark.parametrize("kind", KINDS)
    def test_stops_in_the_middle_when_told(self, make_runner, kind):
        begun, told = threading.Event(), threading.Event()

        def report(result, written):
            begun.set()
            assert told.wait(DEADLINE_S)

        runner = make_runner(kind, report, workers=2)
        runner.start()
        assert begun.wait(DEADLINE_S)
        runner.stop()
        told.set()
        ended(runner).close()
        assert 1 <= balanced(runner)["processed"] < FRAMES

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_error_of_the_model_ends_it(self, make_runner, kind):
        def failing(image_bgr, times=None):
            raise ModelError("model 'colors' failed on a frame")

        runner = make_runner(kind, segment=failing, workers=2)
        runner.start()
        with pytest.raises(ModelError, match="failed on a frame"):
            ended(runner).close()
        summary = balanced(runner)
        assert (summary["processed"], summary["failed"] >= 1) == (0, True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_error_of_the_outputs_ends_it(self, make_runner, kind):
        def report(result, written):
            raise StorageError("cannot write x — no space left on device")

        runner = make_runner(kind, report, workers=2)
        runner.start()
        with pytest.raises(StorageError, match="no space left"):
            ended(runner).close()
        assert balanced(runner)["processed"] == 0

    @pytest.mark.parametrize("kind", ["video", "live"])
    def test_a_run_that_keeps_going_counts_what_it_cannot_write(self, make_runner, kind, caplog):
        attempts = []

        def report(result, written):
            attempts.append(result)
            if len(attempts) % 2:
                raise StorageError("cannot write x — no space left on device")

        runner = make_runner(kind, report, keep_going=True)
        runner.start()
        ended(runner).close()
        summary = balanced(runner)
        assert summary["failed"] == (len(attempts) + 1) // 2
        assert "no space left" in runner.last_error
        assert len(caplog.records) <= 1, "at most once a minute"


class TestImages:
    def test_bad_files_are_named_at_the_end_and_the_others_done(self, make_runner, make_source, tmp_path):
        source = make_source("images")
        for number in (3, 7):
            (tmp_path / "images" / f"{number:03d}.png").write_bytes(b"")
        runner = make_runner(source, workers=3, save=True)
        runner.start()
        with pytest.raises(InputError, match=r"2 of 40 images cannot be used: .*003\.png — empty file"):
            ended(runner).close()
        summary = balanced(runner)
        assert (summary["processed"], summary["failed"]) == (FRAMES - 2, 2)
        assert len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES - 2

    def test_any_source_of_images_is_loaded_by_index(self, make_runner):
        """Whatever its class: what counts is its kind."""

        class Numbers(Source):
            def __init__(self):
                super().__init__("numbers", "images")
                self.total = 5
                self.counting = threading.Lock()

            def load(self, index):
                image = np.full((24, 32, 3), index, np.uint8)
                with self.counting:
                    return self._taken(decoded_frame(index, image, self.name, 0.0))

            def raise_problems(self):
                raise InputError("the numbers are used up")

        seen = []
        runner = make_runner(Numbers(), lambda result, written: seen.append(result.frame.index), workers=2)
        runner.start()
        with pytest.raises(InputError, match="the numbers are used up"):
            ended(runner).close()
        assert seen == list(range(5)) and balanced(runner)["captured"] == 5

    def test_several_are_worked_on_at_once(self, make_runner, color_package):
        """Each waits until the other is there too; with one worker this would never end."""
        segmenter, together = Segmenter.load(color_package), threading.Barrier(2)

        def meeting(image_bgr, times=None):
            together.wait(DEADLINE_S)
            return segmenter(image_bgr, times)

        runner = make_runner("images", segment=meeting, workers=2)
        runner.start()
        ended(runner).close()
        assert balanced(runner)["processed"] == FRAMES


class TestVideo:
    def test_reading_segmenting_and_writing_overlap(self, make_runner, color_package):
        """The first result is not written before the third frame is segmented; one after the other would never end."""
        segmenter, third = Segmenter.load(color_package), threading.Event()
        count = []

        def counting(image_bgr, times=None):
            count.append(1)
            if len(count) == 3:
                third.set()
            return segmenter(image_bgr, times)

        runner = make_runner("video", lambda result, written: third.wait(DEADLINE_S), segment=counting)
        runner.start()
        ended(runner).close()
        assert third.is_set() and balanced(runner)["processed"] == FRAMES


class TestHang:
    def test_is_noticed_and_named(self, make_runner, color_package, capfd):
        segmenter, freed = Segmenter.load(color_package), threading.Event()

        def hanging(image_bgr, times=None):
            freed.wait(DEADLINE_S)
            return segmenter(image_bgr, times)

        runner = make_runner("live", segment=hanging, max_frames=1)
        supervisor = Supervisor(runner, model={}, notifier=Notifier({}), status=None, interval_s=1000.0, wedged_s=0.05)
        runner.start()
        deadline = time.monotonic() + DEADLINE_S
        with pytest.raises(
            WedgedError, match=r"standard input — the work on a frame has taken .* hangs in native code"
        ):
            while time.monotonic() < deadline:
                supervisor.tick()
        assert "in hanging" in capfd.readouterr().err
        freed.set()
        ended(runner).close()
        assert balanced(runner)["processed"] == 1

    def test_a_process_that_stood_still_as_a_whole_is_none(self, make_runner, color_package, monkeypatch, capfd):
        segmenter, began, freed = Segmenter.load(color_package), threading.Event(), threading.Event()
        clock = SimpleNamespace(now_s=100.0)
        clock.monotonic = lambda: clock.now_s
        for module in ("runner", "service"):
            monkeypatch.setattr(f"edge_runtime.run.{module}.time", clock)

        def hanging(image_bgr, times=None):
            began.set()
            freed.wait(DEADLINE_S)
            return segmenter(image_bgr, times)

        runner = make_runner("live", segment=hanging, max_frames=1)
        supervisor = Supervisor(runner, model={}, notifier=Notifier({}), status=None, interval_s=1000.0, wedged_s=30.0)
        runner.start()
        assert began.wait(DEADLINE_S)
        for passed_s in (1, 3600, *[1] * 30):
            clock.now_s += passed_s
            supervisor.tick()
        clock.now_s += 1
        with pytest.raises(WedgedError, match="the work on a frame has taken 31 s"):
            supervisor.tick()
        freed.set()
        ended(runner).close()

    def test_waiting_for_a_frame_is_none(self, make_runner):
        runner = make_runner("live")
        assert runner.busy_s == 0.0
