import cv2
import numpy as np
import pytest
from datasets import COLORS_BGR
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.dataset.label_key import IGNORE
from training.input.augment import augment, mix, random_affine


def blocks(seed, height_px=48, width_px=64, channels=3):
    """Return a picture of flat blocks, each in the colour of its class, and its class ids."""
    ids = np.random.default_rng(seed).integers(0, 3, (height_px // 16, width_px // 16), np.uint8)
    ids = np.kron(ids, np.ones((16, 16), np.uint8))
    return np.ascontiguousarray(COLORS_BGR[ids][..., :channels]), ids


def variant(image, mask, seed):
    return augment(image, mask, *mask.shape, np.random.default_rng(seed))


def test_the_same_random_state_gives_the_same_variant():
    image, mask = blocks(0)
    for a, b in zip(variant(image, mask, 7), variant(image, mask, 7), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(variant(image, mask, 7)[0], variant(image, mask, 8)[0])


@given(
    seed=st.integers(0, 2**32),
    height_px=st.integers(1, 5).map(lambda n: 16 * n),
    width_px=st.integers(1, 5).map(lambda n: 16 * n),
    channels=st.sampled_from([1, 3]),
)
def test_sizes_and_types_stay_and_no_id_is_invented(seed, height_px, width_px, channels):
    image, mask = blocks(seed, height_px, width_px, channels)
    before = image.copy(), mask.copy()
    new_image, new_mask = variant(image, mask, seed)
    assert (new_image.shape, new_image.dtype) == (image.shape, np.uint8)
    assert (new_mask.shape, new_mask.dtype) == (mask.shape, np.uint8)
    assert set(np.unique(new_mask)) <= set(np.unique(mask)) | {IGNORE}
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])


def agreement(image, mask):
    """Return the share of counted pixels whose class, told from the colour alone, is that of the mask."""
    brightest = image.astype(np.int64)
    found = np.where(brightest[..., 2] > brightest[..., 0], 1, np.where(brightest[..., 0] > brightest[..., 2], 2, 0))
    counted = mask != IGNORE
    return (found == mask)[counted].mean()


@given(st.integers(0, 2**32))
def test_image_and_mask_move_together(seed):
    image, mask = blocks(seed)
    assert agreement(image, mask) == 1
    # Bilinear pixels on the borders between blocks may tell either side.
    height_px, width_px = 96, 80
    matrix = random_affine(mask, height_px, width_px, np.random.default_rng(seed))
    moved = cv2.warpAffine(image, matrix, (width_px, height_px), borderMode=cv2.BORDER_REFLECT_101)
    assert agreement(moved, augment(image, mask, height_px, width_px, np.random.default_rng(seed))[1]) > 0.9


def test_what_lies_outside_the_picture_counts_nowhere_and_is_mirrored_in_the_image():
    mask = np.ones((64, 64), np.uint8)
    image = np.full((64, 64, 3), 127, np.uint8)
    variants = [variant(image, mask, seed) for seed in range(60)]
    outside = [(m == IGNORE).mean() for _, m in variants]
    assert min(outside) == 0
    assert 0.2 < max(outside) < 0.75
    for new_image, _ in variants:
        assert new_image.min() > 0, "the border is mirrored, never black"


def test_the_middle_of_the_picture_is_as_likely_left_as_right():
    """A shift between the pixels of OpenCV's warp and of its resize would move masks against what the device sees."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 200
    matrices = [random_affine(np.zeros((64, 64), np.uint8), 32, 48, np.random.default_rng(seed)) for seed in range(400)]
    middles = np.array([m @ [31.5, 31.5, 1] for m in matrices])
    assert np.abs(middles.mean(0) - [23.5, 15.5]).max() < 2
    assert np.allclose(np.median(middles, 0), [23.5, 15.5], atol=2)


def test_a_part_of_the_input_is_seen_at_the_input_s_size():
    """Stripes of 8 pixels keep their width in a crop, up to the zoom; shrunk into it they would be 2 pixels wide."""
    mask = np.kron(np.arange(32) % 2, np.ones((256, 8))).astype(np.uint8)
    image = np.repeat(mask[..., np.newaxis] * 200, 3, axis=-1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = augment(image, mask, 64, 64, rng, input_size=(256, 256))[1]
        borders = np.count_nonzero(np.diff(labels[32].astype(int)))
        assert 64 / 8 / 1.9 - 1 <= borders <= 64 / 8 / 0.6 + 1


def test_half_of_the_crops_are_placed_to_show_a_rare_class():
    mask = np.zeros((256, 256), np.uint8)
    mask[200:203, 20:23] = 1
    image = np.zeros((256, 256, 3), np.uint8)
    crops = [augment(image, mask, 64, 64, np.random.default_rng(i), input_size=(256, 256))[1] for i in range(200)]
    assert 0.5 < np.mean([(crop == 1).any() for crop in crops]) < 0.66
    everywhere = [
        augment(image, 0 * mask, 64, 64, np.random.default_rng(i), input_size=(256, 256))[1] for i in range(50)
    ]
    assert (
        np.mean([(crop == IGNORE).mean() for crop in crops])
        < 0.05
        > np.mean([(c == IGNORE).mean() for c in everywhere])
    )


@pytest.mark.parametrize(("flip", "expected"), [("none", {0}), ("horizontal", {0, 1}), ("both", {0, 1, 2, 3})])
def test_flips_go_in_the_directions_that_are_wanted(flip, expected):
    corner = np.zeros((64, 64), np.uint8)
    seen = []
    for seed in range(80):
        across, down = np.diag(random_affine(corner, 64, 64, np.random.default_rng(seed), flip=flip)[:, :2]) < 0
        seen.append(2 * int(down) + int(across))
    assert set(seen) == expected
    assert min(seen.count(direction) for direction in expected) > 80 / len(expected) / 2


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_zooms_and_tones_all_occur(channels):
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[np.newaxis, :, np.newaxis], (64, 64, channels))
    variants = [variant(np.ascontiguousarray(ramp), np.zeros((64, 64), np.uint8), seed)[0] for seed in range(60)]
    rising = [v[32, 40, 0] > v[32, 24, 0] for v in variants]
    assert 15 < sum(rising) < 45
    means = [v.mean() for v in variants]
    assert min(means) < 110 < 145 < max(means)


def test_mixed_pictures_have_a_rectangle_of_the_next_one_with_its_labels():
    masks = np.stack([np.full((40, 60), i, np.uint8) for i in range(4)])
    images = np.repeat(masks[..., np.newaxis] * 50, 3, axis=-1)
    mixed_images, mixed_masks = mix(images, masks, 1.0, np.random.default_rng(0))
    assert np.array_equal(mixed_images, np.repeat(mixed_masks[..., np.newaxis] * 50, 3, axis=-1))
    for i, mask in enumerate(mixed_masks):
        assert set(np.unique(mask)) == {i, (i + 1) % 4}
        rows, columns = np.nonzero(mask != i)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area == (mask != i).sum()
        assert 0.08 < area / mask.size < 0.53
    assert np.array_equal(masks[0], np.zeros((40, 60), np.uint8)), "the batch that is handed in stays as it is"


def test_without_a_share_nothing_is_mixed():
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    mixed_images, mixed_masks = mix(images, masks, 0.0, np.random.default_rng(0))
    assert np.array_equal(mixed_images, images)
    assert np.array_equal(mixed_masks, masks)
