"""A run from Python: its configuration, its observer, and a process that stays as it was."""

import json
import logging
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from colors import color_scene
from mjpeg import camera

import edge_runtime
from edge_runtime import ModelError, StorageError, UsageError
from edge_runtime.run import Observer, RunConfig, execute
from edge_runtime.sinks import OutputOptions
from edge_runtime.sources import Patience, SourceOptions

FRAMES = 12
DEADLINE_S = 30.0
SAVED = OutputOptions(save=Path("x"))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for _ in range(FRAMES):
        writer.write(color_scene())
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    for name in "abc":
        (path / f"{name}.png").write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
    return path


class Recorder(Observer):
    """Notes what it hears."""

    period_s = 0.01

    def __init__(self):
        self.heard, self.indices, self.parts, self.summary, self.files = [], [], [], None, None

    def begun(self, source, segmenter):
        self.heard.append(("begun", source.kind, source.state, segmenter.contract.name))

    def result(self, result, written):
        self.heard.append("result")
        self.indices.append(result.frame.index)

    def progress(self, what, done, total):
        self.parts.append((what, done, total))

    def ended(self, summary, files):
        self.heard.append("ended")
        self.summary, self.files = summary, files


def lines_of(path):
    *frames, last = [json.loads(line) for line in path.read_text().splitlines()]
    return frames, last["summary"]


