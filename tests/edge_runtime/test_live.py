"""Cameras and streams: a small HTTP server in this process stands in for a camera."""

import logging
import math
import os
import socket
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from mjpeg import DEADLINE_S, camera, until
from rtsp import rtsp_camera

from edge_runtime.errors import SourceError
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.stream import stream
from edge_runtime.sources import LiveSource, Patience, SourceOptions, live, open_source
from edge_runtime.sources.capture import lasting_name
from edge_runtime.sources.health import Events, PictureHealth

QUICK = Patience(open_s=2.0, read_s=0.5, retry_first_s=0.05, retry_limit_s=0.2, give_up_s=DEADLINE_S)


def grabbing():
    return sum(thread.name == "edge-unet-grab" for thread in threading.enumerate())


class Taker:
    """Takes frames in a thread, so that a test can look at the source meanwhile."""

    def __init__(self, source):
        self.indices = []
        self.flags = set()
        self.sizes = set()
        self.error = None
        self._thread = threading.Thread(target=self._take, args=(source,))
        self._source = source

    def _take(self, source):
        try:
            for frame in source:
                self.indices.append(frame.index)
                self.flags.update(frame.flags)
                self.sizes.add(frame.image_bgr.shape[:2])
        except SourceError as error:
            self.error = error

    def more(self, count=5):
        """Wait for so many further frames."""
        wanted = len(self.indices) + count
        until(lambda: len(self.indices) >= wanted)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._source.stop()
        self._thread.join()


class TestNewestFrame:
    def test_a_slow_consumer_gets_the_newest_frame_and_every_drop_is_counted(self):
        with camera() as server:
            with open_source(server.url) as source:
                assert (source.live, source.kind, source.total, source.name) == (True, "live", None, server.url)
                frames = iter(source)
                taken = [next(frames)]
                for _ in range(3):
                    wanted = source.captured + 10
                    until(lambda wanted=wanted: source.captured >= wanted)
                    newest = source.captured - 1
                    taken.append(next(frames))
                    assert taken[-1].index >= newest
                until(lambda: source.captured > taken[-1].index + 1)  # one is left over in the slot
            assert source.captured == len(taken) + source.dropped
            assert source.dropped >= 3 * 9 + 1
            assert source.reconnects == 0
            steps = [
                (b.index - a.index, round(float(b.image_bgr.mean() - a.image_bgr.mean())) % 256)
                for a, b in pairwise(taken)
            ]
            assert all(abs(index - number) <= 1 for index, number in steps), "pictures are those of their index"
            captured = source.captured
        assert source.captured == captured, "nothing is counted after the end"

    def test_a_frame_that_was_taken_never_changes(self):
        with camera(interval_s=0.002) as server, open_source(server.url) as source:
            taken, copies = [], []
            for frame in source:
                taken.append(frame.image_bgr)
                copies.append(frame.image_bgr.copy())
                wanted = source.captured + 3
                until(lambda wanted=wanted: source.captured >= wanted)
                if len(taken) == 20:
                    break
        assert all(np.array_equal(image, copy) for image, copy in zip(taken, copies, strict=True))
        assert source.dropped >= 2 * 20

    def test_segmenting_accounts_for_every_frame(self, color_package):
        segmenter = Segmenter.load(color_package)
        with camera() as server:
            with open_source(server.url) as source:
                processed = 0
                for _ in stream(segmenter, source):
                    processed += 1
                    if source.captured > 60:
                        break
            assert source.captured == processed + source.dropped + source.failed
            assert processed > 0

    def test_the_age_of_the_newest_frame(self):
        with camera(stop_after=10, then="stall") as server:
            source = open_source(server.url)
            assert (source.frame_age_s, source.state) == (None, "closed")
            with source:
                next(iter(source))
                until(lambda: source.frame_age_s > 0.1)
                assert source.state == "reading"
            assert source.state == "closed"


