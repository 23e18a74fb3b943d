import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import WedgedError
from training.errors import DataError, LoaderError
from training.input.batches import Batches
from training.input.cache import PixelCache

HEIGHT_PX, WIDTH_PX = 6, 8


def numbered(count, height_px=HEIGHT_PX, width_px=WIDTH_PX):
    """Pictures and masks that hold their number."""
    numbers = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (count, height_px, width_px, 3))
    return PixelCache(
        images=np.ascontiguousarray(images),
        masks=np.ascontiguousarray(images[..., 0]),
        names=tuple(f"{n}.png" for n in range(count)),
    )


def batches(count=10, batch_size=4, cache=None, **changes):
    options = {"height_px": HEIGHT_PX, "width_px": WIDTH_PX, "seed": 5} | changes
    return Batches(cache or numbered(count), batch_size=batch_size, **options)


def shrink_and_tint(image, mask, height_px, width_px, rng):
    """A variation that shows in the pixels: resized to the size asked for, a random amount brighter."""
    size = (width_px, height_px)
    return cv2.resize(image, size) + np.uint8(rng.integers(100)), cv2.resize(mask, size)


def roll(images, masks, rng):
    by = int(rng.integers(len(images)))
    return np.roll(images, by, axis=0), np.roll(masks, by, axis=0)


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("worker ")]


def assert_same(some, others):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.masks, b.masks)


@given(count=st.integers(1, 30), batch_size=st.integers(1, 9))
def test_batches_have_one_shape_and_hold_the_pictures_they_name(count, batch_size):
    feed = batches(count, batch_size, threads=1)
    assert feed.steps == -(-count // batch_size)
    found = list(feed.epoch(0))
    assert len(found) == feed.steps
    for batch in found:
        assert (batch.images.shape, batch.images.dtype) == ((batch_size, HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        assert (batch.masks.shape, batch.masks.dtype) == ((batch_size, HEIGHT_PX, WIDTH_PX), np.uint8)
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.indices)
        np.testing.assert_array_equal(batch.masks[:, 0, 0], batch.indices)


@given(count=st.integers(1, 20), batch_size=st.integers(1, 40), epochs=st.integers(1, 4))
def test_every_picture_is_seen_equally_often_also_where_a_batch_takes_more_than_there_are(count, batch_size, epochs):
    feed = batches(count, batch_size)
    seen = np.concatenate([feed.batch(e, s).indices for e in range(epochs) for s in range(feed.steps)])
    times = np.bincount(seen, minlength=count)
    assert times.max() - times.min() <= 1
    assert seen[:count].tolist() != seen[count : 2 * count].tolist() or count < 6, "passes are shuffled anew"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_epochs_are_the_same_whatever_the_threads_and_from_any_step_on(threads):
    options = {"count": 21, "cache": numbered(21, 12, 16), "augment": shrink_and_tint, "mix": roll}
    whole = list(batches(**options, threads=1).epoch(3))
    assert_same(whole, batches(**options, threads=threads).epoch(3))
    for first_step in range(len(whole) + 1):
        assert_same(whole[first_step:], batches(**options, threads=threads).epoch(3, first_step=first_step))


def test_seed_epoch_and_step_change_order_and_variation():
    def pixels(seed, epoch, step):
        return batches(9, 3, seed=seed, augment=shrink_and_tint).batch(epoch, step).images.tobytes()

    assert len({pixels(s, e, t) for s in (0, 1) for e in (0, 1) for t in (0, 1, 2)}) == 12


def test_variation_of_the_first_step_is_not_tied_to_the_order():
    # NumPy seeds [5, 1] and [5, 1, 0] alike; the two streams must not.
    draws = []

    def noting(image, mask, height_px, width_px, rng):
        draws.append(rng.random())
        return image, mask

    order = [b.indices.tolist() for b in batches(8, 8, augment=noting).epoch(0)]
    assert draws[0] not in {np.random.default_rng([5, *tail]).random() for tail in ([], [0], [0, 0], [1], [1, 0])}
    assert sorted(order[0]) == list(range(8))


class TestErrors:
    def failing(self, error, at):
        def augment(image, mask, height_px, width_px, rng):
            if image[0, 0, 0] == at:
                raise error
            return image, mask

        return augment

    @pytest.mark.parametrize("threads", [1, 3])
    def test_an_error_surfaces_at_its_batch_and_names_the_file(self, threads):
        feed = batches(12, 4, augment=self.failing(cv2.error("bad\nsize"), 7), threads=threads)
        at = next(s for s in range(3) if 7 in batches(12, 4).batch(0, s).indices)
        found = feed.epoch(0)
        for _ in range(at):
            next(found)
        text = (
            rf"epoch 1, step {at + 1}: preparing the batch, at 7\.png — failed with error: bad size — .* --no-augment"
        )
        with pytest.raises(LoaderError, match=text) as raised:
            next(found)
        assert raised.value.exit_code == 70
        assert isinstance(raised.value.__cause__, cv2.error)

    def test_an_error_of_ours_passes_as_it_is(self):
        with pytest.raises(DataError, match=r"^7\.png — gone$"):
            list(batches(8, 8, augment=self.failing(DataError("7.png — gone"), 7)).epoch(0))

    def test_a_result_of_another_size_is_named(self):
        with pytest.raises(LoaderError, match=r"at \d\.png — failed with ValueError: could not broadcast"):
            list(batches(8, 8, augment=lambda image, mask, *_: (image[:3, :2], mask)).epoch(0))

    def test_a_hang_names_the_file_in_hand(self):
        free = threading.Event()

        def augment(image, mask, height_px, width_px, rng):
            if image[0, 0, 0] == 3:
                free.wait()
            return image, mask

        with pytest.raises(WedgedError, match=r"epoch 1, step 1: preparing the batch, at 3\.png — has taken more"):
            next(batches(8, 8, augment=augment, patience_s=0.1).epoch(0))
        free.set()
        for thread in workers():
            thread.join()

    def test_what_can_make_no_batches_is_refused(self):
        with pytest.raises(ValueError, match="no pictures"):
            batches(0)
        with pytest.raises(ValueError, match="pass augment"):
            batches(cache=numbered(4, 12, 16))


def test_an_epoch_left_early_leaves_no_thread():
    found = batches(100, 2, threads=4).epoch(0)
    next(found)
    assert len(workers()) == 4
    found.close()
    assert workers() == []


def test_the_cache_is_left_as_it_is():
    cache = numbered(6)
    cache.images.flags.writeable = cache.masks.flags.writeable = False
    for batch in batches(6, 4, cache=cache).epoch(0):
        batch.images[:] = 0
    assert cache.images[5, 0, 0, 0] == 5
