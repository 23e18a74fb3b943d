"""Pictures for other programs: raw frames and the virtual camera."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from results import frame, frames_of

from edge_runtime.errors import SourceError, StorageError, UsageError
from edge_runtime.sinks import RawFrames, VirtualCamera, check_virtual_camera

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30.0

SENDER = """
import sys, threading
sys.path.insert(0, "tests/support")
from results import frame
from edge_runtime.sinks import RawFrames
raw = RawFrames("-", threading.Event())
for index in range(30):
    raw.write(frame(index), frame(index, size=(48, 64) if index % 2 else (96, 128)).image_bgr)
sys.stderr.write(raw.close()[0])
"""


class TestRawFrames:
    def test_a_file(self, tmp_path):
        raw = RawFrames(str(tmp_path / "raw"), threading.Event())
        transparent = np.full((48, 64, 4), 100, np.uint8)
        transparent[:, :, 3] = 0
        for index, picture in enumerate([frame(3).image_bgr, frame(4, size=(30, 30)).image_bgr, transparent]):
            raw.write(frame(index), picture)
        assert raw.close() == [f"{tmp_path}/raw (3 raw frames, bgr24, 64x48)"]
        pictures = np.fromfile(tmp_path / "raw", np.uint8).reshape(3, 48, 64, 3)
        assert [int(picture.mean()) for picture in pictures] == [21, 28, 0]

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
    def test_ffmpeg_reads_them(self, tmp_path):
        path = tmp_path / "v.avi"
        ffmpeg = ["ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "128x96", "-i", "-"]
        with (
            subprocess.Popen(
                [sys.executable, "-c", SENDER], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as sender,
            subprocess.Popen([*ffmpeg, "-c:v", "ffv1", str(path)], stdin=sender.stdout) as reader,
        ):
            sender.stdout.close()
            assert reader.wait(DEADLINE_S) == 0
            assert sender.stderr.read() == b"standard output (30 raw frames, bgr24, 128x96)"
        frames, _ = frames_of(path)
        assert [read.shape for read in frames] == [(96, 128, 3)] * 30
        assert [round(float(read.mean())) for read in frames] == pytest.approx([7 * i for i in range(30)], abs=2)

    def test_a_file_that_is_deleted_meanwhile_is_noticed(self, tmp_path):
        sink = RawFrames(str(tmp_path / "raw"), threading.Event())
        sink.write(frame(), frame().image_bgr)
        (tmp_path / "raw").unlink()
        with pytest.raises(StorageError, match="raw — it was deleted while it was written"):
            sink.write(frame(), frame().image_bgr)
        sink.close()
        assert not list(tmp_path.iterdir())

    def test_a_file_that_is_renamed_meanwhile_stays_whole(self, tmp_path):
        sink = RawFrames(str(tmp_path / "raw"), threading.Event())
        sink.write(frame(), frame().image_bgr)
        (tmp_path / "raw").rename(tmp_path / "moved")
        sink.write(frame(), frame().image_bgr)
        sink.close()
        assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {
            "moved": 2 * frame().image_bgr.nbytes
        }

    def test_nothing_written(self, tmp_path):
        assert RawFrames(str(tmp_path / "raw"), threading.Event()).close() == []


class FakeDevice:
    device = "/dev/video9"

    def __init__(self):
        self.sent, self.closed, self.failure = [], False, None

    def send(self, picture):
        if self.failure:
            raise self.failure
        self.sent.append(picture.copy())

    def close(self):
        self.closed = True


class FakeDriver:
    """Opens fake devices, or fails as pyvirtualcam does."""

    def __init__(self, failure=None):
        self.failure, self.opened, self.device = failure, [], FakeDevice()

    def __call__(self, height, width, fps):
        if self.failure:
            raise self.failure
        self.opened.append((height, width, fps))
        return self.device


class TestVirtualCamera:
    def test_pictures_of_one_even_size(self):
        driver = FakeDriver()
        camera = VirtualCamera(25.0, driver)
        assert driver.opened == [], "its size is that of the first picture"
        transparent = np.dstack([frame(3).image_bgr, np.zeros((48, 64), np.uint8)])
        for index, picture in enumerate([frame(1, size=(47, 63)).image_bgr, frame(2).image_bgr, transparent]):
            camera.write(frame(index), picture)
        assert driver.opened == [(46, 62, 25.0)]
        assert [(sent.shape, int(sent.mean())) for sent in driver.device.sent] == [
            ((46, 62, 3), 7),
            ((46, 62, 3), 14),
            ((46, 62, 3), 0),
        ]
        assert camera.close() == ["virtual camera /dev/video9 (3 frames)"] and driver.device.closed

    def test_one_that_was_never_used_is_closed_without_a_word(self):
        assert VirtualCamera(25.0, FakeDriver()).close() == []

    def test_the_device_goes_away(self):
        driver = FakeDriver()
        camera = VirtualCamera(25.0, driver)
        camera.write(frame(), frame().image_bgr)
        driver.device.failure = RuntimeError("No such device")
        with pytest.raises(SourceError, match="virtual camera /dev/video9 — takes no pictures — found No such device"):
            camera.write(frame(), frame().image_bgr)

    def test_no_kernel_module(self):
        driver = FakeDriver(RuntimeError("'v4l2loopback' backend: No device found.\nDid you run modprobe?"))
        message = (
            r"^--virtual-camera — no virtual camera \('v4l2loopback' backend: No device found\. "
            r"Did you run modprobe\?\) — load the kernel module: sudo modprobe v4l2loopback$"
        )
        with pytest.raises(UsageError, match=message):
            check_virtual_camera(driver)
        with pytest.raises(UsageError, match=message):
            VirtualCamera(25.0, driver).write(frame(), frame().image_bgr)

    def test_the_check_gives_the_device_back(self):
        driver = FakeDriver()
        check_virtual_camera(driver)
        assert driver.device.closed and len(driver.opened) == 1

    def test_without_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
        with pytest.raises(UsageError, match=r"pyvirtualcam not installed — .* pip install pyvirtualcam$"):
            check_virtual_camera()

    @pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="there is a camera here")
    def test_the_real_package_without_a_device(self):
        pytest.importorskip("pyvirtualcam", reason="the extra 'camera' is not installed")
        with pytest.raises(UsageError, match=r"no virtual camera .*v4l2.* — load the kernel module"):
            check_virtual_camera()