class TestOutages:
    @pytest.mark.parametrize("mode", ["stall", "close", "garbage", "noise", "gone"])
    def test_comes_back(self, mode, caplog):
        caplog.set_level(logging.INFO, "edge_runtime")
        with camera() as server:
            url = server.url.replace("//", "//bob:hunter2@") + "?key=hunter2"
            with open_source(url, SourceOptions(patience=QUICK)) as source, Taker(source) as taker:
                taker.more()
                server.do(mode)
                until(lambda: source.state in ("waiting", "opening"))
                server.do("serve")
                taker.more()
                assert source.state == "reading"
        assert source.reconnects >= 1 and taker.error is None
        assert source.stalls >= (mode == "stall")
        assert taker.indices == sorted(set(taker.indices))
        assert source.captured == len(taker.indices) + source.dropped + source.failed
        lines = [(record.levelname, record.getMessage()) for record in caplog.records if "black" not in record.message]
        assert [level for level, _ in lines] == ["WARNING", "INFO"]
        assert lines[0][1].endswith("— trying to open it again") and " — back after " in lines[1][1]
        assert "hunter2" not in caplog.text

    def test_any_number_of_outages_is_one_line_a_minute(self, caplog):
        with (
            camera() as server,
            open_source(server.url, SourceOptions(patience=QUICK)) as source,
            Taker(source) as taker,
        ):
            for _ in range(4):
                taker.more()
                server.do("close")
                until(lambda: source.state == "waiting")
                server.do("serve")
            taker.more()
            assert source.reconnects == 4
        assert caplog.text.count("trying to open it again") == 1

    def test_given_up_after_too_long(self):
        patience = Patience(retry_first_s=0.05, retry_limit_s=0.1, give_up_s=0.5)
        with (
            camera() as server,
            open_source(server.url, SourceOptions(patience=patience)) as source,
            Taker(source) as taker,
        ):
            taker.more()
            server.do("gone")
            until(lambda: taker.error)
        assert str(taker.error).startswith(f"{server.url} — no frame for ")
        assert " attempts to open it again — cannot be opened — check the address" in str(taker.error)
        assert source.captured == len(taker.indices) + source.dropped

    @pytest.mark.parametrize("mode", ["stall", "gone"])
    def test_stopping_ends_the_wait(self, mode):
        with (
            camera() as server,
            open_source(server.url, SourceOptions(patience=Patience())) as source,
            Taker(source) as taker,
        ):
            taker.more()
            server.do(mode)
            if mode == "gone":
                until(lambda: source.state == "waiting")
        assert taker.error is None

    def test_the_size_changes_within_the_stream(self):
        # FFmpeg's side of OpenCV scales what follows to the size that the stream began with.
        with (
            camera() as server,
            open_source(server.url, SourceOptions(patience=QUICK)) as source,
            Taker(source) as taker,
        ):
            taker.more()
            server.size = (96, 128)
            taker.more(20)
            assert (taker.sizes, source.reconnects) == ({(48, 64)}, 0)

    def test_it_comes_back_with_another_size(self, caplog):
        caplog.set_level(logging.INFO, "edge_runtime")
        with (
            camera() as server,
            open_source(server.url, SourceOptions(patience=QUICK)) as source,
            Taker(source) as taker,
        ):
            taker.more()
            server.do("close")
            until(lambda: source.state == "waiting")
            server.size = (96, 128)
            server.do("serve")
            until(lambda: (96, 128) in taker.sizes)
        assert caplog.text.count("the size changed from 64x48 to 128x96") == 1
        assert source.captured == len(taker.indices) + source.dropped

    def test_waits_are_longer_each_time(self):
        patience = Patience(retry_jitter=0)
        assert [patience.retry_wait_s(n) for n in (0, 1, 2, 3, 4, 5, 6, 100_000)] == [1, 2, 4, 8, 16, 30, 30, 30]

    def test_waits_are_spread(self):
        waits = {Patience().retry_wait_s(2) for _ in range(200)}
        assert len(waits) > 100 and min(waits) >= 0.8 * 4 and max(waits) <= 4


class TestAtTheStart:
    def test_a_server_that_says_nothing(self):
        with camera(mode="stall") as server, pytest.raises(SourceError) as caught:
            open_source(server.url, SourceOptions(patience=Patience(open_s=0.5))).__enter__()
        assert str(caught.value).startswith(f"{server.url} — cannot be opened — check the address")

    @pytest.mark.parametrize("scheme", ["http", "rtsp"])
    def test_nobody_listens(self, scheme):
        source = open_source(f"{scheme}://bob:hunter2@127.0.0.1:9/x?key=hunter2")
        with pytest.raises(SourceError) as caught:
            source.__enter__()
        assert str(caught.value).startswith(f"{scheme}://127.0.0.1:9/x… — cannot be opened")
        assert source.state == "closed"

    def test_a_service_waits_for_it(self):
        patience = Patience(retry_first_s=0.05, retry_limit_s=0.1, give_up_s=math.inf, retry_at_start=True)
        with camera() as server:
            server.do("gone")
            with open_source(server.url, SourceOptions(patience=patience)) as source, Taker(source) as taker:
                until(lambda: source.state == "waiting")
                assert (source.frame_age_s, source.reconnects) == (None, 0)
                server.do("serve")
                taker.more()
        assert source.reconnects == 0, "it had not been there before"

    def test_a_service_can_be_stopped_before_it_was_there(self):
        patience = Patience(give_up_s=math.inf, retry_at_start=True)
        with open_source("http://127.0.0.1:9/", SourceOptions(patience=patience)) as source, Taker(source) as taker:
            until(lambda: source.state == "waiting")
        assert (taker.indices, taker.error, source.captured) == ([], None, 0)


