"""Pictures as video files."""

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from results import frame, frames_of, full_disk

from edge_runtime.errors import StorageError
from edge_runtime.sinks import VideoFile, VideoFiles
from edge_runtime.sinks.canvas import Canvas

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 60


@pytest.mark.parametrize("codec", ["VP80", "FFV1", "MJPG", "mp4v"])
def test_the_command_that_reads_and_writes_a_video_says_nothing_but_its_own_lines(tmp_path, color_package, codec):
    source = tmp_path / "in.mkv"
    writer = cv2.VideoWriter(str(source), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25.0, (64, 48))
    for index in range(15):
        writer.write(frame(index).image_bgr)
    writer.release()
    command = [sys.executable, "-m", "edge_runtime", "run", str(color_package), "--source", str(source)]
    command += ["--save", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    first, *others = done.stderr.splitlines()
    assert first.startswith("15 frames, ")
    assert others and all(line.startswith("wrote ") for line in others), done.stderr


class TestVideoFile:
    def test_all_frames_at_the_rate_of_the_source(self, tmp_path):
        path = tmp_path / "ein Film ü.mp4"
        video = VideoFile(path, 12.5)
        for index in range(30):
            video.write(frame(index), frame(index).image_bgr)
        assert not path.exists(), "it has its name only when it is whole"
        video.close()
        frames, fps = frames_of(path)
        assert (len(frames), fps) == (30, 12.5)
        assert all(abs(float(read.mean()) - (7 * index) % 256) < 4 for index, read in enumerate(frames))
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("count", [1, 2, 5, 40])
    def test_rate_is_measured_where_it_is_unknown(self, tmp_path, count):
        video = VideoFile(tmp_path / "v.mp4", None)
        for index in range(count):
            video.write(frame(index, at=100 + index / 10), frame(index).image_bgr)
        video.close()
        frames, fps = frames_of(tmp_path / "v.mp4")
        assert len(frames) == count
        assert fps == pytest.approx(25.0 if count == 1 else 10.0, rel=0.01)

    @pytest.mark.parametrize("fps", [23.976, 29.97, 1000 / 15, 93.1234567, 119.88, 240.0, 0.5])
    def test_rates_that_the_codec_cannot_count_are_rounded(self, tmp_path, fps):
        video = VideoFile(tmp_path / "v.mp4", fps)
        for index in range(3):
            video.write(frame(index), frame(index).image_bgr)
        video.close()
        frames, found = frames_of(tmp_path / "v.mp4")
        assert len(frames) == 3 and found == pytest.approx(fps, rel=2e-4)

    def test_frames_of_changing_size_are_scaled_not_lost(self, tmp_path):
        video = VideoFile(tmp_path / "v.mp4", 25.0)
        for index, size in enumerate([(48, 64), (96, 128), (30, 30)]):
            video.write(frame(index, size=size), frame(index, size=size).image_bgr)
        video.close()
        assert [read.shape for read in frames_of(tmp_path / "v.mp4")[0]] == [(48, 64, 3)] * 3

    def test_transparent_pictures_are_put_on_black_even_in_between(self, tmp_path):
        video = VideoFile(tmp_path / "v.mp4", 25.0)
        picture = np.full((48, 64, 4), 200, np.uint8)
        picture[:, :, 3] = 255
        picture[:, 32:, 3] = 0
        for index, taken in enumerate([picture, picture[:, :, :3], picture]):
            video.write(frame(index), taken)
        video.close()
        frames, _ = frames_of(tmp_path / "v.mp4")
        means = [(float(read[:, :28].mean()), float(read[:, 36:].mean())) for read in frames]
        assert np.allclose(means, [(200, 0), (200, 200), (200, 0)], atol=4)

    @pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (3, 3)])
    def test_odd_sizes(self, tmp_path, size):
        video = VideoFile(tmp_path / "v.mp4", 25.0)
        for index in range(3):
            video.write(frame(index, size=size), frame(index, size=size).image_bgr)
        video.close()
        assert len(frames_of(tmp_path / "v.mp4")[0]) == 3

    def test_without_frames_there_is_no_file(self, tmp_path):
        VideoFile(tmp_path / "v.mp4", 25.0).close()
        assert not list(tmp_path.iterdir())

    def test_full_disk_is_no_silent_success_and_the_old_file_stays(self, tmp_path):
        (tmp_path / "v.mp4").write_bytes(b"old")
        rng = np.random.default_rng(0)
        video = VideoFile(tmp_path / "v.mp4", 25.0)
        with full_disk(20_000), pytest.raises(StorageError) as caught:
            for index in range(40):
                video.write(frame(index), rng.integers(0, 255, (120, 160, 3), np.uint8))
            video.close()
        assert str(caught.value).startswith(f"cannot write {tmp_path}/v.mp4 — only 0 of 40 frames arrived — free some")
        assert (tmp_path / "v.mp4").read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_folder_that_is_not_there(self, tmp_path):
        video = VideoFile(tmp_path / "gone" / "v.mp4", 25.0)
        with pytest.raises(StorageError, match=r"v\.mp4 — the video writer does not open"):
            video.write(frame(), frame().image_bgr)
        video.close()

    def test_a_file_that_was_deleted_meanwhile_is_noticed_with_the_next_frame(self, tmp_path):
        video = VideoFile(tmp_path / "v.mp4", 25.0)
        video.write(frame(), frame().image_bgr)
        next(tmp_path.iterdir()).unlink()
        with pytest.raises(StorageError, match=r"cannot write .*v\.mp4 — no such file or directory"):
            video.write(frame(), frame().image_bgr)


