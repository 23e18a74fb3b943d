import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from colors import color_contract, color_scene, color_truth, write_color_package
from context import context_contract, context_model
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import Segmenter
from edge_runtime.effects import Overlay
from edge_runtime.errors import InputError, UsageError
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.tiled import MAX_TILED_PIXELS, Axis, TiledSegmenter, draw_in_bands, window
from edge_runtime.segment.timing import StageTimes

PROJECT = Path(__file__).parents[2]


def scenery(height_px, width_px, seed=0):
    """Return a BGR picture of soft blobs, with structure at the scale of the model's context."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height_px, width_px, 3)), (0, 0), 9)
    return np.clip(128 + noise * (90 / noise.std()), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def make_segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def make(height_px, width_px, **contract):
        path = folder / "model.onnx"
        path.write_bytes(context_model(context_contract(height_px, width_px, **contract)))
        return Segmenter.load(path)

    return make


def agreement(found, expected):
    return float((found == expected).mean())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(192, 256), (200, 333), (64, 300), (70, 64)])
def test_tiles_agree_with_the_same_weights_at_the_pictures_size(make_segmenter, size, channels, classes):
    image, beyond = scenery(*size), [-side % 32 for side in size]
    padded = cv2.copyMakeBorder(image, 0, beyond[0], 0, beyond[1], cv2.BORDER_REFLECT)
    whole = make_segmenter(*padded.shape[:2], channels=channels, classes=classes)(padded)
    tiled = TiledSegmenter(make_segmenter(64, 64, channels=channels, classes=classes))(image)
    assert tiled.mask.shape == size
    assert agreement(tiled.mask, whole.mask[: size[0], : size[1]]) >= 0.995
    assert tiled.classes == whole.classes


def test_tiles_that_are_only_put_side_by_side_do_not(make_segmenter):
    """What the test above would say of crops without blending: the model errs along every tile's border."""
    image, small = scenery(192, 256), make_segmenter(64, 64)
    whole = make_segmenter(192, 256)(image).mask
    crops = np.block(
        [[small(image[y : y + 64, x : x + 64]).mask for x in range(0, 256, 64)] for y in range(0, 192, 64)]
    )
    assert agreement(crops, whole) < 0.98
    assert agreement(TiledSegmenter(small, overlap=0)(image).mask, whole) < 0.98
    # And of tiles that are put a little beside their place.
    assert agreement(np.roll(TiledSegmenter(small)(image).mask, 2, axis=1), whole) < 0.99


def test_a_model_without_context_gives_exactly_what_it_gives_for_each_pixel(tmp_path):
    segmenter = Segmenter.load(write_color_package(tmp_path / "colors", color_contract()))
    image = color_scene(150, 211)
    assert np.array_equal(TiledSegmenter(segmenter)(image).mask, color_truth(image))


@pytest.mark.parametrize("size", [(24, 32), (10, 12), (24, 5)])
def test_a_picture_no_larger_than_a_tile_takes_the_plain_path(tmp_path, size):
    segmenter = Segmenter.load(write_color_package(tmp_path / "colors", color_contract()))
    image = scenery(*size)
    assert np.array_equal(TiledSegmenter(segmenter)(image).mask, segmenter(image).mask)


@pytest.mark.parametrize("tile_size", [(48, 64), (72, 96), (31, 77), (500, 40), (12, 16), (1, 1)])
def test_a_tile_may_cover_more_or_less_of_the_picture_than_the_model_takes(tmp_path, tile_size):
    segmenter = Segmenter.load(write_color_package(tmp_path / "colors", color_contract()))
    image = cv2.GaussianBlur(color_scene(120, 131), (0, 0), 1)
    if tile_size == (1, 1):
        image = image[40:44, 30:35]
    mask = TiledSegmenter(segmenter, tile_size=tile_size)(image).mask
    assert mask.shape == image.shape[:2]
    # Nearest neighbour, as for a frame: borders of classes are off by up to half a pixel of the model.
    assert agreement(mask, color_truth(image)) > 0.93