class TestExecute:
    @pytest.mark.parametrize("kind", ["video", "folder"])
    def test_results_go_to_files_json_lines_and_the_observer(self, color_package, kind, request, tmp_path):
        source, observer = request.getfixturevalue(kind), Recorder()
        out, lines = tmp_path / "out", tmp_path / "lines.jsonl"
        config = RunConfig(package=color_package, source=source, output=OutputOptions(save=out), json=str(lines))
        summary = execute(config, observer=observer)
        count = FRAMES if kind == "video" else 3
        frames, last = lines_of(lines)
        assert summary == last == observer.summary
        assert (summary["captured"], summary["processed"], summary["failed"]) == (count, count, 0)
        assert observer.indices == [frame["frame"] for frame in frames] == list(range(count))
        assert all(Path(frame["mask"]).is_file() for frame in frames)
        begun = ("begun", "video" if kind == "video" else "images", "closed", "colors")
        assert observer.heard == [begun, *["result"] * count, "ended"]
        assert observer.files[0] == f"{out}/masks ({count} masks)"

    def test_the_process_stays_as_it_was_and_nothing_is_printed(self, color_package, video, tmp_path, capfd):
        def process():
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
            logger = logging.getLogger("edge_runtime")
            return dict(os.environ), handlers, cv2.getNumThreads(), logger.handlers[:], logger.level

        threads = cv2.getNumThreads()
        cv2.setNumThreads(2)
        try:
            before = process()
            execute(RunConfig(package=color_package, source=video, json=str(tmp_path / "x")))
            assert process() == before
        finally:
            cv2.setNumThreads(threads)
        assert capfd.readouterr() == ("", "")

    def test_a_run_is_stopped_from_another_thread(self, color_package, tmp_path):
        stop = threading.Event()

        class Stopping(Recorder):
            def result(self, result, written):
                super().result(result, written)
                if len(self.indices) == 3:
                    stop.set()

        observer = Stopping()
        with camera() as server:
            config = RunConfig(package=color_package, source=server.url, json=str(tmp_path / "x.jsonl"))
            summary = execute(config, observer=observer, stop=stop)
        assert 3 <= summary["processed"] == len(lines_of(tmp_path / "x.jsonl")[0])
        assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"]

    def test_a_stop_of_the_caller_is_left_as_it_was_and_serves_the_next_run(self, color_package, video):
        stop = threading.Event()
        for _ in range(2):
            assert execute(RunConfig(package=color_package, source=video), stop=stop)["processed"] == FRAMES
        assert not stop.is_set()

    def test_a_stopped_run_waits_for_the_frame_in_hand(self, color_package, video, monkeypatch):
        monkeypatch.setattr("edge_runtime.run.execution._STOP_S", 0.001)  # what an interrupt would wait
        stop, finish = threading.Event(), threading.Event()

        class Slow(Recorder):
            period_s = 0.01
            ticks = 0

            def result(self, result, written):
                stop.set()
                assert finish.wait(60)
                super().result(result, written)

            def tick(self, statistics):
                self.ticks += stop.is_set()
                if self.ticks == 5:
                    finish.set()

        observer = Slow()
        summary = execute(RunConfig(package=color_package, source=video), observer=observer, stop=stop)
        assert summary["processed"] == len(observer.indices) >= 1
        assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"]
        assert observer.ticks >= 5

    def test_an_observer_that_fails_at_the_end_costs_no_summary_and_no_status(self, color_package, video, tmp_path):
        class Failing(Recorder):
            def ended(self, summary, files):
                raise StorageError("the database is full")

        lines, status = tmp_path / "x.jsonl", tmp_path / "s.json"
        config = RunConfig(package=color_package, source=video, json=str(lines), status=str(status))
        with pytest.raises(StorageError, match="the database is full"):
            execute(config, observer=Failing())
        assert lines_of(lines)[1]["processed"] == FRAMES
        assert json.loads(status.read_text())["processed"] == FRAMES

    def test_a_tile_that_is_too_large_is_refused_before_anything_is_made(self, color_package, tmp_path):
        (tmp_path / "small.png").write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
        output = OutputOptions(save=tmp_path / "out")
        config = RunConfig(package=color_package, source=tmp_path / "small.png", tile=(9000, 9000), output=output)
        with pytest.raises(UsageError, match="tile size is 9000x9000"):
            execute(config)
        assert not (tmp_path / "out").exists()

    def test_paths_may_be_text(self, color_package, video, tmp_path):
        output = OutputOptions(save=str(tmp_path / "out"))
        execute(RunConfig(package=str(color_package), source=str(video), output=output))
        assert len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES

    def test_an_interrupt_finishes_the_files_and_is_raised(self, color_package, tmp_path):
        class Interrupted(Recorder):
            def tick(self, statistics):
                if statistics.processed >= 2:
                    raise KeyboardInterrupt

        with camera() as server, pytest.raises(KeyboardInterrupt):
            config = RunConfig(package=color_package, source=server.url, json=str(tmp_path / "x.jsonl"))
            execute(config, observer=(observer := Interrupted()))
        frames, summary = lines_of(tmp_path / "x.jsonl")
        assert observer.summary == summary and summary["processed"] == len(frames) >= 2

    def test_an_error_of_the_observer_ends_it(self, color_package, video):
        class Failing(Recorder):
            def result(self, result, written):
                raise StorageError("the database is full")

        with pytest.raises(StorageError, match="the database is full"):
            execute(RunConfig(package=color_package, source=video), observer=Failing())

    def test_an_error_of_the_observer_is_raised_as_it_is_also_when_results_are_saved(
        self, color_package, video, tmp_path
    ):
        class Failing(Observer):
            def result(self, result, written):
                raise FileNotFoundError(2, "my own database")

        config = RunConfig(package=color_package, source=video, output=OutputOptions(save=tmp_path / "out"))
        with pytest.raises(FileNotFoundError, match="my own database"):
            execute(config, observer=Failing())

    def test_tiles_of_the_size_of_the_model(self, color_package, tmp_path):
        (tmp_path / "large.png").write_bytes(cv2.imencode(".png", color_scene(96, 128))[1].tobytes())
        observer = Recorder()
        execute(RunConfig(package=color_package, source=tmp_path / "large.png", tile="model"), observer=observer)
        (total,) = {total for _, _, total in observer.parts}
        assert observer.parts == [("tiles", done, total) for done in range(total + 1)] and total > 10

    def test_a_stop_gives_up_the_picture_in_hand(self, color_package, tmp_path):
        (tmp_path / "large.png").write_bytes(cv2.imencode(".png", color_scene(96, 128))[1].tobytes())
        stop = threading.Event()

        class Stopping(Recorder):
            def progress(self, what, done, total):
                super().progress(what, done, total)
                stop.set()

        observer = Stopping()
        config = RunConfig(package=color_package, source=tmp_path / "large.png", tile="model")
        summary = execute(config, observer=observer, stop=stop)
        assert (len(observer.parts), summary["processed"], summary["dropped"]) == (1, 0, 1)

    def test_a_status_is_kept(self, color_package, video, tmp_path):
        execute(RunConfig(package=color_package, source=video, status=str(tmp_path / "s.json")))
        assert json.loads((tmp_path / "s.json").read_text())["processed"] == FRAMES

    def test_a_model_that_is_none_is_named_before_anything_is_made(self, tmp_path, video):
        out = tmp_path / "out"
        with pytest.raises(ModelError, match="nothing"):
            execute(RunConfig(package=tmp_path / "nothing", source=video, output=OutputOptions(save=out)))
        assert not out.exists()


