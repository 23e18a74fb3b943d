import json
import os
import signal
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from datasets import jpeg, png, squares
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.dataset.pairs import PairFolders, find_pairs
from edge_runtime.errors import StorageError
from edge_runtime.image import read_image
from edge_runtime.segment.preprocess import model_input, resize_mask
from training.errors import DataError
from training.input.cache import PixelSpec, cache_size, open_cache

SIZE = {"height_px": 24, "width_px": 40}


def read_ids(pair):
    return read_mask(pair.mask).values


@pytest.fixture
def pairs(empty_dataset):
    root = empty_dataset.fill(5).root
    return find_pairs(PairFolders(images=root / "images", masks=root / "masks")).pairs


def opened(pairs, tmp_path, read=read_ids, **changes):
    options = {key: changes.pop(key) for key in ("memory_bytes", "on_progress") if key in changes}
    spec = PixelSpec(pairs=pairs, read_ids=read, **({"channels": 3} | SIZE | changes))
    return open_cache(spec, tmp_path / "cache", **options)


def on_disk(pairs, tmp_path, read=read_ids, **changes):
    return opened(pairs, tmp_path, read, memory_bytes=0, **changes)


def refuse(pair):
    raise RuntimeError(f"{pair.stem} is decoded again")


@pytest.mark.parametrize("memory_bytes", [None, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(24, 40), (32, 32)], ids=["resized", "own size"])
def test_pictures_are_what_the_runtime_hands_to_the_model(pairs, tmp_path, memory_bytes, channels, size):
    cache = opened(pairs, tmp_path, height_px=size[0], width_px=size[1], channels=channels, memory_bytes=memory_bytes)
    assert (cache.images.shape, cache.masks.shape) == ((5, *size, channels), (5, *size))
    assert (cache.images.dtype, cache.masks.dtype) == (np.uint8, np.uint8)
    assert cache.images.flags.c_contiguous
    assert cache.names == tuple(str(pair.image) for pair in pairs)
    for pair, image, mask in zip(pairs, cache.images, cache.masks, strict=True):
        expected_bgr = model_input(read_image(pair.image), *size, channels)
        np.testing.assert_array_equal(image, expected_bgr[..., ::-1])
        np.testing.assert_array_equal(mask, resize_mask(read_ids(pair), *size))


def test_pictures_that_fit_into_memory_leave_nothing_on_disk(pairs, tmp_path):
    needed = 5 * 24 * 40 * 4
    assert opened(pairs, tmp_path, memory_bytes=needed).folder is None
    assert not (tmp_path / "cache").exists()
    assert opened(pairs, tmp_path, memory_bytes=needed - 1).folder == tmp_path / "cache"


def test_every_pair_is_counted(pairs, tmp_path):
    done = []
    opened(pairs, tmp_path, on_progress=lambda *call: done.append(call))
    assert done == [("reading images", number, 5) for number in range(6)]


def test_what_is_on_disk_is_taken_up_without_decoding_also_where_memory_would_do(pairs, tmp_path):
    first = on_disk(pairs, tmp_path)
    again = opened(pairs, tmp_path, refuse)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.masks, first.masks)


def change_size(pairs):
    return {"height_px": 16}


def change_channels(pairs):
    return {"channels": 1}


def change_labels(pairs):
    return {"labels": "other classes"}


def change_file(pairs):
    pairs[2].image.write_bytes(png(squares(77, 48, 48)[0][:32, :32]) + b"\0")
    return {}


def change_time(pairs):
    os.utime(pairs[2].mask, ns=(1, 1))
    return {}


@pytest.mark.parametrize("change", [change_size, change_channels, change_labels, change_file, change_time])
def test_what_was_decoded_from_something_else_is_not_taken_up(pairs, tmp_path, change):
    on_disk(pairs, tmp_path)
    with pytest.raises(RuntimeError, match="is decoded again"):
        on_disk(pairs, tmp_path, refuse, **change(pairs))


def test_another_order_or_fewer_pairs_are_not_taken_up(pairs, tmp_path):
    on_disk(pairs, tmp_path)
    for other in (pairs[::-1], pairs[1:]):
        np.testing.assert_array_equal(
            on_disk(other, tmp_path).images, opened(other, tmp_path / "x", memory_bytes=10**9).images
        )


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "cache.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_a_damaged_cache_is_made_again(pairs, tmp_path, name, damage):
    expected = on_disk(pairs, tmp_path).images.copy()
    path = tmp_path / "cache" / name
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "empty" else path.stat().st_size - 1)
    np.testing.assert_array_equal(on_disk(pairs, tmp_path).images, expected)
    assert json.loads((tmp_path / "cache/cache.json").read_text()).keys() == {"fingerprint"}