def test_tiles_at_another_scale_are_the_scaled_picture_in_tiles(make_segmenter):
    small, image = make_segmenter(64, 64), scenery(400, 600)
    half = TiledSegmenter(small)(cv2.resize(image, (300, 200), interpolation=cv2.INTER_LINEAR)).mask
    found = TiledSegmenter(small, tile_size=(128, 128))(image).mask
    assert agreement(found, cv2.resize(half, (600, 400), interpolation=cv2.INTER_NEAREST_EXACT)) > 0.995


def test_mask_and_logits_are_placed_alike_by_a_plain_and_slow_reference(make_segmenter):
    """Blend whole pictures of logits and weights, as a textbook would, and compare every pixel."""
    image, small = scenery(170, 190), make_segmenter(64, 64, classes=3)
    total = np.zeros((192, 192, 3))
    padded = cv2.copyMakeBorder(image, 0, 22, 0, 2, cv2.BORDER_REFLECT)
    for y in range(0, 129, 32):
        for x in range(0, 129, 32):
            logits = small.logits(np.ascontiguousarray(padded[y : y + 64, x : x + 64]))
            total[y : y + 64, x : x + 64] += logits * window(64, 64)[..., np.newaxis]
    expected = class_ids_of(total[:170, :190].astype(np.float32))
    assert agreement(TiledSegmenter(small)(image).mask, expected) > 0.9999


@given(picture=st.integers(1, 3000), tile=st.integers(1, 700), model=st.integers(1, 300), overlap=st.floats(0, 0.9))
@settings(max_examples=300, deadline=None)
def test_tiles_cover_every_pixel_and_overlap_as_much_as_asked(picture, tile, model, overlap):
    axis = Axis.spread(picture, tile, model, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] < axis.scaled <= axis.starts[-1] + model
    steps = np.diff(axis.starts)
    assert ((steps > 0) & (steps <= max(1, model * (1 - overlap)))).all()
    assert len(steps) <= 3 * axis.scaled / max(1, model * (1 - overlap)) + 1
    for start in axis.starts:
        part = axis.part(start)
        assert 0 <= part.start < part.stop <= picture
    nearest = axis.nearest()
    assert nearest.shape == (picture,)
    assert 0 <= nearest[0] <= nearest[-1] < axis.scaled
    assert (np.diff(nearest) >= 0).all()


