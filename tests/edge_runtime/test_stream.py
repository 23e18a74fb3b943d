import os
import threading
import time
from types import SimpleNamespace

import cv2
import pytest
from colors import color_scene, color_truth
from mjpeg import until

from edge_runtime import InputError, Segmenter, UsageError
from edge_runtime.segment.stream import stream
from edge_runtime.sources import ImageSource, StdinSource, open_source


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number, size in enumerate([(48, 64), (96, 128), (24, 32)]):
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", color_scene(*size))[1].tobytes())
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for _ in range(20):
        writer.write(color_scene())
    writer.release()
    return path


class TestStream:
    def test_gives_a_mask_for_every_frame(self, color_package, scenes):
        before = time.monotonic()
        results = list(Segmenter.load(color_package).stream(scenes))
        assert [r.frame.name for r in results] == ["0", "1", "2"]
        for result in results:
            truth = color_truth(result.frame.image_bgr)
            assert (result.segmentation.mask == truth).mean() > 0.95
            assert before <= result.frame.captured_at <= time.monotonic()
            assert list(result.stages_ms) == ["resize", "inference", "mask"]
            assert result.age_ms >= result.latency_ms >= sum(result.stages_ms.values()) > 0

    def test_the_latency_is_measured_also_of_a_segmenter_that_times_no_stage(self, color_package, scenes, monkeypatch):
        segmenter = Segmenter.load(color_package)
        clock = SimpleNamespace(now_s=0.0, perf_counter=lambda: clock.now_s, monotonic=time.monotonic)
        monkeypatch.setattr("edge_runtime.segment.stream.time", clock)

        def untimed(image_bgr, times=None):
            clock.now_s += 1
            return segmenter(image_bgr)

        results = list(stream(untimed, scenes))
        assert len(results) == 3
        assert all(result.latency_ms == 1000 and result.stages_ms == {} for result in results)

    def test_an_open_source_stays_open(self, color_package, scenes):
        closed = []

        class Watched(ImageSource):
            def close(self):
                closed.append(True)

        segmenter = Segmenter.load(color_package)
        with Watched(sorted(scenes.iterdir()), "scenes") as source:
            assert len(list(stream(segmenter, source))) == 3
            assert not closed
        assert closed

    @pytest.mark.parametrize("name", ["video", "scenes", "-"])
    def test_a_source_that_nobody_has_opened_is_refused(self, color_package, name, request):
        source = open_source(name if name == "-" else request.getfixturevalue(name))
        with pytest.raises(UsageError, match="— is not open — use it inside `with open_source"):
            list(stream(Segmenter.load(color_package), source))

    def test_leaving_early_closes_the_source(self, color_package, tmp_path):
        results = Segmenter.load(color_package).stream(tmp_path / "nothing.png")
        with pytest.raises(InputError, match=r"nothing\.png — no such file"):
            next(results)

    def test_bad_files_are_reported_after_the_others(self, color_package, scenes):
        (scenes / "1.png").write_bytes(b"")
        results = Segmenter.load(color_package).stream(scenes)
        assert [next(results).frame.name, next(results).frame.name] == ["0", "2"]
        with pytest.raises(InputError, match=r"1 of 3 images cannot be used: .*1\.png — empty file"):
            next(results)

    def test_a_video_is_read_ahead_and_none_of_it_lost(self, color_package, video):
        """The model waits for the third frame to be read: one after the other would never end."""
        segmenter, source = Segmenter.load(color_package), open_source(video)

        def waiting(image_bgr, times=None):
            until(lambda: source.captured >= 3)
            return segmenter(image_bgr, times)

        with source:
            assert [result.frame.index for result in stream(waiting, source)] == list(range(20))

    def test_leaving_a_video_early_ends_the_reading_thread(self, color_package, video):
        results = Segmenter.load(color_package).stream(video)
        assert next(results).frame.index == 0
        results.close()
        assert not any(thread.name == "edge-unet-read" for thread in threading.enumerate())

    def test_leaving_early_does_not_wait_for_a_silent_writer(self, color_package):
        reader, writer = os.pipe()
        os.write(writer, bytes(24 * 32 * 3))
        try:
            with StdinSource(reader, raw_size=(24, 32)) as source:
                results = stream(Segmenter.load(color_package), source)
                assert next(results).frame.index == 0
                results.close()  # without telling the source to stop, this would never return
        finally:
            os.close(writer)
            os.close(reader)
