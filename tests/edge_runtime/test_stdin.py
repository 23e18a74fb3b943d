"""Frames on standard input: pipes and files in memory stand in for it."""

import io
import itertools
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from mjpeg import DEADLINE_S, picture, until

from edge_runtime.errors import InputError, UsageError
from edge_runtime.sources import SourceOptions, StdinSource, open_source
from edge_runtime.sources.jpegs import JpegSplitter


def jpeg(number, size=(48, 64), *options):
    return cv2.imencode(".jpg", picture(number, size), options)[1].tobytes()


def segment(marker, data):
    return b"\xff" + bytes([marker]) + (len(data) + 2).to_bytes(2) + data


def noisy(seed, *options):
    """A JPEG with many stuffed bytes in its scan."""
    return cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8), options)[
        1
    ].tobytes()


RESTARTS = (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


@contextmanager
def pipe():
    """Yield the end to read as a descriptor, and the one to write as a file."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", buffering=0) as file:
        try:
            yield reader, file
        finally:
            os.close(reader)


def split(data, step=None):
    splitter = JpegSplitter()
    step = step or len(data) or 1
    files = [file for at in range(0, len(data), step) for file in splitter.feed(data[at : at + step])]
    left = splitter.finish()
    return files, splitter.garbage, left


class TestSplitter:
    FILES = [jpeg(1), noisy(0), noisy(1, *RESTARTS), noisy(2, *PROGRESSIVE), jpeg(200)]

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, None])
    def test_files_come_out_as_they_went_in(self, step):
        assert split(b"".join(self.FILES), step) == (self.FILES, 0, 0)

    @pytest.mark.parametrize("step", [1, None])
    def test_a_thumbnail_inside_a_segment(self, step):
        whole = jpeg(5)
        file = whole[:2] + segment(0xE1, b"Exif\0\0" + jpeg(9, (16, 16))) + whole[2:]
        assert split(file + file, step) == ([file, file], 0, 0)

    def test_fill_bytes_before_markers(self):
        whole = jpeg(5)
        file = whole[:2] + b"\xff\xff" + whole[2:-2] + b"\xff\xff" + whole[-2:]
        assert split(file + whole) == ([file, whole], 0, 0)

    @pytest.mark.parametrize(
        "between",
        [
            b"",
            b"\0" * 512,
            b"\r\n",
            b"\xff\xff",
            b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 77\r\n\r\n",
        ],
    )
    def test_padding_and_multipart_heads_are_no_garbage(self, between):
        assert split(between.join([b"", *self.FILES, b""]), 100) == (self.FILES, 0, 0)

    @pytest.mark.parametrize("step", [50, 1000, None])
    @pytest.mark.parametrize("garbage", [b"garbage", b"x" * 200_000])
    def test_garbage_counts_once_and_the_next_file_is_found(self, garbage, step):
        data = garbage + self.FILES[0] + garbage + self.FILES[1] + garbage
        assert split(data, step) == (self.FILES[:2], 3, 0)

    @pytest.mark.parametrize("cut", [20, 30, 200, 400, 700, -1])
    def test_a_file_that_is_cut_short_costs_only_itself(self, cut):
        first, second, third = jpeg(5), noisy(3), noisy(4)
        assert split(first + second[:cut] + third + first) == ([first, third, first], 1, 0)

    def test_the_thumbnail_of_a_damaged_file_is_no_frame(self):
        whole = noisy(5)
        damaged = whole[:2] + segment(0xE1, jpeg(9, (16, 16))) + b"oops" + whole[2:]
        assert split(damaged + whole) == ([whole], 1, 0)

    def test_the_rest_at_the_end(self):
        assert split(jpeg(1) + jpeg(2)[:100]) == ([jpeg(1)], 0, 100)
        assert split(jpeg(1) + b"xyz") == ([jpeg(1)], 1, 0)
        assert split(b"") == ([], 0, 0)

    def test_a_file_without_end_does_not_fill_the_memory(self, monkeypatch):
        monkeypatch.setattr("edge_runtime.sources.jpegs._MAX_JPEG_BYTES", 10_000)
        endless = jpeg(1)[:-2] + b"\x55" * 30_000
        assert split(endless + jpeg(2), 1000) == ([jpeg(2)], 1, 0)

    def test_any_bytes(self):
        rng = np.random.default_rng(0)
        whole = b"".join(self.FILES)
        for _ in range(300):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), 20):
                data[at] = rng.integers(0, 256)
            at = int(rng.integers(1, 3000))
            assert split(bytes(data), at) == split(bytes(data)), "however the bytes arrive"


class TestVideo:
    def test_jpegs_every_one_in_order(self):
        with pipe() as (reader, writer):
            source = StdinSource(reader)
            writing = threading.Thread(target=lambda: [writer.write(jpeg(n * 4)) for n in range(40)] and writer.close())
            writing.start()
            with source:
                frames = []
                for frame in source:
                    frames.append(frame)
                    if frame.index < 3:
                        threading.Event().wait(0.05)
            writing.join()
        assert (source.name, source.kind, source.live, source.total) == ("standard input", "video", False, None)
        assert [frame.index for frame in frames] == list(range(40))
        assert [round(float(frame.image_bgr.mean()) / 4) for frame in frames] == list(range(40))
        assert frames[7].name == "000007" and frames[7].source == "standard input" and frames[7].decode_ms > 0
        assert (source.captured, source.dropped, source.failed, source.problems) == (40, 0, 0, [])

    def test_raw_frames(self):
        wanted = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
        with StdinSource(io.BytesIO(wanted.tobytes()), raw_size=(48, 64)) as source:
            frames = list(source)
        assert np.array_equal([frame.image_bgr for frame in frames], wanted)
        assert frames[0].image_bgr.dtype == np.uint8 and len({id(frame.image_bgr) for frame in frames}) == 20
        assert (source.captured, source.dropped, source.failed) == (20, 0, 0)

    @pytest.mark.parametrize(
        ("tail", "raw_size", "message"),
        [
            (picture(1).tobytes()[:1000], (48, 64), "1000 of 9216 bytes — check the writer and --raw-size"),
            (jpeg(1)[:200], None, "200 bytes of a JPEG — check the writer"),
        ],
    )
    def test_a_frame_that_is_cut_short_is_named_after_all_others(self, tail, raw_size, message):
        whole = jpeg(7) if raw_size is None else picture(7).tobytes()
        frames = []
        source = StdinSource(io.BytesIO(whole * 3 + tail), raw_size=raw_size)
        with source, pytest.raises(InputError) as caught:
            for frame in source:
                frames.append(frame.index)
        assert frames == [0, 1, 2]
        assert str(caught.value).startswith(f"standard input, frame 3 — ended in the middle of it: {message}")
        assert (source.captured, source.failed, source.problems) == (4, 1, [str(caught.value)])

    @pytest.mark.parametrize(("before", "live"), [(0, False), (1, False), (0, True)])
    def test_a_picture_that_cannot_be_used_is_named_at_the_end(self, before, live):
        good = jpeg(7)
        huge = good.replace(b"\0\x30\0\x40", b"\xfd\xe8\xfd\xe8")  # its height and width
        frames = []
        source = StdinSource(io.BytesIO(good * before + huge), live=live)
        with source, pytest.raises(InputError) as caught:
            for frame in source:
                frames.append(frame)
        assert len(frames) == before
        assert str(caught.value).startswith(
            f"standard input — 1 of {before + 1} frames cannot be used: standard input, frame {before} — 65000"
        )

    def test_garbage_is_counted_and_passed_over(self):
        broken = bytearray(jpeg(2))
        broken[200:220] = segment(0xC0, b"\0" * 16)[:20]  # its markers are in order, its contents are not
        data = jpeg(1) + b"garbage" + jpeg(1) + bytes(broken) + jpeg(1)
        with StdinSource(io.BytesIO(data)) as source:
            frames = list(source)
        assert [round(float(frame.image_bgr.mean())) for frame in frames] == [1, 1, 1]
        assert (source.captured, source.failed, source.dropped) == (3 + source.failed, len(source.problems), 0)
        assert source.failed >= 2 and "bytes that are no JPEG were skipped" in "".join(source.problems)

    def test_leaving_early_counts_what_was_taken(self):
        with StdinSource(io.BytesIO(jpeg(1) * 30)) as source:
            taken = list(itertools.islice(source, 5))
        assert (source.captured, source.dropped, len(taken)) == (5, 0, 5)

    @pytest.mark.parametrize("raw_size", [None, (48, 64)])
    def test_a_silent_writer_does_not_hold_up_stopping(self, raw_size):
        with pipe() as (reader, writer):
            writer.write((jpeg(1) if raw_size is None else picture(1).tobytes()) + b"\xff\xd8\xff\xe0")
            with StdinSource(reader, raw_size=raw_size) as source:
                frames = iter(source)
                assert next(frames).index == 0
                threading.Timer(0.05, source.stop).start()
                assert list(frames) == []
            assert not any(thread.name == "edge-unet-stdin" for thread in threading.enumerate())
        assert (source.captured, source.failed) == (1, 0), "a frame that was on its way is not the writer's fault"

    def test_a_fast_writer_waits(self):
        with pipe() as (reader, writer), StdinSource(reader) as source:
            written = []

            def write():
                for number in range(6000):
                    written.append(writer.write(jpeg(number % 256)))
                writer.close()

            writing = threading.Thread(target=write)
            writing.start()
            frames = iter(source)
            next(frames)
            threading.Event().wait(0.2)
            assert len(written) < 3000
            assert sum(1 for _ in frames) == 5999
            writing.join()


class TestLive:
    def test_the_newest_frame_and_every_drop_is_counted(self):
        with pipe() as (reader, writer), StdinSource(reader, live=True) as source:
            frames = iter(source)
            taken = []
            for n in range(0, 30, 10):
                for number in range(n, n + 10):
                    writer.write(jpeg(number * 4))
                until(lambda n=n: source.captured == n + 10)
                taken.append(next(frames))
            writer.write(jpeg(0) + jpeg(0)[:50])
            writer.close()
            taken += list(frames)
        assert [frame.index for frame in taken] == [9, 19, 29, 30]
        assert [round(float(frame.image_bgr.mean()) / 4) for frame in taken] == [9, 19, 29, 0]
        assert (source.kind, source.captured, source.dropped, source.failed) == ("live", 32, 27, 1)

    def test_raw_frames_that_were_taken_never_change(self):
        with pipe() as (reader, writer), StdinSource(reader, raw_size=(48, 64), live=True) as source:
            frames = iter(source)
            taken = []
            for n in range(0, 40, 4):
                for number in range(n, n + 4):
                    writer.write(picture(number).tobytes())
                until(lambda n=n: source.captured == n + 4)
                taken.append(next(frames))
        assert [int(frame.image_bgr.min()) for frame in taken] == list(range(3, 40, 4))
        assert [int(frame.image_bgr.max()) for frame in taken] == list(range(3, 40, 4))


class TestUse:
    def test_dash_reads_the_process_s_own_standard_input(self):
        program = """
from edge_runtime.sources import open_source
with open_source("-") as source:
    print([round(float(frame.image_bgr.mean())) for frame in source])
"""
        data = jpeg(10) + jpeg(20) + jpeg(30)
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE_S, check=True)
        assert done.stdout == b"[10, 20, 30]\n"

    def test_a_file_as_standard_input(self, tmp_path):
        (tmp_path / "x.mjpeg").write_bytes(jpeg(10) * 7)
        with (tmp_path / "x.mjpeg").open("rb") as file, StdinSource(file) as source:
            assert len(list(source)) == 7
            assert not file.closed

    def test_a_terminal(self):
        master, slave = os.openpty()
        try:
            with pytest.raises(UsageError, match="standard input — is a terminal — pipe frames into it"):
                StdinSource(slave).__enter__()
        finally:
            os.close(master)
            os.close(slave)

    def test_closed(self):
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(InputError, match="cannot read standard input — bad file descriptor"):
            StdinSource(reader).__enter__()

    @pytest.mark.parametrize("size", [(0, 4), (4, -1), (100_000, 100_000)])
    def test_a_size_that_is_none(self, size):
        with pytest.raises(UsageError, match="raw size — found height"):
            open_source("-", SourceOptions(raw_size=size))
