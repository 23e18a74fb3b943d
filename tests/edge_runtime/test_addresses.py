"""Files and pictures behind http addresses, and sources that are named in unusual ways."""

import http.server
import io
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from colors import color_scene
from mjpeg import camera
from PIL import Image

from edge_runtime import EdgeUnetError, InputError, Segmenter, SourceError, UsageError, open_source
from edge_runtime.sources import LiveSource
from edge_runtime.sources.remote import content_of

PICTURE = color_scene()


@contextmanager
def served(answers):
    """A server that answers each path with a content type and bytes, to user "me" with password "p@ss"."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, data = answers.get(self.path.partition("?")[0], (None, b""))
            if self.path.startswith("/private") and self.headers.get("Authorization") != "Basic bWU6cEBzcw==":
                self.send_error(401)
                return
            if kind is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if not self.path.startswith("/unmeasured"):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def video(path: Path, frames: int = 12, code: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number % 256, np.uint8))
    writer.release()
    return path


class TestHttp:
    @pytest.mark.parametrize("path", ["/unmeasured", "/my clip", "/фильм"])
    def test_a_file_without_a_length_or_with_letters_in_its_address_is_whole(self, tmp_path, path):
        data = video(tmp_path / "v.mp4").read_bytes()
        with (
            served({quote(path): ("video/mp4", data)}) as host,
            open_source(f"http://{host}{path}") as source,
        ):
            assert source.kind == "video"  # reading a camera would not end
            assert len(list(source)) == 12

    def test_a_picture_without_a_length_is_one_picture(self):
        png = cv2.imencode(".png", PICTURE)[1].tobytes()
        with (
            served({"/unmeasured": ("image/png", png)}) as host,
            open_source(f"http://{host}/unmeasured") as source,
        ):
            assert source.kind == "images"
            assert len(list(source)) == 1

    @pytest.mark.parametrize("path", ["/download", "/a.bin?token=1", "/clip.wmv"])
    def test_a_video_is_read_once_and_whole_whatever_its_name(self, tmp_path, path):
        data = video(tmp_path / "v.avi", code="MJPG").read_bytes()
        with (
            served({path.partition("?")[0]: ("video/x-msvideo", data)}) as host,
            open_source(f"http://{host}{path}") as source,
        ):
            assert [frame.index for frame in source] == list(range(12))
        assert (source.kind, source.dropped) == ("video", 0)

    @pytest.mark.parametrize(("path", "name"), [("/snapshot.jpg", "snapshot"), ("/image", "image"), ("/", "picture")])
    def test_a_picture_is_one_picture(self, color_package, path, name):
        with served({path: ("image/jpeg", cv2.imencode(".jpg", PICTURE)[1].tobytes())}) as host:
            (result,) = Segmenter.load(color_package).stream(f"http://{host}{path}")
        assert (result.frame.name, result.segmentation.mask.shape) == (name, (48, 64))

    @pytest.mark.parametrize("name", ["a.gif", "a.tif"])
    def test_pictures_after_the_first_are_named(self, name):
        data = io.BytesIO()
        pages = [Image.new("RGB", (64, 48), color) for color in ("red", "blue", "green")]
        pages[0].save(data, Path(name).suffix[1:].replace("tif", "tiff"), save_all=True, append_images=pages[1:])
        with (
            served({f"/{name}": (f"image/{name[2:]}", data.getvalue())}) as host,
            open_source(f"http://{host}/{name}") as source,
        ):
            assert len(list(source)) == 1
            assert source.notes == [f"http://{host}/{name} — has 3 pages or frames, of which the first was read"]

    @pytest.mark.parametrize("kind", ["application/octet-stream", "binary/octet-stream", "text/plain"])
    def test_a_picture_that_is_served_as_bytes_is_a_picture(self, kind):
        turned = Image.Exif()
        turned[0x112] = 6
        data = io.BytesIO()
        Image.fromarray(PICTURE[..., ::-1]).save(data, "JPEG", exif=turned)
        with served({"/x": (kind, data.getvalue())}) as host, open_source(f"http://{host}/x") as source:
            (frame,) = source
        assert (source.kind, frame.image_bgr.shape) == ("images", (64, 48, 3))

    @pytest.mark.parametrize("name", ["recording", "animation"])
    def test_a_video_of_pictures_that_is_served_as_bytes_is_a_video(self, name):
        data = io.BytesIO(cv2.imencode(".jpg", PICTURE)[1].tobytes() * 5)
        if name == "animation":
            data = io.BytesIO()
            frames = [Image.new("RGB", (64, 48), (n, n, n)) for n in (0, 100, 200)]
            frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
        with served({f"/{name}": ("application/octet-stream", data.getvalue())}) as host:
            assert open_source(f"http://{host}/{name}").kind == "video"

    def test_a_damaged_picture_is_named(self):
        with (
            served({"/a.png": ("image/png", b"no picture")}) as host,
            open_source(f"http://{host}/a.png") as source,
            pytest.raises(InputError, match=rf"^http://{host}/a\.png — not an image"),
        ):
            list(source)

    def test_user_and_password_open_it_and_are_not_shown(self):
        with served({"/private": ("image/png", cv2.imencode(".png", PICTURE)[1].tobytes())}) as host:
            with open_source(f"http://me:p%40ss@{host}/private") as source:
                (frame,) = source
            assert (frame.source, frame.image_bgr.shape) == (f"http://{host}/private", PICTURE.shape)
            wrong = open_source(f"http://me:wrong@{host}/private")
            with pytest.raises(SourceError) as caught, wrong:
                next(iter(wrong))
        assert "wrong" not in str(caught.value) and caught.value.__cause__ is None

    def test_a_redirection_does_not_take_the_password_along(self):
        heard = []

        class Other(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                heard.append(self.headers.get("Authorization"))
                self.send_error(404)

            def log_message(self, *args):
                pass

        class Redirects(Other):
            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{other.server_port}/x")
                self.end_headers()

        with (
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other,
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as first,
        ):
            for server in (other, first):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            assert content_of(f"http://me:secret@127.0.0.1:{first.server_port}/", 5.0) is None
            for server in (other, first):
                server.shutdown()
        assert heard == [None]

    def test_a_playlist_is_a_stream_whatever_its_type(self):
        with served({"/live.m3u8": ("application/octet-stream", b"#EXTM3U\n")}) as host:
            assert content_of(f"http://{host}/live.m3u8", 5.0) == "stream"

    @pytest.mark.parametrize("path", ["/a%00b.png", "/a%0ab.png", "/..%2fb.png"])
    def test_a_name_in_an_address_is_a_plain_one(self, path):
        with (
            served({path: ("image/png", cv2.imencode(".png", PICTURE)[1].tobytes())}) as host,
            open_source(f"http://{host}{path}") as source,
        ):
            (frame,) = source
        assert frame.name.isprintable() and "/" not in frame.name

    def test_a_stream_is_a_camera(self):
        with camera() as server, open_source(server.url) as source:
            assert isinstance(source, LiveSource)
            assert next(iter(source)).image_bgr.shape == (48, 64, 3)


class TestNames:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def picture(self, name: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(cv2.imencode(".png", PICTURE)[1].tobytes())
        return name

    @pytest.mark.parametrize("name", ["2024", "007"])
    def test_a_folder_or_file_of_digits(self, here, name):
        self.picture(f"{name}/a.png")
        with open_source(name) as source:
            assert [frame.name for frame in source] == ["a"]

    @pytest.mark.parametrize("name", ["photo", "photo.old", "IMG.JPG~"])
    def test_a_picture_is_known_by_its_content(self, here, name):
        self.picture(name)
        assert open_source(name).kind == "images"

    @pytest.mark.parametrize("pattern", ["img_%03d.png", "img_%d.png", "./img_%03d.png"])
    def test_a_numbered_sequence(self, here, pattern):
        for name in ("img_010.png", "img_001.png", "img_x.png", "other.png"):
            self.picture(name)
        with open_source(pattern) as source:
            assert [frame.name for frame in source] == ["img_001", "img_010"]

    def test_a_sequence_is_in_the_order_of_its_numbers(self, here):
        for number in (1, 10, 2):
            self.picture(f"{number}.png")
        with open_source("%d.png") as source:
            assert [frame.name for frame in source] == ["1", "2", "10"]

    @pytest.mark.parametrize("source", ["img_%99999999999d.jpg", "9" * 5000, ["", "a.png"]])
    def test_odd_names_are_errors_of_ours(self, here, source):
        with pytest.raises(EdgeUnetError):
            open_source(source)

    def test_a_pattern_in_a_folder_with_brackets(self, here):
        self.picture("trip [1]/a.png")
        self.picture("trip 1/b.png")
        with open_source("trip [1]/*.png") as source:
            assert [frame.name for frame in source] == ["a"]

    def test_files_of_several_folders_keep_them(self, here):
        for name in ("in/day1/a.png", "in/day2/a.png", "in/b.png"):
            self.picture(name)
        with open_source("in/**/*.png") as source:
            assert [frame.name for frame in source] == ["b", "day1/a", "day2/a"]

    def test_forty_thousand_files_of_one_name(self, here):
        from edge_runtime.sources.images import _unique_names

        paths = [Path(f"{number}/image.jpg") for number in range(20_000)] + [Path("a/image.png")] * 20_000
        names = _unique_names(paths)
        assert (names[0], names[20_000], names[-1]) == ("0/image", "a/image", "a/image_20000")
        assert len(set(names)) == 40_000

    def test_a_list_is_its_pictures_in_order(self, here, color_package):
        sources = [self.picture("b.png"), Path(self.picture("more/a.png")).parent, self.picture("b.png")]
        found = [result.frame.source for result in Segmenter.load(color_package).stream(sources)]
        assert found == ["b.png", "more/a.png", "b.png"]

    def test_the_command_takes_several(self, here, color_package):
        sources = ["--source", self.picture("b.png"), "--source", self.picture("a.png")]
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime", "run", color_package, *sources],
            capture_output=True,
            text=True,
            check=False,
        )
        assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["b.png", "a.png"]

    @pytest.mark.parametrize("source", [["v.mp4"], ["http://h/a.jpg"], []])
    def test_a_list_of_something_else_is_refused(self, here, source):
        video(here / "v.mp4")
        with pytest.raises(UsageError, match=r"run videos, cameras and addresses one by one|an empty list"):
            open_source(source)

    def test_a_pattern_of_videos_says_that_they_are_videos(self, here):
        video(here / "v.mp4")
        with pytest.raises(InputError, match=r"no images found, but files that are not read \(1 video\)"):
            open_source("*.mp4")

    @pytest.mark.parametrize("source", [None, 1.5, True, PICTURE, {"a": 1}])
    def test_what_is_no_source_is_refused(self, source):
        with pytest.raises(UsageError, match=r"source — it is a \w+ — expected a camera index, a file"):
            open_source(source)

    def test_an_integer_of_numpy_is_a_camera(self):
        assert open_source(np.int64(97)).name == "camera 97"

    def test_an_address_from_a_file_of_secrets(self, here, color_package):
        environment = {**os.environ, "CAMERA": f"{self.picture('a.png')}\r\n"}
        command = [sys.executable, "-m", "edge_runtime", "run", color_package, "--source", "env:CAMERA"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, done.stdout.partition(":")[0]) == (0, "a.png"), done.stderr

    def test_pages_and_other_files_are_named(self, here, color_package):
        cv2.imwritemulti("in.tif", [PICTURE, PICTURE])
        for name in ("in/a.png", "in/b.HEIC", "in/c.heic", "in/notes.txt"):
            self.picture(name)
        video(here / "in" / "v.mp4")
        Path("in.tif").rename("in/pages.tif")
        command = [sys.executable, "-m", "edge_runtime", "run", color_package, "--source", "in"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "note: in — also holds files that are not read: 2 HEIC, 1 video" in done.stderr
        assert "note: in/pages.tif — has 2 pages or frames, of which the first was read" in done.stderr


def test_a_stream_that_is_left_open_does_not_abort_the_interpreter(tmp_path, color_package):
    path = video(tmp_path / "v.mp4", 200)
    program = "import sys; from edge_runtime import Segmenter; s = Segmenter.load(sys.argv[1]).stream(sys.argv[2]); next(s); sys.exit(3)"
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program, color_package, path], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.parametrize("copied", ["pickle.dumps", "copy.deepcopy", "copy.copy"])
def test_a_segmenter_says_why_it_cannot_be_copied(color_package, copied):
    module, _, function = copied.partition(".")
    with pytest.raises(
        TypeError, match=r"cannot be pickled or copied — call Segmenter\.load in the process that uses it"
    ):
        getattr(__import__(module), function)(Segmenter.load(color_package))


class TestPipes:
    JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()

    @pytest.mark.parametrize("source", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
    def test_a_path_of_standard_input(self, color_package, source):
        command = [sys.executable, "-m", "edge_runtime", "run", color_package, "--source", source]
        done = subprocess.run(command, input=self.JPEG * 3, capture_output=True, check=False)
        assert (done.returncode, b"3 frames" in done.stderr) == (0, True), done.stderr

    def test_a_substituted_process(self, tmp_path, color_package):
        (tmp_path / "jpegs").write_bytes(self.JPEG * 3)
        line = f'"$@" --source <(cat {tmp_path / "jpegs"})'
        command = ["bash", "-c", line, "bash", sys.executable, "-m", "edge_runtime", "run", color_package]
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, b"3 frames" in done.stderr) == (0, True), done.stderr

    def test_a_named_pipe_is_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with open_source(tmp_path / "pipe") as source:
            writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(self.JPEG * 3,))
            writer.start()
            assert [frame.index for frame in source] == [0, 1, 2]
            writer.join()
        assert source.name == str(tmp_path / "pipe")

    def test_a_named_pipe_whose_writer_failed_is_an_error(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with open_source(tmp_path / "pipe") as source, pytest.raises(InputError, match="ended before its first frame"):
            (tmp_path / "pipe").write_bytes(b"")
            list(source)

    def test_a_named_pipe_without_a_writer_can_be_left(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with open_source(tmp_path / "pipe") as source:
            source.stop()
            assert list(source) == []
