"""Whole videos are not called truncated, and cut ones not whole; overlays keep the times of their source."""

import json
import os
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from edge_runtime import InputError, OutputOptions, RunConfig, execute, open_source
from edge_runtime.sinks import VideoFile
from edge_runtime.sources.containers import read_container
from edge_runtime.sources.frame import decoded_frame

FRAMES = 30


def video(path: Path, code: str = "mp4v", fps: float = 10, frames: int = FRAMES) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    writer.release()
    return path


def trimmed(path: Path, start: int, length: int) -> Path:
    """Show ``length`` of the frames of an MP4 of 10 frames per second, by an edit list."""
    data = bytearray(path.read_bytes())
    edits, media = data.find(b"elst"), data.find(b"mdhd")
    (scale,) = struct.unpack_from(">I", data, media + 16)
    struct.pack_into(">II", data, edits + 12, 100 * length, start * scale // 10)
    path.write_bytes(data)
    return path


def slowed(path: Path) -> Path:
    """Give an MP4 of 10 frames per second a variable rate: the second half at one frame per second."""
    data = bytearray(path.read_bytes())
    times = data.find(b"stts")
    (count,) = struct.unpack_from(">I", data, times + 8)
    assert count == 1
    number, step = struct.unpack_from(">II", data, times + 12)
    table = struct.pack(">IIIII", 2, number // 2, step, number - number // 2, 10 * step)
    data[times + 8 : times + 20] = table
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        place = data.find(name) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + 8)
    edits = data.find(b"elst")
    struct.pack_into(">I", data, edits + 12, 1000 * 17)  # 1.5 s and 15 s, and a little more
    path.write_bytes(data)
    return path


def read(path: Path) -> list[float]:
    with open_source(path) as source:
        return [frame.time_s for frame in source if frame.time_s is not None]


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.avi"])
class TestEveryContainer:
    CODES = {"v.avi": "MJPG", "v.mkv": "mp4v", "v.mov": "mp4v", "v.mp4": "mp4v"}

    def test_a_whole_file_is_whole(self, tmp_path, name):
        path = video(tmp_path / name, self.CODES[name])
        assert not read_container(path).cut
        assert read(path) == pytest.approx([number / 10 for number in range(FRAMES)], abs=1e-3)

    def test_a_cut_file_is_named_after_its_frames(self, tmp_path, name):
        path = video(tmp_path / name, self.CODES[name])
        if name in ("v.mp4", "v.mov"):  # its index is at the end, without which nothing is read
            path.write_bytes(with_index_first(path.read_bytes()))
            assert len(read(path)) == FRAMES
        os.truncate(path, path.stat().st_size * 6 // 10)
        assert read_container(path).cut
        with (
            open_source(path) as source,
            pytest.raises(InputError, match=r"ended early \d+/30 frames — the file is truncated or damaged"),
        ):
            list(source)
        assert 0 < source.captured < FRAMES


def with_index_first(data: bytes) -> bytes:
    """Move the index of an MP4 before the pictures, as "fast start" does."""
    boxes, position = {}, 0
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        boxes[name], position = data[position : position + length], position + length
    index = bytearray(boxes[b"moov"])
    place = index.find(b"stco")
    (count,) = struct.unpack_from(">I", index, place + 8)
    before = data.find(b"mdat") - 4
    shift = len(boxes[b"ftyp"]) + len(index) - before
    offsets = struct.unpack_from(f">{count}I", index, place + 12)
    struct.pack_into(f">{count}I", index, place + 12, *(offset + shift for offset in offsets))
    return boxes[b"ftyp"] + bytes(index) + boxes[b"mdat"]


class TestEditList:
    @pytest.mark.parametrize(("start", "length"), [(0, 30), (10, 10), (5, 25)])
    def test_its_frames_are_all_frames(self, tmp_path, start, length):
        path = trimmed(video(tmp_path / "v.mp4"), start, length)
        assert read_container(path).frames == length
        assert len(read(path)) == length

    def test_missing_ones_are_still_missed(self, tmp_path):
        path = trimmed(video(tmp_path / "v.mp4"), 0, 30)
        data = bytearray(path.read_bytes())
        middle = data.find(b"mdat") + (data.find(b"moov") - data.find(b"mdat")) // 2
        data[middle : data.find(b"moov") - 4] = bytes(data.find(b"moov") - 4 - middle)
        path.write_bytes(data)
        with open_source(path) as source, pytest.raises(InputError, match="truncated or damaged"):
            list(source)


class TestVariableRate:
    def test_times_are_those_of_the_frames(self, tmp_path):
        times = read(slowed(video(tmp_path / "v.mp4")))
        assert times[:3] == pytest.approx([0, 0.1, 0.2], abs=0.01)
        assert times[-1] == pytest.approx(1.5 + 14, abs=0.1)

    def test_the_overlay_lasts_as_long_and_the_lines_have_the_times(self, tmp_path, color_package):
        path = slowed(video(tmp_path / "v.mp4"))
        config = RunConfig(
            package=color_package,
            source=path,
            output=OutputOptions(save=tmp_path / "out"),
            json=str(tmp_path / "r.jsonl"),
        )
        assert execute(config)["processed"] == FRAMES
        times = [json.loads(line).get("time_s") for line in (tmp_path / "r.jsonl").read_text().splitlines()[:-1]]
        assert times == pytest.approx(read(path), abs=1e-5)
        overlay = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
        seconds = overlay.get(cv2.CAP_PROP_FRAME_COUNT) / overlay.get(cv2.CAP_PROP_FPS)
        overlay.release()
        assert seconds == pytest.approx(times[-1], abs=0.5)
        assert len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES

    def test_a_few_frames_keep_their_times_too(self, tmp_path, color_package):
        # They are written when the run has ended, which is no interruption.
        path = slowed(video(tmp_path / "v.mp4", frames=6))
        execute(RunConfig(package=color_package, source=path, output=OutputOptions(save=tmp_path / "out")))
        frames = read_container(tmp_path / "out" / "overlay.mp4").frames
        assert frames is not None and frames > 20

    def test_a_constant_rate_is_not_touched(self, tmp_path, color_package):
        path = video(tmp_path / "v.mp4", fps=29.97)
        execute(RunConfig(package=color_package, source=path, output=OutputOptions(save=tmp_path / "out")))
        assert read_container(tmp_path / "out" / "overlay.mp4").frames == FRAMES

    def test_a_rate_above_240_is_kept(self, tmp_path, color_package):
        path = video(tmp_path / "v.mp4", fps=480)
        execute(RunConfig(package=color_package, source=path, output=OutputOptions(save=tmp_path / "out")))
        overlay = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
        assert overlay.get(cv2.CAP_PROP_FPS) == pytest.approx(480, rel=0.01)
        overlay.release()


class TestNothingToShow:
    def test_a_codec_that_is_not_decoded_is_named(self, tmp_path):
        path = video(tmp_path / "v.mp4")
        data = path.read_bytes()
        place = data.find(b"moov")
        path.write_bytes(data[:place] + data[place:].replace(b"mp4v", b"av01").replace(b"esds", b"av1C"))
        with (
            pytest.raises(InputError, match=r"no frame can be decoded \(codec AV01\) — .* convert it to H\.264"),
            open_source(path) as source,
        ):
            list(source)

    @pytest.mark.parametrize(
        "arguments", [["--source", "-"], ["--source", "-", "--raw-size", "4x4"], ["--source", "-", "--json", "-"]]
    )
    def test_an_empty_input_is_an_error(self, color_package, arguments):
        command = [sys.executable, "-m", "edge_runtime", "run", color_package, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert (
            done.stderr.splitlines()[-1]
            == "edge-unet: standard input — ended before its first frame — check the writer: did it fail?"
        )

    def test_a_name_that_is_no_text_is_one_line(self, tmp_path, color_package):
        path = os.fsencode(video(tmp_path / "v.mp4"))
        bad = path.replace(b"v.mp4", b"caf\xe9.mp4")
        os.rename(path, bad)  # noqa: PTH104 - bytes
        picture = tmp_path / "a.png"
        picture.write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
        for options in (
            [b"--source", bad],
            [b"--source", bytes(picture), b"--effect", b"replace=" + bad, b"--save", os.fsencode(tmp_path / "out")],
        ):
            command = [sys.executable, "-m", "edge_runtime", "run", color_package, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, "OpenCV cannot take this name" in done.stderr) == (3, True), done.stderr

    def test_a_folder_for_results_whose_name_is_no_text(self, tmp_path, color_package):
        out = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")
        config = RunConfig(package=color_package, source=video(tmp_path / "v.mp4"), output=OutputOptions(save=out))
        with pytest.raises(Exception, match="OpenCV cannot take this name") as caught:
            execute(config)
        assert caught.type.__name__ == "StorageError"


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"\0\0\0\x18ftypmp42", b"\x1a\x45\xdf\xa3", b"\0\0\0\x08moov", b"\0\0\0\x01ftyp\0\0"]
)
def test_a_container_that_does_not_parse_says_nothing(tmp_path, data):
    (tmp_path / "v").write_bytes(data)
    assert read_container(tmp_path / "v").frames is None


class TestWhatCamerasWrite:
    @pytest.mark.parametrize("trailer", [b"\xf1\x02" * 60, b"\0\0\0\x01\xff\xff\xff\xff", bytes(20)])
    def test_bytes_behind_the_last_box_are_no_cut(self, tmp_path, trailer):
        path = video(tmp_path / "v.mp4")
        path.write_bytes(path.read_bytes() + trailer)
        assert len(read(path)) == FRAMES

    def test_a_cut_box_behind_the_frames_is_no_loss(self, tmp_path):
        path = video(tmp_path / "v.mp4")
        path.write_bytes(path.read_bytes() + b"\0\0\x10\0free" + bytes(100))
        assert len(read(path)) == FRAMES

    @pytest.mark.parametrize("name", ["cam.mjpeg", "cam.mjpg", "cam.bin", "cam"])
    def test_a_recording_of_jpegs_is_a_video(self, tmp_path, name):
        jpegs = [cv2.imencode(".jpg", np.full((48, 64, 3), 40 * n, np.uint8))[1].tobytes() for n in range(3)]
        (tmp_path / name).write_bytes(b"".join(jpegs))
        with open_source(tmp_path / name) as source:
            assert (source.kind, len(list(source))) == ("video", 3)


class TestRate:
    def overlay(self, folder, times, fps=25.0):
        """Write a frame at each time; gives rate and number of frames of the video."""
        out = VideoFile(folder / "o.mp4", fps)
        for index, time_s in enumerate(times):
            picture = np.full((16, 16, 3), index % 256, np.uint8)
            out.write(replace(decoded_frame(index, picture, "x", 0.0), time_s=time_s), picture)
        out.close()
        capture = cv2.VideoCapture(str(folder / "o.mp4"))
        found = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return found

    def test_a_few_bunched_frames_do_not_set_it(self, tmp_path):
        times = [0, 0.001, 0.002, 0.003, *(0.1 + n / 30 for n in range(60))]
        fps, count = self.overlay(tmp_path, times, 30.0)
        assert fps == pytest.approx(30, rel=0.01) and count < 80

    @pytest.mark.parametrize("gap", [1 / 714.29, 1 / 796.7, 1 / 655.4, 1e-6])
    def test_any_rate_is_one_that_the_codec_takes(self, tmp_path, gap):
        fps, count = self.overlay(tmp_path, [n * gap for n in range(20)])
        assert 600 < fps <= 1000 and count == 20

    def test_frames_without_times_have_the_nominal_rate(self, tmp_path):
        assert self.overlay(tmp_path, [None] * 20) == (25.0, 20)

    def test_a_pause_ends_when_the_run_does(self, tmp_path):
        stop = threading.Event()
        out = VideoFile(tmp_path / "o.mp4", 25.0, stop=stop)
        picture = np.zeros((16, 16, 3), np.uint8)
        for index in range(10):
            out.write(replace(decoded_frame(index, picture, "x", 0.0), time_s=index / 25), picture)
        stop.set()
        out.write(replace(decoded_frame(10, picture, "x", 0.0), time_s=500.0), picture)
        out.close()
        assert out.written == 11


FORMATS = {
    "gif": (),
    "flv": (),
    "wmv": (),
    "ogv": ("-c:v", "libtheora"),
    "y4m": ("-pix_fmt", "yuv420p"),
    "mjpeg": ("-c:v", "mjpeg"),
    "ts": ("-c:v", "mpeg2video"),
}


@pytest.fixture(scope="module", params=FORMATS)
def streamed(request, tmp_path_factory):
    """A video of 30 frames, 65 pixels wide, in a container without an index."""
    path = tmp_path_factory.mktemp("streamed") / f"v.{request.param}"
    source = ("-f", "lavfi", "-i", "testsrc=size=66x49:rate=25", "-frames:v", "30")
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *source, *FORMATS[request.param], path)
    subprocess.run(command, check=True)
    return path


