import json
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES

from edge_runtime.effects import color_mask, parse_effect
from edge_runtime.errors import StorageError, UsageError
from edge_runtime.pipeline import FrameResult
from edge_runtime.segmenter import Segmentation
from edge_runtime.sinks import MaskFiles, PictureFiles, VideoFile, open_outputs, prepare_folder
from edge_runtime.sinks.records import JsonLines, frame_record
from edge_runtime.sinks.window import check_display
from edge_runtime.sources.frame import Frame


def frame(index=0, *, name=None, size=(48, 64), at=None):
    image = np.full((*size, 3), (index * 7) % 256, np.uint8)
    return Frame(
        index=index,
        name=name or f"{index:06d}",
        source="x",
        image_bgr=image,
        captured_at=index / 10 if at is None else at,
    )


def result(number=0, **options):
    of = frame(number, **options)
    mask = np.zeros(of.image_bgr.shape[:2], np.uint8)
    mask[:, : mask.shape[1] // 2] = 2
    return FrameResult(
        frame=of, segmentation=Segmentation(mask=mask, classes=COLOR_CLASSES, latency_ms=1.23456), age_ms=2.5
    )


def frames_of(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened(), path
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, fps


@contextmanager
def full_disk(limit):
    """No file may grow beyond the limit: what a full disk does, without one."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


class TestMaskFiles:
    def test_ids_come_back_exactly(self, tmp_path):
        mask = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64).astype(np.uint8)
        path = MaskFiles(tmp_path).write(frame(name="Größe 1 – ü"), mask)
        assert path == tmp_path / "Größe 1 – ü.png"
        assert np.array_equal(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED), mask)

    def test_folder_that_has_gone(self, tmp_path):
        with pytest.raises(
            StorageError, match=r"cannot write .*000000\.png — no such file or directory — check the path"
        ):
            MaskFiles(tmp_path / "gone").write(frame(), np.zeros((4, 4), np.uint8))

    def test_full_disk_leaves_nothing_half(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
        with full_disk(1000), pytest.raises(StorageError, match="file too large — raise the file size limit"):
            MaskFiles(tmp_path).write(frame(), noise)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_picture_files(tmp_path, suffix):
    sink = PictureFiles(tmp_path, suffix)
    picture = frame(9).image_bgr
    sink.write(frame(9), picture)
    read = cv2.imread(str(tmp_path / f"000009{suffix}"))
    assert np.abs(read.astype(int) - picture).max() <= (0 if suffix == ".png" else 3)
    assert sink.close() == [f"{tmp_path} (1 pictures)"]


class TestVideoFile:
    def test_all_frames_at_the_rate_of_the_source(self, tmp_path):
        path = tmp_path / "ein Film ü.mp4"
        sink = VideoFile(path, 12.5)
        for index in range(30):
            sink.write(frame(index), frame(index).image_bgr)
        assert not path.exists(), "it has its name only when it is whole"
        assert sink.close() == [f"{path} (30 frames)"]
        frames, fps = frames_of(path)
        assert (len(frames), fps) == (30, 12.5)
        assert all(abs(float(read.mean()) - (7 * index) % 256) < 4 for index, read in enumerate(frames))
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("count", [1, 2, 5, 40])
    def test_rate_is_measured_where_it_is_unknown(self, tmp_path, count):
        sink = VideoFile(tmp_path / "v.mp4", None)
        for index in range(count):
            sink.write(frame(index, at=100 + index / 10), frame(index).image_bgr)
        sink.close()
        frames, fps = frames_of(tmp_path / "v.mp4")
        assert len(frames) == count
        assert fps == pytest.approx(25.0 if count == 1 else 10.0, rel=0.01)

    @pytest.mark.parametrize("fps", [23.976, 29.97, 1000 / 15, 93.1234567, 119.88, 240.0, 0.5])
    def test_rates_that_the_codec_cannot_count_are_rounded(self, tmp_path, fps):
        sink = VideoFile(tmp_path / "v.mp4", fps)
        for index in range(3):
            sink.write(frame(index), frame(index).image_bgr)
        sink.close()
        frames, found = frames_of(tmp_path / "v.mp4")
        assert len(frames) == 3 and found == pytest.approx(fps, rel=2e-4)

    def test_frames_of_changing_size_are_scaled_not_lost(self, tmp_path):
        sink = VideoFile(tmp_path / "v.mp4", 25.0)
        for index, size in enumerate([(48, 64), (96, 128), (30, 30)]):
            sink.write(frame(index, size=size), frame(index, size=size).image_bgr)
        sink.close()
        assert [read.shape for read in frames_of(tmp_path / "v.mp4")[0]] == [(48, 64, 3)] * 3

    @pytest.mark.parametrize("size", [(47, 63), (48, 63), (47, 64), (3, 3)])
    def test_odd_sizes(self, tmp_path, size):
        sink = VideoFile(tmp_path / "v.mp4", 25.0)
        for index in range(3):
            sink.write(frame(index, size=size), frame(index, size=size).image_bgr)
        sink.close()
        assert len(frames_of(tmp_path / "v.mp4")[0]) == 3

    def test_without_frames_there_is_no_file(self, tmp_path):
        assert VideoFile(tmp_path / "v.mp4", 25.0).close() == []
        assert not list(tmp_path.iterdir())

    def test_full_disk_is_no_silent_success_and_the_old_file_stays(self, tmp_path):
        (tmp_path / "v.mp4").write_bytes(b"old")
        rng = np.random.default_rng(0)
        sink = VideoFile(tmp_path / "v.mp4", 25.0)
        with full_disk(20_000), pytest.raises(StorageError) as caught:
            for index in range(40):
                sink.write(frame(index), rng.integers(0, 255, (120, 160, 3), np.uint8))
            sink.close()
        assert str(caught.value).startswith(f"cannot write {tmp_path}/v.mp4 — only 0 of 40 frames arrived — free some")
        assert (tmp_path / "v.mp4").read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_folder_that_is_not_there(self, tmp_path):
        sink = VideoFile(tmp_path / "gone" / "v.mp4", 25.0)
        with pytest.raises(StorageError, match=r"v\.mp4 — the video writer does not open"):
            sink.write(frame(), frame().image_bgr)
        assert sink.close() == []


class TestJsonLines:
    def test_a_file_is_written_line_by_line(self, tmp_path):
        path = tmp_path / "x.jsonl"
        with JsonLines(str(path)) as lines:
            lines.write({"a": "ü\udcff"})
            assert path.read_bytes() == b'{"a": "\\u00fc\\udcff"}\n', "at once, not at the end"
            lines.write({"b": 1})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": "ü\udcff"}, {"b": 1}]

    def test_full_disk_is_reported_once(self):
        with JsonLines("/dev/full") as lines:
            with pytest.raises(StorageError, match="cannot write /dev/full — no space left on device"):
                lines.write({"a": 1})
            lines.write({"a": 2})

    def test_path_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="not a directory — check the path: a part of it is a file"):
            JsonLines(str(tmp_path / "file" / "x.jsonl"))

    def test_not_a_number_is_refused(self, tmp_path):
        with JsonLines(str(tmp_path / "x")) as lines, pytest.raises(ValueError, match="not JSON compliant"):
            lines.write({"a": float("nan")})

    def test_record_of_a_frame(self, tmp_path):
        assert frame_record(result(3), tmp_path / "m.png") == {
            "frame": 3,
            "source": "x",
            "age_ms": 2.5,
            "latency_ms": 1.235,
            "classes": {"background": 0.5, "red": 0.0, "blue": 0.5},
            "mask": f"{tmp_path}/m.png",
        }
        assert frame_record(result(), None)["mask"] is None


class TestOutputs:
    def test_images_become_pictures(self, tmp_path):
        prepare_folder(tmp_path / "new" / "out", "images")
        with open_outputs(
            "images", None, parse_effect("overlay"), save=tmp_path / "new" / "out", show=False
        ) as outputs:
            assert outputs.write(result(1, name="a b")) == tmp_path / "new" / "out" / "masks" / "a b.png"
        assert (tmp_path / "new" / "out" / "overlays" / "a b.jpg").exists()

    def test_the_mask_effect_stays_exact(self, tmp_path):
        prepare_folder(tmp_path, "images")
        one = result()
        with open_outputs("images", None, color_mask, save=tmp_path, show=False, exact=True) as outputs:
            outputs.write(one)
        picture = cv2.imread(str(tmp_path / "overlays" / "000000.png"))
        assert np.array_equal(picture, color_mask(one.frame.image_bgr, one.segmentation))

    def test_a_video_becomes_masks_and_one_video(self, tmp_path):
        prepare_folder(tmp_path, "video")
        with open_outputs("video", 10.0, parse_effect("blur"), save=tmp_path, show=False) as outputs:
            for index in range(4):
                outputs.write(result(index))
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
            "masks", "masks/000000.png", "masks/000001.png", "masks/000002.png", "masks/000003.png", "overlay.mp4",
        ]  # fmt: skip
        assert outputs.finished == [f"{tmp_path}/masks (4 masks)", f"{tmp_path}/overlay.mp4 (4 frames)"]

    def test_an_interrupt_leaves_a_whole_video(self, tmp_path):
        prepare_folder(tmp_path, "live")
        with (
            pytest.raises(KeyboardInterrupt),
            open_outputs("live", None, parse_effect("overlay"), save=tmp_path, show=False) as outputs,
        ):
            for index in range(5):
                outputs.write(result(index))
            raise KeyboardInterrupt
        assert len(frames_of(tmp_path / "overlay.mp4")[0]) == 5

    def test_the_first_of_two_storage_errors_is_the_one_to_read(self, tmp_path):
        (tmp_path / "masks").mkdir()
        with (
            full_disk(1500),
            pytest.raises(StorageError, match=r"cannot write .*masks/000001\.png — file too large"),
            open_outputs("video", 25.0, parse_effect("overlay"), save=tmp_path, show=False) as outputs,
        ):
            rng = np.random.default_rng(0)
            noisy = replace(frame(0), image_bgr=rng.integers(0, 255, (48, 64, 3), np.uint8))
            outputs.write(
                replace(result(0), frame=noisy)
            )  # too much for the video, which says so only when it is closed
            mask = rng.integers(0, 3, (200, 200), np.uint8)
            outputs.write(replace(result(1), segmentation=replace(result(1).segmentation, mask=mask)))

    def test_nothing_to_save(self):
        with open_outputs("images", None, parse_effect("overlay"), save=None, show=False) as outputs:
            assert outputs.write(result()) is None and outputs.wants_more
        assert outputs.finished == []


class TestPrepareFolder:
    def test_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match=r"cannot make .*/file/out/masks — not a directory"):
            prepare_folder(tmp_path / "file" / "out", "images")

    def test_full_disk_is_found_before_the_first_frame(self, tmp_path):
        with full_disk(100), pytest.raises(StorageError, match=r"cannot write .*/masks — file too large"):
            prepare_folder(tmp_path, "images")
        assert not list((tmp_path / "masks").iterdir())

    def test_the_masks_of_a_dataset_are_not_overwritten(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        with pytest.raises(UsageError, match="is a dataset — its masks would be overwritten"):
            prepare_folder(tmp_path, "images")


class TestDisplay:
    def test_without_one(self, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        with pytest.raises(UsageError, match=r"^--show — no display \(DISPLAY and WAYLAND_DISPLAY are not set\)"):
            check_display()

    def test_one_that_is_not_there_does_not_end_the_process(self, monkeypatch):
        monkeypatch.setenv("DISPLAY", ":4711")
        with pytest.raises(UsageError, match=r"the display refuses a window \(DISPLAY=:4711\) — use --save"):
            check_display()
