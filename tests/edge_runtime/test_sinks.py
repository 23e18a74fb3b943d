"""Masks and pictures as files, the cap on them, and all outputs together."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from results import frame, frames_of, full_disk, result

from edge_runtime.effects import color_mask, parse_effect
from edge_runtime.errors import StorageError
from edge_runtime.sinks import MaskFiles, OutputOptions, Outputs, PictureFiles, Retention, open_outputs, prepare_folder

OVERLAY = [("overlay", parse_effect("overlay"))]


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

    def test_full_disk_leaves_nothing_half_and_the_next_write_is_tried(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
        sink = MaskFiles(tmp_path)
        with full_disk(1000), pytest.raises(StorageError, match="file too large — raise the file size limit"):
            sink.write(frame(), noise)
        assert not list(tmp_path.iterdir())
        sink.write(frame(), noise)
        assert sink.close() == [f"{tmp_path} (1 masks)"]

    def test_several_threads(self, tmp_path):
        sink = MaskFiles(tmp_path)
        mask = np.zeros((4, 4), np.uint8)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda index: sink.write(frame(index), mask), range(200)))
        assert sink.close() == [f"{tmp_path} (200 masks)"]
        assert len(list(tmp_path.iterdir())) == 200

    def test_a_folder_that_went_away_is_noticed_at_the_end(self, tmp_path):
        (tmp_path / "masks").mkdir()
        sink = MaskFiles(tmp_path / "masks")
        sink.write(frame(), np.zeros((4, 4), np.uint8)).unlink()
        (tmp_path / "masks").rmdir()
        with pytest.raises(StorageError, match=r"cannot write .*/masks — no such file or directory"):
            sink.close()


class TestPictureFiles:
    @pytest.mark.parametrize(("exact", "suffix"), [(True, ".png"), (False, ".jpg")])
    def test_pictures(self, tmp_path, exact, suffix):
        sink = PictureFiles(tmp_path, exact=exact)
        picture = frame(9).image_bgr
        sink.write(frame(9), picture)
        read = cv2.imread(str(tmp_path / f"000009{suffix}"))
        assert np.abs(read.astype(int) - picture).max() <= (0 if exact else 3)
        assert sink.close() == [f"{tmp_path} (1 pictures)"]

    def test_transparency_is_kept(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
        PictureFiles(tmp_path).write(frame(), picture)
        assert np.array_equal(cv2.imread(str(tmp_path / "000000.png"), cv2.IMREAD_UNCHANGED), picture)


class TestVeryLargePictures:
    """The limit is lowered for them: the bytes of the file never stand in memory."""

    @pytest.fixture(autouse=True)
    def _low_limit(self, monkeypatch):
        monkeypatch.setattr("edge_runtime.sinks.files.MAX_PIXELS", 10)
        monkeypatch.setattr(cv2, "imencode", None)

    def test_are_encoded_into_the_file(self, tmp_path):
        sink = PictureFiles(tmp_path)
        sink.write(frame(9), frame(9).image_bgr)
        read = cv2.imread(str(tmp_path / "000009.jpg"))
        assert np.abs(read.astype(int) - frame(9).image_bgr).max() <= 3
        assert [path.name for path in tmp_path.iterdir()] == ["000009.jpg"]
        assert sink.close() == [f"{tmp_path} (1 pictures)"]

    def test_go_the_usual_way_where_opencv_cannot(self, tmp_path, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr("edge_runtime.sinks.files.MAX_PIXELS", 10)
        folder = tmp_path / os.fsdecode(b"no text \xff")
        folder.mkdir()
        PictureFiles(folder).write(frame(9), frame(9).image_bgr)
        assert [path.name for path in folder.iterdir()] == ["000009.jpg"]

    def test_a_folder_that_has_gone_is_named(self, tmp_path, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr("edge_runtime.sinks.files.MAX_PIXELS", 10)
        with pytest.raises(StorageError, match=r"cannot write .*gone/000009"):
            PictureFiles(tmp_path / "gone").write(frame(9), frame(9).image_bgr)


def file(path, size_bytes, age_s=0.0):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0" * size_bytes)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestRetention:
    def test_the_oldest_go_first(self, tmp_path):
        retention = Retention(tmp_path, 4 * 4096 / 1e6)
        for index in range(10):
            retention.add(file(tmp_path / "masks" / f"{index:06d}.png", 100), 100)
        assert names(tmp_path) == [f"masks/{index:06d}.png" for index in range(6, 10)]

    def test_results_of_earlier_runs_count_and_go_first(self, tmp_path):
        file(tmp_path / "overlay-20250102-030405.mp4", 8192, age_s=900)
        file(tmp_path / "masks" / "000007.png", 10, age_s=500)
        file(tmp_path / "overlay.mp4", 4096, age_s=300)
        retention = Retention(tmp_path, 3 * 4096 / 1e6)
        assert len(names(tmp_path)) == 3, "nothing is deleted before something is written"
        retention.add(file(tmp_path / "overlay-20260102-030405-2.mp4", 4000), 4000)
        assert names(tmp_path) == ["masks/000007.png", "overlay-20260102-030405-2.mp4", "overlay.mp4"]

    def test_other_files_are_never_touched(self, tmp_path):
        others = ["holiday.mp4", "overlay-old.mp4", "masks/cat.png", "masks/000001.txt", "000001.png", "x/000002.png"]
        for name in others:
            file(tmp_path / name, 50_000, age_s=9000)
        retention = Retention(tmp_path, 0.001)
        for index in range(5):
            retention.add(file(tmp_path / "masks" / f"{index:06d}.png", 5000), 5000)
        assert names(tmp_path) == sorted([*others, "masks/000004.png"])

    def test_pictures_of_earlier_runs_count_whatever_their_names(self, tmp_path):
        prepare_folder(tmp_path, "images")
        for part, suffix in (("masks/day1", "png"), ("overlays/day1", "jpg")):
            (tmp_path / part).mkdir()
            file(tmp_path / part / f"cat.{suffix}", 5000)
        file(tmp_path / "masks" / "notes.txt", 5000)
        by_hand = file(tmp_path / "masks" / "made_before_the_first_run.png", 5000, age_s=9000)
        retention = Retention(tmp_path, 0.001)
        retention.add(file(tmp_path / "masks" / "dog.png", 5000), 5000)
        assert [name for name in names(tmp_path) if "edge-unet" not in name] == [
            "masks/dog.png", str(by_hand.relative_to(tmp_path)), "masks/notes.txt",
        ]  # fmt: skip

    def test_a_file_that_is_written_over_counts_once_and_as_new(self, tmp_path):
        retention = Retention(tmp_path, 2 * 4096 / 1e6)
        first, second, third = (tmp_path / "masks" / f"{index:06d}.png" for index in range(3))
        for path in (first, second, first, third):
            retention.add(file(path, 10), 10)
        assert names(tmp_path) == ["masks/000000.png", "masks/000002.png"]

    def test_the_number_of_files_is_bounded_too(self, tmp_path):
        retention = Retention(tmp_path, 100.0, max_files=3)
        for index in range(9):
            retention.add(file(tmp_path / "masks" / f"{index:06d}.png", 1), 1)
        assert names(tmp_path) == [f"masks/{index:06d}.png" for index in (6, 7, 8)]

    def test_a_file_that_someone_else_deleted(self, tmp_path):
        retention = Retention(tmp_path, 4096 / 1e6)
        retention.add(file(tmp_path / "masks" / "000000.png", 1), 1)
        (tmp_path / "masks" / "000000.png").unlink()
        retention.add(file(tmp_path / "masks" / "000001.png", 1), 1)
        assert names(tmp_path) == ["masks/000001.png"]

    def test_a_run_with_a_cap(self, tmp_path):
        prepare_folder(tmp_path, "video")
        with open_outputs(
            "video", 10.0, OVERLAY, OutputOptions(save=tmp_path, segment_s=0.5, limit_mb=0.03)
        ) as outputs:
            for index in range(40):
                outputs.write(result(index))
        assert sum(-(-path.stat().st_size // 4096) * 4096 for path in tmp_path.rglob("[!.]*.*")) <= 30_000
        assert "masks/000039.png" in names(tmp_path) and "masks/000000.png" not in names(tmp_path)


class TestOutputs:
    def test_images_become_pictures(self, tmp_path):
        out = tmp_path / "new" / "out"
        prepare_folder(out, "images")
        with open_outputs("images", None, OVERLAY, OutputOptions(save=out)) as outputs:
            written = outputs.write(result(1, name="a b"))
        assert written.mask_path == out / "masks" / "a b.png"
        assert (out / "overlays" / "a b.jpg").exists()

    def test_images_of_several_threads(self, tmp_path):
        prepare_folder(tmp_path, "images")
        outputs = open_outputs("images", None, OVERLAY, OutputOptions(save=tmp_path, raw=str(tmp_path / "raw")))
        with outputs, ThreadPoolExecutor(4) as pool:
            list(pool.map(outputs.write, [result(index) for index in range(40)]))
        assert outputs.finished == [
            f"{tmp_path}/masks (40 masks)",
            f"{tmp_path}/overlays (40 pictures)",
            f"{tmp_path}/raw (40 raw frames, bgr24, 64x48)",
        ]
        raw = np.fromfile(tmp_path / "raw", np.uint8).reshape(40, 48, 64, 3)
        expected = [OVERLAY[0][1](r.frame.image_bgr, r.segmentation) for r in map(result, range(40))]
        assert sorted(map(bytes, raw)) == sorted(map(bytes, expected)), "whole pictures, none mixed with another"

    def test_the_mask_effect_stays_exact(self, tmp_path):
        prepare_folder(tmp_path, "images")
        one = result()
        with open_outputs("images", None, [("mask", color_mask)], OutputOptions(save=tmp_path, exact=True)) as outputs:
            outputs.write(one)
        picture = cv2.imread(str(tmp_path / "overlays" / "000000.png"))
        assert np.array_equal(picture, color_mask(one.frame.image_bgr, one.segmentation))

    def test_a_video_becomes_masks_and_one_video(self, tmp_path):
        prepare_folder(tmp_path, "video")
        with open_outputs("video", 10.0, [("blur", parse_effect("blur"))], OutputOptions(save=tmp_path)) as outputs:
            for index in range(4):
                outputs.write(result(index))
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("[!.]*")) == [
            "masks", "masks/000000.png", "masks/000001.png", "masks/000002.png", "masks/000003.png", "overlay.mp4",
        ]  # fmt: skip
        assert outputs.finished == [f"{tmp_path}/masks (4 masks)", f"{tmp_path}/overlay.mp4 (4 frames)"]

    def test_an_interrupt_leaves_a_whole_video(self, tmp_path):
        prepare_folder(tmp_path, "live")
        with (
            pytest.raises(KeyboardInterrupt),
            open_outputs("live", None, OVERLAY, OutputOptions(save=tmp_path)) as outputs,
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
            open_outputs("video", 25.0, OVERLAY, OutputOptions(save=tmp_path)) as outputs,
        ):
            rng = np.random.default_rng(0)
            noisy = replace(frame(0), image_bgr=rng.integers(0, 255, (48, 64, 3), np.uint8))
            outputs.write(
                replace(result(0), frame=noisy)
            )  # too much for the video, which says so only when it is closed
            mask = rng.integers(0, 3, (200, 200), np.uint8)
            large = result(1, size=mask.shape)
            outputs.write(replace(large, segmentation=replace(large.segmentation, mask=mask)))

    def test_nothing_to_save(self):
        with open_outputs("images", None, OVERLAY) as outputs:
            written = outputs.write(result())
            assert written.mask_path is None and outputs.wants_more
            assert set(written.stages_ms) == {"effect", "sinks"}
        assert outputs.finished == []

    def test_the_time_of_drawing_and_of_writing_are_told_apart(self, tmp_path):
        slow = threading.Event()

        def effect(image_bgr, _segmentation):
            slow.wait(0.05)
            return image_bgr

        prepare_folder(tmp_path, "images")
        with open_outputs("images", None, [("slow", effect)], OutputOptions(save=tmp_path)) as outputs:
            stages_ms = outputs.write(result()).stages_ms
        assert stages_ms["effect"] >= 45 and stages_ms["sinks"] > 0


class Sink:
    """Takes pictures, or raises what it is told to."""

    def __init__(self):
        self.taken, self.closed, self.tries = [], False, 0
        self.failure = None

    def write(self, of, _picture):
        self.tries += 1
        if self.failure:
            raise self.failure
        self.taken.append(of.index)

    def close(self):
        self.closed = True
        if self.failure:
            raise self.failure
        return [f"{len(self.taken)} taken"]


def test_pictures_of_a_stream_come_one_after_the_other():
    class Stream(Sink):
        inside = 0

        def write(self, of, picture):
            self.inside += 1
            assert self.inside == 1
            threading.Event().wait(0.001)
            super().write(of, picture)
            self.inside -= 1

    stream = Stream()
    with Outputs(OVERLAY, streams=[stream]) as outputs, ThreadPoolExecutor(4) as pool:
        list(pool.map(outputs.write, map(result, range(40))))
    assert sorted(stream.taken) == list(range(40))


class TestASinkThatFails:
    def test_the_others_have_the_frame_and_it_is_tried_again(self):
        bad, good = Sink(), Sink()
        outputs = Outputs(OVERLAY, streams=[bad, good], rest_s=0.0)
        bad.failure = StorageError("disk full")
        for index in range(3):
            with pytest.raises(StorageError, match=r"^disk full$"):
                outputs.write(result(index))
        bad.failure = None
        outputs.write(result(3))
        assert (bad.tries, bad.taken, good.taken) == (4, [3], [0, 1, 2, 3])

    def test_it_rests_after_a_failure(self):
        bad, good = Sink(), Sink()
        outputs = Outputs(OVERLAY, streams=[bad, good], rest_s=1000.0)
        bad.failure = StorageError("disk full")
        for index in range(3):
            with pytest.raises(StorageError, match=r"^disk full$"):
                outputs.write(result(index))
        assert (bad.tries, good.taken) == (1, [0, 1, 2])

    def test_all_are_closed_whatever_one_of_them_raises(self):
        sinks = [Sink(), Sink(), Sink(), Sink()]
        sinks[1].failure, sinks[2].failure = StorageError("disk full"), RuntimeError("driver")
        outputs = Outputs(OVERLAY, streams=sinks)
        with pytest.raises(RuntimeError, match="driver"), outputs:
            pass
        assert all(sink.closed for sink in sinks) and outputs.finished == ["0 taken", "0 taken"]

    def test_a_storage_error_while_finishing_is_raised(self):
        bad, good = Sink(), Sink()
        bad.failure = StorageError("disk full")
        with pytest.raises(StorageError, match="disk full"), Outputs(OVERLAY, streams=[bad, good]):
            pass
        assert good.closed


class TestPrepareFolder:
    def test_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match=r"cannot make .*/file/out/masks — not a directory"):
            prepare_folder(tmp_path / "file" / "out", "images")

    def test_full_disk_is_found_before_the_first_frame(self, tmp_path):
        with full_disk(100), pytest.raises(StorageError, match=r"cannot write .*/masks — file too large"):
            prepare_folder(tmp_path, "images")
        assert not list((tmp_path / "masks").iterdir())

    def test_what_a_killed_run_left_half_done_is_removed(self, tmp_path):
        left = file(tmp_path / ".overlay.0123abcd.tmp.mp4", 100, age_s=3600)
        left_mask = file(tmp_path / "masks" / ".000001.0123abcd.tmp.png", 100, age_s=3600)
        another_run = file(tmp_path / ".overlay.89abcdef.tmp.mp4", 100)
        others = [file(tmp_path / name, 1, age_s=3600) for name in (".x.tmp.mp4", ".tmp", "a.0123abcd.tmp.mp4")]
        prepare_folder(tmp_path, "live")
        assert not left.exists() and not left_mask.exists()
        assert all(path.exists() for path in [another_run, *others])