class TestRtsp:
    def test_plays_and_comes_back(self):
        with (
            rtsp_camera() as server,
            open_source(server.url, SourceOptions(patience=QUICK)) as source,
            Taker(source) as taker,
        ):
            taker.more(20)
            server.hang_up()
            until(lambda: source.state in ("waiting", "opening"))
            taker.more(20)
        assert source.reconnects >= 1 and taker.sizes == {(48, 64)}
        assert source.captured == len(taker.indices) + source.dropped

    def test_a_server_that_says_nothing_is_heard_no_longer_than_allowed(self):
        # OpenCV 4.11 waited for half a minute (opencv#27091); then the message would be that of the watch.
        with socket.create_server(("127.0.0.1", 0)) as server:
            source = open_source(
                f"rtsp://127.0.0.1:{server.getsockname()[1]}/x", SourceOptions(patience=Patience(open_s=1.0))
            )
            with pytest.raises(SourceError, match="cannot be opened — check the address"):
                source.__enter__()


class StuckCapture:
    """A capture whose driver hangs."""

    def __init__(self):
        self.go_on = threading.Event()
        self.released = 0

    def get(self, _):
        return 25.0

    def read(self, _):
        self.go_on.wait(DEADLINE_S)
        return True, np.zeros((48, 64, 3), np.uint8)

    def release(self):
        self.released += 1


class TestStuckThreads:
    PATIENCE = Patience(read_s=0.1, retry_first_s=0.01, retry_limit_s=0.01, give_up_s=DEADLINE_S)

    def test_a_stuck_read_is_replaced_and_cleans_up_when_it_wakes(self, monkeypatch):
        stuck = StuckCapture()
        opened = [stuck]
        open_url = live.open_url
        with camera(number=200) as server:
            monkeypatch.setattr(live, "open_url", lambda *a: opened.pop() if opened else open_url(*a))
            with open_source(server.url, SourceOptions(patience=self.PATIENCE)) as source, Taker(source) as taker:
                taker.more()
                assert source.stalls >= 1 and not stuck.released
                stuck.go_on.set()
                until(lambda: stuck.released == 1)
                taker.more()
        assert "black" not in taker.flags, "what it still brings is ignored"
        assert source.captured == len(taker.indices) + source.dropped

    def test_never_more_than_a_few(self, monkeypatch):
        captures = []

        def open_url(*_):
            captures.append(StuckCapture())
            return captures[-1]

        monkeypatch.setattr(live, "open_url", open_url)
        with open_source("http://host/", SourceOptions(patience=self.PATIENCE)) as source, Taker(source) as taker:
            until(lambda: source.stalls == 4)
            threading.Event().wait(0.3)
            assert (len(captures), grabbing(), source.state) == (4, 4, "waiting")
            captures[0].go_on.set()
            until(lambda: len(captures) == 5)
            source.stop()
            for capture in captures:
                capture.go_on.set()
        until(lambda: not grabbing())
        assert [capture.released for capture in captures] == [1] * 5
        assert (taker.indices, source.captured) == ([], 0), "frames that come too late do not count"

    def test_an_opening_that_hangs(self, monkeypatch):
        go_on = threading.Event()
        monkeypatch.setattr(live, "open_url", lambda *_: go_on.wait(DEADLINE_S) and StuckCapture())
        with pytest.raises(SourceError, match=r"^http://host/ — does not open within 0\.3 s — check the camera"):
            open_source("http://host/", SourceOptions(patience=Patience(open_s=0.2))).__enter__()
        go_on.set()
        until(lambda: not grabbing())

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_dies_is_no_silence(self, monkeypatch):
        monkeypatch.setattr(PictureHealth, "flags", lambda *_: 1 / 0)
        died = pytest.raises(SourceError, match="the reading thread died — the traceback above says why")
        with camera() as server, died, open_source(server.url) as source:
            list(source)