def test_remove_leaves_nothing_and_may_come_twice(pairs, tmp_path):
    cache = on_disk(pairs, tmp_path)
    before = cache.images.copy()
    for _ in range(2):
        cache.remove()
    assert not (tmp_path / "cache").exists()
    np.testing.assert_array_equal(cache.images, before)
    opened(pairs, tmp_path).remove()


@pytest.mark.parametrize("memory_bytes", [None, 0], ids=["memory", "disk"])
class TestBadFiles:
    def test_a_cut_image_is_named(self, pairs, tmp_path, memory_bytes):
        pairs[3].image.write_bytes(jpeg(squares(1)[0])[:300])
        with pytest.raises(DataError, match=f"images.{pairs[3].image.name}"):
            opened(pairs, tmp_path, memory_bytes=memory_bytes)
        assert list(tmp_path.glob("*cache*")) == []

    def test_a_missing_mask_is_named(self, pairs, tmp_path, memory_bytes):
        pairs[0].mask.unlink()
        with pytest.raises(DataError, match=f"masks.{pairs[0].mask.name}.*no such file"):
            opened(pairs, tmp_path, memory_bytes=memory_bytes)

    def test_a_mask_of_another_size_is_named(self, pairs, tmp_path, memory_bytes):
        pairs[1].mask.write_bytes(png(squares(1, 20, 32)[1]))
        with pytest.raises(DataError, match=f"{pairs[1].mask.name} — mask is 20x32, image .* is 32x32 — "):
            opened(pairs, tmp_path, memory_bytes=memory_bytes)


class TestFullDisk:
    @pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
    def test_writing_fails_with_nothing_half_left(self, pairs, tmp_path):
        with (
            file_size_limit(8000),
            pytest.raises(StorageError, match=r"cannot write .*cache — file too large") as raised,
        ):
            on_disk(pairs, tmp_path)
        assert raised.value.exit_code == 6
        assert list(tmp_path.glob("*cache*")) == list(tmp_path.glob(".*")) == []

    def test_what_cannot_fit_is_refused_before_anything_is_decoded(self, pairs, tmp_path):
        with pytest.raises(
            StorageError,
            match=r"pictures take 20000\.0 GB, \d+\.\d GB are free — free some space or choose another folder",
        ):
            on_disk(pairs, tmp_path, refuse, height_px=10**6, width_px=10**6)

    def test_an_old_cache_survives_a_failed_new_one(self, pairs, tmp_path):
        on_disk(pairs, tmp_path)
        with file_size_limit(8000), pytest.raises(StorageError):
            on_disk(pairs, tmp_path, height_px=32)
        on_disk(pairs, tmp_path, refuse)


@contextmanager
def file_size_limit(limit):
    """Let no file of this process grow beyond ``limit`` bytes: what a full disk is, without one."""
    import resource

    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([(360, 480)], (360, 480), id="between the model's and twice that"),
        pytest.param([(3000, 4000)], (448, 576), id="at most twice the model's"),
        pytest.param([(100, 90)], (224, 288), id="at least the model's"),
        pytest.param([(100, 4000)], (224, 576), id="each side on its own"),
        pytest.param([(230, 300), (240, 310), (3000, 5000)], (240, 310), id="the median"),
    ],
)
def test_cache_size(sizes, expected):
    assert cache_size(sizes, height_px=224, width_px=288) == expected


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=20))
def test_a_cache_is_never_smaller_than_the_model_s_input_nor_more_than_twice_it(sizes):
    height, width = cache_size(sizes, height_px=224, width_px=288)
    assert 224 <= height <= 448
    assert 288 <= width <= 576


def test_files_on_disk_are_read_by_opencv_as_they_are(pairs, tmp_path):
    cache = on_disk(pairs, tmp_path)
    assert type(cache.images) is np.ndarray
    assert not cache.images.flags.writeable
    moved = cv2.warpAffine(cache.images[0], np.float64([[1, 0, 0], [0, 1, 0]]), (40, 24))
    np.testing.assert_array_equal(moved, cache.images[0])