@pytest.mark.parametrize("model", [32, 64, 96, 256])
def test_tiles_start_at_multiples_of_the_stride_where_the_overlap_allows_it(model):
    starts = np.array(Axis.spread(1777, model, model, 0.5).starts)
    assert (starts % min(32, model // 2) == 0).all()


def test_the_window_fades_smoothly_and_is_positive_everywhere():
    weights = window(64, 48)
    assert weights.shape == (64, 48)
    assert weights.min() > 0
    assert weights.max() <= 1
    assert np.array_equal(weights, weights[::-1, ::-1])
    assert np.abs(np.diff(weights, axis=0)).max() < 0.1
    assert (np.diff(weights[:32], axis=0) > 0).all()


def test_the_picture_may_have_any_strides_and_is_left_as_it_was(make_segmenter):
    tiled, image = TiledSegmenter(make_segmenter(64, 64)), scenery(150, 160)
    expected = tiled(image).mask
    flipped = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    flipped.flags.writeable = False
    assert np.array_equal(tiled(flipped).mask, expected)
    assert np.array_equal(tiled(np.dstack([image, image[..., 0]])).mask, expected)
    assert np.array_equal(image, scenery(150, 160))


def test_four_threads_get_the_same_answers(make_segmenter):
    tiled = TiledSegmenter(make_segmenter(64, 64))
    images = [scenery(100 + 9 * i, 120, seed=i) for i in range(4)]
    alone = [tiled(image).mask for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: tiled(images[i % 4]).mask, range(16)))
    assert all(np.array_equal(mask, alone[i % 4]) for i, mask in enumerate(together))


class CountedTimes(StageTimes):
    """Counts how often each stage is entered."""

    def __init__(self):
        super().__init__()
        self.entered = Counter()

    def stage(self, name):
        self.entered[name] += 1
        return super().stage(name)


def test_tiles_are_counted_and_timed(make_segmenter):
    seen = []
    tiled = TiledSegmenter(make_segmenter(64, 64), on_progress=lambda *progress: seen.append(progress))
    times = CountedTimes()
    tiled(scenery(128, 160), times)
    assert seen == [("tiles", i, 12) for i in range(13)]
    assert list(times.stages_ms) == ["resize", "inference", "mask"]
    assert times.entered == {"resize": 12, "inference": 12, "mask": 3}
    seen.clear()
    times = StageTimes()
    tiled(scenery(10, 10), times)
    assert list(times.stages_ms) == ["resize", "inference", "mask"]
    assert seen == [("tiles", 0, 1), ("tiles", 1, 1)]


def test_a_long_picture_is_stopped_between_two_tiles(make_segmenter):
    class StoppedError(Exception):
        pass

    seen = []

    def stop_after_three(what, done, total):
        seen.append(done)
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        TiledSegmenter(make_segmenter(64, 64), on_progress=stop_after_three)(scenery(300, 300))
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("tile_size", [(0, 5), (5, -1), (10_000, 10_000)])
def test_a_senseless_tile_is_refused(make_segmenter, tile_size):
    with pytest.raises(UsageError, match=r"tile size is .* — expected 1x1 to 64 megapixels"):
        TiledSegmenter(make_segmenter(64, 64), tile_size=tile_size)


@pytest.mark.parametrize("overlap", [-0.1, 0.95, float("nan")])
def test_a_senseless_overlap_is_refused(make_segmenter, overlap):
    with pytest.raises(UsageError, match=r"overlap of tiles is .* — expected 0 to 0.9"):
        TiledSegmenter(make_segmenter(64, 64), overlap=overlap)


def test_a_picture_beyond_the_limit_is_refused_before_any_work(make_segmenter):
    tiled = TiledSegmenter(make_segmenter(64, 64))
    assert MAX_TILED_PIXELS < 20_001 * 20_000
    with pytest.raises(InputError, match="at most 400 megapixels"):
        tiled(np.broadcast_to(np.uint8(0), (20_001, 20_000, 3)))
    with pytest.raises(InputError, match="dtype is float32"):
        tiled(np.zeros((200, 200, 3), np.float32))


def test_an_overlay_drawn_in_bands_is_the_overlay_but_for_the_width_of_its_contours():
    image = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    mask = np.zeros((1500, 1400), np.uint8)
    cv2.circle(mask, (700, 760), 600, 1, -1)
    result = Segmentation(mask=mask, classes=context_contract(32, 32).classes)
    drawn = image.copy()
    assert draw_in_bands(Overlay(), drawn, result) is drawn
    whole = Overlay()(image, result)
    near_border = cv2.dilate(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3))), np.ones((21, 21)))
    assert not np.array_equal(drawn, image)
    assert np.array_equal(drawn[near_border == 0], whole[near_border == 0])


def test_an_effect_is_shown_the_rows_around_a_band_as_they_were():
    image = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    result = Segmentation(mask=np.zeros(image.shape[:2], np.uint8), classes=())
    drawn = draw_in_bands(lambda image_bgr, _: cv2.blur(image_bgr, (1, 31)), image.copy(), result)
    assert np.array_equal(drawn, cv2.blur(image, (1, 31)))


def peak_bytes(command):
    """Run a command and return the most memory that it had at once, as the kernel notes it, read until it ends."""
    peak = 0
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            noted = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
            peak = max(peak, int(noted[1]) * 1024 if noted else 0)
            threading.Event().wait(0.01)
    assert child.returncode == 0
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_eighty_megapixels_to_mask_and_overlay_stay_below_500_megabytes(tmp_path, ending):
    picture = cv2.resize(scenery(400, 500), (10_000, 8_000), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(tmp_path / f"large{ending}"), picture)
    del picture
    (tmp_path / "model.onnx").write_bytes(context_model(context_contract(256, 256)))
    command = [sys.executable, "-m", "edge_runtime", "run", tmp_path / "model.onnx", "--tile", "1024x1024"]
    found = peak_bytes([*command, "--source", tmp_path / f"large{ending}", "--save", tmp_path / "out"])
    assert 320e6 < found < 500e6
    mask = cv2.imread(str(tmp_path / "out" / "masks" / "large.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (8_000, 10_000)
    assert 0.2 < mask.mean() < 0.8
    assert cv2.imread(str(tmp_path / "out" / "overlays" / "large.jpg")).shape == (8_000, 10_000, 3)
