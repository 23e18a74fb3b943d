"""What a source is recognised as; frames from files, on disk and behind an address."""

import functools
import http.server
import os
import threading
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg import DEADLINE_S, camera, picture
from PIL import Image

from edge_runtime.errors import InputError, SourceError, UsageError
from edge_runtime.sources import SOURCES, Patience, Source, SourceOptions, open_source, redacted
from edge_runtime.sources.frame import decoded_frame


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """Serve the files of a folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


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
        assert [frame.name for frame in frames] == ["x/1", "y/1"]
        assert [frame.source for frame in frames] == [str(tmp_path / d / "1.png") for d in ("x", "y")]

    @pytest.mark.parametrize("target", ["z.jpg", "a.jpg/x.jpg", "x" * 300 + ".jpg"])
    def test_a_link_that_leads_nowhere_is_passed_over(self, tmp_path, target):
        write_images(tmp_path, ["a.jpg"])
        (tmp_path / "z.jpg").symlink_to(target)
        for name in (tmp_path, tmp_path / "*.jpg"):
            with open_source(name) as source:
                assert [frame.name for frame in source] == ["a"]

    def test_a_pattern_of_all_folders_takes_each_picture_once_whatever_leads_back(self, tmp_path):
        for folder, name in (("in", "a.jpg"), ("in/b", "c.jpg"), ("elsewhere", "d.jpg")):
            write_images(tmp_path / folder, [name])
        for name, target in (("again", "."), ("back", "../in"), ("aa", "b"), ("there", "../elsewhere")):
            (tmp_path / "in" / name).symlink_to(target)
        found = [str(path.relative_to(tmp_path)) for path in open_source(tmp_path / "in" / "**" / "*.jpg").files]
        assert found == ["in/a.jpg", "in/b/c.jpg", "in/there/d.jpg"]
        assert len(open_source(tmp_path / "**" / "b" / "**" / "*").files) == 1

    def test_a_folder_that_is_called_like_a_mask_is_in_nobody_s_way(self, tmp_path):
        write_images(tmp_path, ["a.jpg", "b.jpg"])
        write_images(tmp_path / "a.png", ["x.jpg"])
        with open_source(tmp_path / "**" / "*.jpg") as source:
            assert [frame.name for frame in source] == ["a_2", "a.png/x", "b"]

    def test_names_are_unique_also_in_another_case(self, tmp_path):
        write_images(tmp_path, ["A.png", "a.bmp", "a.jpg", "a_2.png"])
        with open_source(tmp_path) as source:
            assert [frame.name for frame in source] == ["A", "a_2", "a_3", "a_2_2"]

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


class TestFormats:
    def test_images_of_every_format_are_frames(self, tmp_path):
        folder = write_images(tmp_path, ["a.jp2", "b.webp", "c.tif", "d.ppm", "e.bmp"])
        (folder / "f.JFIF").write_bytes(cv2.imencode(".jpg", picture(1))[1].tobytes() + b"a video" * 999)
        Image.fromarray(picture(1)).save(folder / "g.gif")
        (folder / "notes.txt").write_text("")
        with open_source(folder) as source:
            frames = list(source)
        assert [frame.name for frame in frames] == list("abcdefg")
        assert {frame.image_bgr.shape for frame in frames} == {picture(1).shape}

    def test_a_gif_of_several_pictures_is_a_video(self, tmp_path):
        pictures = [Image.fromarray(picture(i)) for i in (0, 9, 20)]
        pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
        with open_source(tmp_path / "a.gif") as source:
            assert len(list(source)) == 3

    def test_a_format_that_is_not_read_is_named(self, tmp_path):
        (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        (tmp_path / "b.heic").touch()
        with pytest.raises(InputError, match=r"a\.HEIC — a HEIC file, which is not read — convert it to PNG or JPEG"):
            open_source(tmp_path / "a.HEIC")
        with pytest.raises(
            InputError, match=r"no images found, but files that are not read \(2 HEIC\) — expected JPEG, PNG"
        ):
            open_source(tmp_path)


class TestNotFound:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.png", "no such file or folder — check the path"),
            ("empty", "no images found — expected JPEG, PNG, BMP"),
            ("*.png", "no images found"),
            ("a.txt/x.png", "no such file"),
            ("x" * 300, "file name too long"),
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
        message = f"{path} — ended early {len(frames)}/60 frames — the file is truncated or damaged: copy it again"
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


class TestRemoteVideo:
    """A video behind an address is a video: in order, none lost, whatever time the consumer takes."""

    def test_every_frame_in_order(self, tmp_path):
        write_video(tmp_path / "film.avi", 30)
        with served(tmp_path) as url, open_source(f"{url}/film.avi?key=hunter2") as source:
            assert (source.kind, source.live, source.fps, source.total) == ("video", False, 20.0, 30)
            assert source.name == f"{url}/film.avi…"
            frames = []
            for frame in source:
                frames.append(frame)
                if frame.index < 3:
                    threading.Event().wait(0.05)  # time in which a live source would drop
        assert [frame.index for frame in frames] == list(range(30))
        assert [round(float(frame.image_bgr.mean()) / 4) for frame in frames] == list(range(30))
        assert (source.captured, source.dropped, source.failed, source.state) == (30, 0, 0, "closed")

    def test_leaving_early_counts_what_was_taken(self, tmp_path):
        write_video(tmp_path / "film.avi", 30)
        with served(tmp_path) as url, open_source(f"{url}/film.avi") as source:
            taken = list(islice(source, 5))
        assert (source.captured, source.dropped) == (len(taken), 0)

    def test_ends_early(self, tmp_path):
        path = write_video(tmp_path / "cut.avi", 60)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        frames = []
        with (
            served(tmp_path) as url,
            open_source(f"{url}/cut.avi") as source,
            pytest.raises(SourceError, match=r"cut\.avi — ended early \d+/60 frames — check the network") as caught,
        ):
            for frame in source:
                frames.append(frame)
        assert 10 < len(frames) < 50 and source.problems == [str(caught.value)]

    def test_not_there(self, tmp_path):
        with served(tmp_path) as url, pytest.raises(SourceError) as caught:
            open_source(f"{url.replace('//', '//bob:hunter2@')}/film.mp4").__enter__()
        assert (
            str(caught.value) == f"{url}/film.mp4 — cannot be opened — check the address, the network and the password"
        )
        assert caught.value.__cause__ is None and "hunter2" not in repr(caught.value.__context__)

    def test_a_server_that_says_nothing_does_not_hold_up_stopping(self):
        with camera(mode="stall") as server:
            source = open_source(f"{server.url}.mp4", SourceOptions(patience=Patience(open_s=DEADLINE_S)))
            threading.Timer(0.1, source.stop).start()
            with source:
                assert list(source) == []
            server.close()


class TestOptions:
    @pytest.mark.parametrize(
        "source", ["http://host/x", "rtsp://host/x.mp4", "https://host/live.m3u8", "http://[x/a.mp4"]
    )
    def test_streams(self, source):
        assert open_source(source).kind == "live"

    @pytest.mark.parametrize("source", ["http://host/x.mp4", "https://host/a/b.MKV?token=1"])
    def test_remote_videos(self, source):
        assert open_source(source).kind == "video"

    @pytest.mark.parametrize("source", [0, "0", "/dev/video77", "/dev/v4l/by-id/usb-x-index0", Path("/dev/video77")])
    def test_cameras_also_when_they_are_not_there(self, source):
        found = open_source(source, SourceOptions(camera_size=(480, 640)))
        assert found.live and found.name == f"camera {source}"

    def test_camera_size_of_no_camera(self):
        with pytest.raises(UsageError, match="camera size — is for a camera, and the source is none"):
            open_source("rtsp://host/x", SourceOptions(camera_size=(480, 640)))

    @pytest.mark.parametrize("options", [{"raw_size": (4, 4)}, {"live": True}])
    def test_options_of_standard_input(self, options):
        with pytest.raises(UsageError, match="raw size and live — are for frames on standard input"):
            open_source(0, SourceOptions(**options))

    @pytest.mark.parametrize(
        "source", ["-", "rtsp://host/x", "http://host/x.mp4", "nothing.png", "{folder}", "{video}"]
    )
    def test_options_of_another_source_are_refused_by_each(self, source, tmp_path):
        folder = write_images(tmp_path / "images", ["a.png"])
        (tmp_path / "x.avi").touch()
        source = source.format(folder=folder, video=tmp_path / "x.avi")
        with pytest.raises(UsageError, match=r"^camera size — is for a camera, and the source is none — leave it out$"):
            open_source(source, SourceOptions(camera_size=(480, 640)))
        if source != "-":
            with pytest.raises(UsageError, match=r"^raw size and live — are for frames on standard input — leave them"):
                open_source(source, SourceOptions(live=True))

    def test_a_limit_for_images(self, tmp_path):
        folder = write_images(tmp_path, ["a.png"])
        with open_source(folder, SourceOptions(max_pixels=5)) as source, pytest.raises(InputError, match="pixels"):
            list(source)

    def test_patience_is_checked(self):
        with pytest.raises(UsageError, match=r"^patience\.read_s — found 0 — expected seconds above 0$"):
            Patience(read_s=0)
        with pytest.raises(UsageError, match=r"^patience\.retry_jitter — found 1 — expected a share"):
            Patience(retry_jitter=1)


class Memory(Source):
    """A kind of source that is not ours."""

    def __iter__(self):
        for index in range(3):
            yield self._taken(decoded_frame(index, np.full((4, 4, 3), index, np.uint8), self.name, 0.0))


class TestRegistry:
    def test_another_kind_of_source_is_one_more_line(self, monkeypatch):
        def recognise(source, options):
            return Memory(source, "video") if str(source).startswith("memory:") else None

        monkeypatch.setattr("edge_runtime.sources.SOURCES", (recognise, *SOURCES))
        with open_source("memory:x") as source:
            assert [int(frame.image_bgr[0, 0, 0]) for frame in source] == [0, 1, 2]
        assert (source.name, source.captured) == ("memory:x", 3)
        assert open_source(0).kind == "live"

    def test_a_camera_goes_before_a_file_of_its_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("0", "-"):
            (tmp_path / name).touch()
        assert [open_source(source).name for source in ("0", "./0", "-")] == ["camera 0", "0", "standard input"]

    def test_frames_of_a_video_are_not_loaded_one_by_one(self):
        with pytest.raises(TypeError, match=r"^memory — frames of kind 'video' are not loaded one by one$"):
            Memory("memory", "video").load(0)


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