class TestStreams:
    def test_a_whole_one_is_whole(self, streamed):
        assert not read_container(streamed).cut
        assert len(read(streamed)) == 30

    def test_one_that_ends_within_a_unit_is_cut(self, streamed, tmp_path):
        data = streamed.read_bytes()
        for share in (0.4, 0.61, 0.83, 0.97):
            # TS has units of 188 bytes: it cannot be told that whole ones are missing.
            length = int(share * len(data)) // 188 * 188 + 100
            cut = tmp_path / f"{share}{streamed.suffix}"
            cut.write_bytes(data[:length])
            assert read_container(cut).cut, share
        with pytest.raises(InputError, match=r"ended early|no frame can be decoded"):
            read(cut)

    @pytest.mark.parametrize("colors", ["gray", "yuv444p", "yuv422p10le", "yuv420p12le", "gray10le"])
    def test_raw_frames_of_any_depth_are_whole(self, tmp_path, colors):
        path = tmp_path / "v.y4m"
        source = ("-f", "lavfi", "-i", "testsrc=size=65x49:rate=25", "-frames:v", "3", "-strict", "-1")
        command = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *source, "-pix_fmt", colors, path)
        subprocess.run(command, check=True)
        assert not read_container(path).cut
        path.write_bytes(path.read_bytes()[:-1])
        assert read_container(path).cut