def videos(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


class TestVideoFiles:
    @pytest.mark.parametrize("fps", [10.0, None])
    def test_one_after_the_other(self, tmp_path, fps):
        sink = VideoFiles(tmp_path / "overlay.mp4", fps, segment_s=2.0)
        for index in range(50):
            sink.write(frame(index), frame(index).image_bgr)
            if index == 45:
                assert len(videos(tmp_path)) == 2, "each has its name as soon as it is whole"
        assert sink.close() == [f"{tmp_path}/overlay-*.mp4 (3 videos, 50 frames)"]
        read = [frames_of(path) for path in videos(tmp_path)]
        assert sorted(len(frames) for frames, _ in read) == [10, 20, 20]
        assert all(rate == pytest.approx(10.0, rel=0.01) for _, rate in read)
        assert sum(frames[0].mean() < 4 for frames, _ in read) == 1, "no frame is in two of them"

    def test_their_names_are_the_time_of_their_start(self, tmp_path):
        before = time.strftime("%Y%m%d-%H%M%S")
        sink = VideoFiles(tmp_path / "overlay.mp4", 10.0, segment_s=5.0)
        sink.write(frame(), frame().image_bgr)
        sink.close()
        (only,) = videos(tmp_path)
        assert before <= only.stem.removeprefix("overlay-") <= time.strftime("%Y%m%d-%H%M%S")

    def test_an_earlier_segment_is_never_written_over(self, tmp_path, monkeypatch):
        monkeypatch.setattr(time, "strftime", lambda _: "20261122-140500")
        for _ in range(3):
            sink = VideoFiles(tmp_path / "overlay.mp4", 10.0, segment_s=5.0)
            sink.write(frame(), frame().image_bgr)
            sink.close()
        stems = sorted(path.stem for path in videos(tmp_path))
        assert stems == ["overlay-20261122-140500", "overlay-20261122-140500-2", "overlay-20261122-140500-3"]

    def test_without_segments_it_is_one_file(self, tmp_path):
        sink = VideoFiles(tmp_path / "overlay.mp4", 10.0)
        for index in range(50):
            sink.write(frame(index), frame(index).image_bgr)
        assert sink.close() == [f"{tmp_path}/overlay.mp4 (50 frames)"]

    def test_without_frames_there_is_none(self, tmp_path):
        assert VideoFiles(tmp_path / "overlay.mp4", None, segment_s=1.0).close() == []

    def test_after_a_failure_it_goes_on_with_a_new_file(self, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        sink = VideoFiles(folder / "overlay.mp4", 10.0)
        for index in range(3):
            sink.write(frame(index), frame(index).image_bgr)
        folder.rename(tmp_path / "away")
        for index in range(3, 6):
            with pytest.raises(StorageError, match=r"cannot write .*/out/overlay.*mp4 — "):
                sink.write(frame(index), frame(index).image_bgr)
        folder.mkdir()
        for index in range(6, 10):
            sink.write(frame(index), frame(index).image_bgr)
        assert len(sink.close()) == 1
        (only,) = videos(folder)
        assert len(frames_of(only)[0]) == 4 and only.name.startswith("overlay-")

    def test_a_full_disk_keeps_what_was_recorded_before(self, tmp_path, monkeypatch):
        sink = VideoFiles(tmp_path / "overlay.mp4", 10.0)
        for index in range(5):
            sink.write(frame(index), frame(index).image_bgr)
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(StorageError, match=r"overlay\.mp4 — no space left on device — free some space"):
            sink.write(frame(5), frame(5).image_bgr)
        assert len(frames_of(tmp_path / "overlay.mp4")[0]) == 5
        monkeypatch.undo()
        sink.write(frame(6), frame(6).image_bgr)
        assert sink.close() == [f"{tmp_path}/overlay-*.mp4 (2 videos, 6 frames)"]

    def test_a_disk_that_is_full_from_the_start_keeps_the_video_of_the_run_before(self, tmp_path, monkeypatch):
        (tmp_path / "overlay.mp4").write_bytes(b"of the run before")
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        sink = VideoFiles(tmp_path / "overlay.mp4", 10.0)
        with pytest.raises(StorageError, match=r"overlay\.mp4 — no space left on device"):
            sink.write(frame(), frame().image_bgr)
        assert sink.close() == []
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"overlay.mp4": b"of the run before"}


class TestCanvas:
    @pytest.mark.parametrize("alpha", [0, 1, 127, 254, 255])
    def test_alpha_on_black_is_the_product(self, alpha):
        picture = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
        picture[:, :, 3] = alpha
        expected = np.rint(picture[:, :, :3] * (alpha / 255))
        assert np.abs(Canvas().paint(picture) - expected).max() <= 1

    def test_a_picture_that_fits_is_not_copied(self):
        picture = frame().image_bgr
        assert Canvas().paint(picture) is picture

    def test_even_sizes(self):
        canvas = Canvas(even=True)
        assert canvas.paint(frame(size=(47, 63)).image_bgr).shape == (46, 62, 3)
        assert canvas.size == (46, 62)

    def test_pictures_that_are_views_of_others(self):
        picture = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)[:, ::-1]
        painted = Canvas().paint(picture)
        assert painted.flags.c_contiguous and np.array_equal(painted, picture)
