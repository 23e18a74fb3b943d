"""Frames from files, and from a live stream: a small HTTP server in this process stands in for a camera."""

import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
from mjpeg import DEADLINE_S, camera, picture

from edge_runtime.errors import InputError, SourceError, UsageError
from edge_runtime.pipeline import stream
from edge_runtime.segmenter import Segmenter
from edge_runtime.sources import Timeouts, open_source, redacted

QUICK = Timeouts(open_s=1.0, read_s=1.0, stall_s=3.0)


def until(condition):
    """Poll: the deadline is for a broken program only, no test waits for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.005)


def grabbing():
    return any(thread.name == "edge-unet-grab" for thread in threading.enumerate())


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, picture(number * 10))[1].tobytes())
    return folder


def write_video(path, frames=30, fps=20.0, codec="MJPG", size=(48, 64)):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(picture(number * 4, size))
    writer.release()
    return path


class TestImages:
    def test_one_image(self, tmp_path):
        folder = write_images(tmp_path, ["Größe 1 – ü.png"])
        with open_source(folder / "Größe 1 – ü.png") as source:
            (frame,) = source
        assert (frame.index, frame.name, frame.source) == (0, "Größe 1 – ü", str(folder / "Größe 1 – ü.png"))
        assert frame.image_bgr.shape == (48, 64, 3)
        assert (source.live, source.kind, source.total, source.captured) == (False, "images", 1, 1)

    def test_folder_is_read_in_order_without_hidden_and_other_files(self, tmp_path):
        folder = write_images(tmp_path / "my pictures", ["b.png", "a.jpg", "C.PNG", ".hidden.png"])
        (folder / "notes.txt").write_text("no image")
        (folder / "inner.png").mkdir()
        with open_source(str(folder)) as source:
            assert [frame.name for frame in source] == ["C", "a", "b"]

    def test_glob_with_folders_in_it(self, tmp_path):
        write_images(tmp_path / "x", ["1.png", "2.jpg"])
        write_images(tmp_path / "y", ["1.png"])
        with open_source(str(tmp_path / "*" / "*.png")) as source:
            frames = list(source)
        assert [frame.name for frame in frames] == ["1", "1_2"]
        assert [frame.source for frame in frames] == [str(tmp_path / d / "1.png") for d in ("x", "y")]

    def test_names_are_unique_also_in_another_case(self, tmp_path):
        write_images(tmp_path / "x", ["a.png", "a_2.png"])
        write_images(tmp_path / "y", ["A.png"])
        with open_source(str(tmp_path / "**" / "*.png")) as source:
            assert [frame.name for frame in source] == ["a", "a_2", "A_3"]

    def test_brackets_in_a_name_are_no_pattern_when_the_file_is_there(self, tmp_path):
        folder = write_images(tmp_path, ["a[1].png"])
        with open_source(folder / "a[1].png") as source:
            assert [frame.name for frame in source] == ["a[1]"]

    def test_a_name_that_is_no_text(self, tmp_path):
        (tmp_path / os.fsdecode(b"\xff\n.png")).write_bytes(cv2.imencode(".png", picture(1))[1].tobytes())
        with open_source(tmp_path) as source:
            (frame,) = source
        assert frame.source == f"{tmp_path}/\\udcff\\n.png"

    def test_bad_files_are_passed_over_and_named_at_the_end(self, tmp_path):
        folder = write_images(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.png"])
        whole = (folder / "b.jpg").read_bytes()
        (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
        (folder / "c.jpg").write_bytes(b"")
        names = []
        with open_source(folder) as source, pytest.raises(InputError) as caught:
            for frame in source:
                names.append(frame.name)
        assert names == ["a", "d"]
        assert (source.captured, source.failed, source.dropped) == (4, 2, 0)
        assert str(caught.value) == (
            f"2 of 4 images cannot be used: {folder}/b.jpg — truncated JPEG (no end marker) — copy it again or remove it; "
            f"{folder}/c.jpg — empty file (0 bytes) — copy it again or remove it"
        )
        assert len(source.problems) == 2

    def test_a_single_bad_image_says_only_what_is_wrong(self, tmp_path):
        (tmp_path / "x.png").write_bytes(b"text")
        with open_source(tmp_path / "x.png") as source, pytest.raises(InputError, match=r"x\.png — not an image"):
            list(source)


class TestNotFound:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.png", "no such file or folder — check the path"),
            ("empty", "no images found — expected .bmp, .jpeg, .jpg"),
            ("*.png", "no images found"),
            ("a.txt/x.png", "no such file"),
            ("x" * 300, "file name too long"),
            ("pipe", "is no regular file"),
        ],
    )
    def test_says_what_is_missing(self, tmp_path, name, message):
        (tmp_path / "empty").mkdir()
        (tmp_path / "a.txt").write_text("")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError) as caught:
            open_source(tmp_path / name)
        assert message in str(caught.value) and name[:50] in str(caught.value)

    def test_unknown_address(self):
        with pytest.raises(UsageError, match=r"^source ftp://host/x — unknown kind of address — expected rtsp, rtsps"):
            open_source("ftp://me:secret@host/x")

    def test_empty_name(self):
        with pytest.raises(UsageError, match="is empty"):
            open_source("")

    @pytest.mark.parametrize("index", [4711, "4711"])
    def test_camera(self, index):
        with pytest.raises(SourceError, match=r"camera 4711 — cannot be opened — found .* in /dev — connect it"):
            open_source(index).__enter__()


class TestVideo:
    def test_every_frame_in_order(self, tmp_path):
        path = write_video(tmp_path / "ein Film – ü.avi", 30)
        with open_source(path) as source:
            assert (source.kind, source.live, source.fps, source.total) == ("video", False, 20.0, 30)
            frames = list(source)
        assert [frame.index for frame in frames] == list(range(30))
        assert frames[17].name == "000017"
        assert [round(float(frame.image_bgr.mean()) / 4) for frame in frames] == list(range(30))
        assert (source.captured, source.dropped, source.failed) == (30, 0, 0)

    def test_a_name_that_looks_like_a_protocol(self, tmp_path, monkeypatch):
        write_video(tmp_path / "http:x.mp4", 3, codec="mp4v")
        monkeypatch.chdir(tmp_path)
        with open_source("http:x.mp4") as source:
            assert len(list(source)) == 3

    def test_ends_early(self, tmp_path):
        path = write_video(tmp_path / "cut.avi", 60)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        frames = []
        with open_source(path) as source, pytest.raises(InputError) as caught:
            for frame in source:
                frames.append(frame)
        assert 10 < len(frames) < 50
        message = f"{path} — ended early {len(frames)}/60 frames — the file is truncated: copy it again"
        assert str(caught.value) == message and source.problems == [message]

    def test_a_count_that_is_off_by_a_frame_is_no_fault(self, tmp_path):
        # Recorders write the count before the last frames arrive, or after the first ones were lost.
        path = write_video(tmp_path / "x.avi", 30)
        data = path.read_bytes()
        assert data.count((30).to_bytes(4, "little")) == 2  # in the main and in the stream header
        path.write_bytes(data.replace((30).to_bytes(4, "little"), (32).to_bytes(4, "little")))
        with open_source(path) as source:
            assert source.total == 32
            assert len(list(source)) == 30

    def test_no_video(self, tmp_path):
        (tmp_path / "x.mp4").write_bytes(b"no video" * 100)
        with pytest.raises(InputError, match=r"x\.mp4 — cannot be opened as a video — damaged or an unknown format"):
            open_source(tmp_path / "x.mp4").__enter__()


class TestLive:
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

    def test_end_of_the_stream(self):
        with camera(stop_after=5) as server, open_source(server.url, QUICK) as source:
            with pytest.raises(SourceError) as caught:
                for _ in source:
                    pass
            assert str(caught.value) == (
                f"{server.url} — the stream ended after {source.captured} frames — check the camera and the network"
            )

    def test_stall(self):
        with camera(stop_after=5, stall=True) as server, open_source(server.url, QUICK) as source:
            frames = 0
            with pytest.raises(SourceError, match=r"no frame for \d+ s after \d+ frames — check the camera"):
                for _ in source:
                    frames += 1
            assert source.captured == frames + source.dropped >= 3

    def test_the_consumer_notices_a_stall_before_the_reader_does(self):
        timeouts = Timeouts(open_s=5.0, read_s=60.0, stall_s=0.5)
        with camera(stop_after=5, stall=True) as server:
            with (
                pytest.raises(SourceError, match=r"no frame for 0\.5 s — check the cable"),
                open_source(server.url, timeouts) as source,
            ):
                for _ in source:
                    pass
            assert grabbing(), "its thread is still in the read, and was left there"
            server.over.set()
            until(lambda: not grabbing())

    def test_a_server_that_says_nothing(self):
        with camera(silent=True) as server, pytest.raises(SourceError, match="cannot be opened — check the address"):
            open_source(server.url, QUICK).__enter__()

    def test_nobody_listens(self):
        with pytest.raises(SourceError) as caught:
            open_source("http://bob:hunter2@127.0.0.1:9/x?key=hunter2", QUICK).__enter__()
        assert str(caught.value).startswith("http://127.0.0.1:9/x… — cannot be opened")

    def test_closing_in_the_middle_of_a_read_returns(self):
        with camera(stop_after=3, stall=True) as server:
            with open_source(server.url, Timeouts(read_s=DEADLINE_S)) as source:
                next(iter(source))
            assert source.captured == 1 + source.dropped
            server.over.set()
            until(lambda: not grabbing())

    def test_threads_are_gone_after_closing(self):
        with camera() as server:
            for _ in range(3):
                with open_source(server.url) as source:
                    next(iter(source))
                until(lambda: not grabbing())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host:554/live/1", "rtsp://host:554/live/1"),
        ("rtsp://user:secret@host/live", "rtsp://host/live"),
        ("rtsp://user:se/cr?et#@x@host/live", "rtsp://host/live"),
        ("rtsp://host/user=admin_password=secret_channel=1.sdp", "rtsp://host/user…"),
        ("http://host/video.cgi?pwd=secret&res=1", "http://host/video.cgi…"),
        ("http://host/a#secret", "http://host/a…"),
        ("http://host/a\nb", "http://host/a\\nb"),
    ],
)
def test_addresses_are_printed_without_credentials(url, shown):
    assert redacted(url) == shown