class TestClosing:
    def test_in_the_middle_of_a_read_it_returns(self):
        with camera(stop_after=3, then="stall") as server:
            with open_source(
                server.url, SourceOptions(patience=Patience(read_s=DEADLINE_S, retry_at_start=True))
            ) as source:
                next(iter(source))
            assert source.captured == 1 + source.dropped
            server.over.set()
            until(lambda: not grabbing())

    def test_threads_are_gone(self):
        with camera() as server:
            for _ in range(3):
                with open_source(server.url) as source:
                    next(iter(source))
                until(lambda: not grabbing())

    @pytest.mark.parametrize("closed", [True, False])
    def test_a_thread_left_behind_does_not_crash_the_interpreter(self, closed):
        # Native code that comes back while the interpreter is taken down aborts the process; see SlotSource.
        program = f"""
import sys, time
from edge_runtime.sources import Patience, SourceOptions, open_source
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.5)
slow = Slow()  # taken down late, with the module
source = open_source(sys.argv[1], SourceOptions(patience=Patience(read_s=0.9, retry_at_start=True))).__enter__()
next(iter(source))
if {closed}:
    source.__exit__()
"""
        quiet = dict(os.environ, OPENCV_LOG_LEVEL="SILENT", OPENCV_FFMPEG_LOGLEVEL="-8")
        with camera(stop_after=3, then="stall", number=200) as server:
            command = [sys.executable, "-c", program, server.url]
            child = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=quiet)
        assert (child.returncode, child.stderr) == (0, "")


class TestPictures:
    def test_black(self, caplog):
        with camera(number=3) as server, open_source(server.url) as source:
            assert next(iter(source)).flags == ("black",)
            assert caplog.text.count("the picture is black") == 1

    def test_frozen(self, caplog):
        with (
            camera(number=200) as server,
            open_source(server.url, SourceOptions(patience=Patience(frozen_s=0.3))) as source,
        ):
            frames = iter(source)
            assert next(frames).flags == ()
            until(lambda: next(frames).flags == ("frozen",))
            server.number = None
            until(lambda: next(frames).flags == ())
        assert caplog.text.count("frozen: the same picture for 0.3 s") == 1

    def test_a_dark_room_with_a_lamp_and_a_covered_lens_with_a_clock(self):
        health = PictureHealth(10.0, Events("x"))
        picture = np.full((480, 640, 3), 10, np.uint8)
        picture[:16, :100] = 255
        assert health.flags(picture, 0.0) == ("black",)
        picture[200:300, 200:300] = 255
        assert health.flags(picture, 0.1) == ()


class TestCameras:
    def test_a_name_that_outlasts_unplugging(self, tmp_path):
        (tmp_path / "video2").touch()
        (tmp_path / "other").touch()
        (tmp_path / "by-id").mkdir()
        (tmp_path / "by-path").mkdir()
        (tmp_path / "by-id" / "usb-other").symlink_to("../other")
        (tmp_path / "by-path" / "pci-1").symlink_to("../video2")
        folders = (str(tmp_path / "by-id"), str(tmp_path / "by-path"), str(tmp_path / "none"))
        assert lasting_name(tmp_path / "video2", folders) == tmp_path / "by-path" / "pci-1"
        (tmp_path / "by-id" / "usb-cam").symlink_to("../video2")
        assert lasting_name(tmp_path / "video2", folders) == tmp_path / "by-id" / "usb-cam"
        assert lasting_name(tmp_path / "video3", folders) is None

    @pytest.mark.parametrize(("asked", "said"), [((480, 640), 1), ((48, 64), 0)])
    def test_another_size_than_asked_for_is_said_once(self, asked, said, monkeypatch, caplog):
        with camera() as server:
            opened = []

            def open_camera(target, size):
                opened.append((target, size))
                return live.open_url(server.url, QUICK, 0.5)

            monkeypatch.setattr(live, "open_camera", open_camera)
            source = open_source("7", SourceOptions(patience=QUICK, camera_size=asked))
            assert isinstance(source, LiveSource)
            with source, Taker(source) as taker:
                taker.more()
                server.do("close")
                until(lambda: len(opened) == 2)
                server.do("serve")
                taker.more()
        assert opened[:2] == [(7, asked)] * 2
        assert caplog.text.count("camera 7 — asked for 640x480, got 64x48") == said