class TestConfig:
    BASE = RunConfig(package=Path("p"), source=0)

    def test_a_plain_one(self):
        assert (self.BASE.effect, self.BASE.tile, self.BASE.output.draws) == (None, None, False)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"effect": "blur"}, "--effect blur — is drawn nowhere — add --save DIR or --show"),
            ({"shapes": "rle"}, "--shapes — go into the JSON lines — add --json FILE"),
            (
                {"service": True, "output": OutputOptions(show=True)},
                "--service and --show — a service has no screen — leave one of them out",
            ),
            (
                {"json": "-", "output": OutputOptions(raw="-")},
                "--json - and --raw - — both want standard output — name a file for one of them",
            ),
            *(
                (
                    {"tile": tile, **change},
                    "--tile with --smooth or --edges soft — those need the whole picture at once — leave one of them out",
                )
                for tile in ("model", (64, 64))
                for change in ({"smooth": True}, {"edges": "soft"})
            ),
            ({"output": OutputOptions(limit_mb=5)}, "--keep-mb — limits what --save writes — add --save DIR"),
            ({"max_frames": 0}, "--max-frames 0 — expected a whole number from 1"),
            ({"threads": -1}, "--threads -1 — expected a whole number from 1"),
            ({"workers": 0}, "--workers 0 — expected a whole number from 1"),
            ({"edges": "sharp"}, "--edges sharp — expected hard or soft"),
            ({"shapes": "boxes", "json": "-"}, "--shapes boxes — expected polygons or rle"),
            ({"status_interval_s": float("inf")}, "--status-interval inf — expected seconds above 0"),
        ],
    )
    def test_contradictions(self, changes, message):
        with pytest.raises(UsageError) as caught:
            replace(self.BASE, **changes)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        "changes",
        [
            {"effect": "blur", "output": SAVED},
            {"shapes": "rle", "json": "x"},
            {"json": "-", "output": OutputOptions(raw="x")},
            {"tile": "model"},
            {"smooth": True, "edges": "soft"},
            {"output": replace(SAVED, limit_mb=5)},
        ],
    )
    def test_what_goes_together(self, changes):
        config = replace(self.BASE, **changes)
        assert all(getattr(config, name) == value for name, value in changes.items())

    @pytest.mark.parametrize(
        ("kind", "changes", "message"),
        [
            *(
                (
                    kind,
                    {"service": True},
                    "--service — is for cameras and streams, which come back — leave it out for files",
                )
                for kind in ("images", "video")
            ),
            (
                "images",
                {"smooth": True},
                "--smooth — averages over the frames of a video or camera — leave it out for images",
            ),
            *(
                (
                    kind,
                    {"workers": 2},
                    "--workers — are for a folder of images; frames of a video depend on their order — leave it out",
                )
                for kind in ("video", "live")
            ),
        ],
    )
    def test_what_does_not_go_with_the_source(self, color_package, video, folder, kind, changes, message):
        source = {"images": folder, "video": video, "live": 4711}[kind]
        config = RunConfig(package=color_package, source=source, **changes)
        with pytest.raises(UsageError) as caught:
            execute(config)
        assert str(caught.value) == message

    def test_an_opacity_out_of_range_whatever_the_effect(self, color_package):
        output = OutputOptions(show=True)
        with pytest.raises(UsageError, match=r"^opacity is 2 — expected 0 "):
            RunConfig(package=color_package, source=0, effect="blur", opacity=2, output=output)

    def test_a_limit_that_is_none(self):
        with pytest.raises(UsageError, match=r"^--keep-mb 0 — expected megabytes above 0$"):
            OutputOptions(limit_mb=0)

    def test_options_of_another_source(self, color_package, video):
        config = RunConfig(package=color_package, source=video, source_options=SourceOptions(camera_size=(480, 640)))
        with pytest.raises(UsageError, match=r"^camera size — is for a camera"):
            execute(config)

    def test_a_service_waits_for_ever_whatever_the_patience(self, color_package, tmp_path):
        """A camera that never comes is an error at once, but not for a service."""
        options = SourceOptions(patience=Patience(retry_first_s=0.01, give_up_s=0.05))
        config = RunConfig(package=color_package, source="http://127.0.0.1:9/", source_options=options, service=True)
        stop, attempts = threading.Event(), []

        class Waiting(Observer):
            period_s = 0.02

            def tick(self, statistics):
                attempts.append(statistics.processed)
                if len(attempts) == 20:
                    stop.set()

        assert execute(config, observer=Waiting(), stop=stop)["captured"] == 0
        assert len(attempts) >= 20


def test_only_commands_know_of_arguments():
    package = Path(edge_runtime.__file__).parent
    users = {
        path.relative_to(package).parts[0] for path in package.rglob("*.py") if "argparse" in path.read_text("utf-8")
    }
    assert users == {"cli.py", "commands"}
