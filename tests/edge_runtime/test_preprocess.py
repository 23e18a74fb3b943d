import cv2
import numpy as np
import pytest
from colors import color_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime.errors import InputError
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_image, resize_mask, to_channels


class Lookalike:
    """Has a shape and a dtype, and is no array."""

    shape, dtype = (4, 4, 3), np.uint8


@pytest.mark.parametrize("value", [None, [[1, 2], [3, 4]], "frame.png", b"\0", 3, Lookalike(), memoryview(b"\0\0")])
def test_what_is_no_array_is_refused_with_its_type(value):
    with pytest.raises(InputError, match=rf"frame — is a {type(value).__name__} — expected a NumPy array"):
        checked_frame(value)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "int64", "uint16", ">u2", "float16", "float32", ">f4", "float64", "object", "U1"]
)
def test_another_dtype_is_refused_and_never_guessed(dtype):
    with pytest.raises(InputError, match=r"dtype is .* — expected uint8 \(0–255\) — scale it"):
        checked_frame(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 255.0])
def test_floats_are_refused_whatever_they_hold(value):
    with pytest.raises(InputError, match="dtype is float32 — expected uint8"):
        checked_frame(np.full((4, 4, 3), value, np.float32))


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4, 2), (4, 4, 5), (4, 4, 0), (1, 4, 4, 3), (1, 1, 4, 4, 3), (3, 4, 480)]
)
def test_another_shape_is_refused_with_those_there_are(shape):
    with pytest.raises(InputError, match=r"shape is \(.* — expected (\(H, W\)|at least one pixel)"):
        checked_frame(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3), (0, 0, 3)])
def test_an_empty_frame_is_refused(shape):
    with pytest.raises(InputError, match="expected at least one pixel"):
        checked_frame(np.zeros(shape, np.uint8))


def test_a_huge_frame_is_refused_before_any_copy():
    huge = np.broadcast_to(np.uint8(0), (100_000, 100_000, 3))  # 30 GB that nobody has
    with pytest.raises(InputError, match="at most 64 megapixels"):
        checked_frame(huge)


def test_the_limit_of_pixels_is_the_callers():
    assert checked_frame(np.zeros((30, 40), np.uint8), max_pixels=1200).shape == (30, 40)
    with pytest.raises(InputError, match=r"shape is \(30, 40\) — at most 0 megapixels"):
        checked_frame(np.zeros((30, 40), np.uint8), max_pixels=1199)


def test_a_masked_array_is_refused():
    with pytest.raises(InputError, match=r"is a masked array — expected a value for every pixel — fill it"):
        checked_frame(np.ma.masked_array(np.zeros((4, 4), np.uint8), True))


@pytest.mark.parametrize("strides", [(0, 1), (0, 0), (1, 1), (1, 0)])
def test_rows_that_overlap_give_what_their_copy_gives(strides):
    memory = np.random.default_rng(1).integers(0, 256, 200, dtype=np.uint8)
    frame = np.lib.stride_tricks.as_strided(memory, (50, 60), strides)
    expected = model_input(np.array(frame, order="C"), 24, 32, 3)
    assert np.array_equal(model_input(checked_frame(frame), 24, 32, 3), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (24, 32), (24, 32, 3)])
def test_the_result_is_written_where_the_caller_wants_it(shape, channels):
    frame = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    out = np.zeros((24, 32, channels), np.uint8)
    assert model_input(frame, 24, 32, channels, out=out) is out
    assert np.array_equal(out, model_input(frame, 24, 32, channels))


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5), (4, 5)), ((4, 5, 1), (4, 5)), ((4, 5, 3), (4, 5, 3)), ((4, 5, 4), (4, 5, 3))]
)
def test_accepted_shapes(shape, expected):
    assert checked_frame(np.zeros(shape, np.uint8)).shape == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_channels_are_made_to_fit(shape, channels):
    frame = np.full(shape, 77, np.uint8)
    result = to_channels(frame, channels)
    assert result.shape == ((4, 5) if channels == 1 else (4, 5, 3))
    assert (result == 77).all()


def test_grey_weighs_the_channels_as_bgr():
    blue, red = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)
    blue[0, 0, 0], red[0, 0, 2] = 255, 255
    assert to_channels(blue, 1).item() == 29
    assert to_channels(red, 1).item() == 76


@pytest.mark.parametrize(
    "view",
    [
        lambda f: f[:, ::-1],
        lambda f: f[::-1],
        lambda f: f[:, :, ::-1],
        lambda f: f[::2, ::3],
        lambda f: f[5:40, 7:50],
        lambda f: np.asfortranarray(f),
        lambda f: f.transpose(1, 0, 2),
        lambda f: np.broadcast_to(f[:1], f.shape),
        lambda f: f[:, :, 0],
        lambda f: f[:, ::-1, 1],
        lambda f: np.dstack([f, f[:, :, :1]]),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_strides_do_not_change_the_result(view, channels):
    frame = view(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    frame.flags.writeable = False
    result = model_input(checked_frame(frame), 24, 32, channels)
    plain = model_input(checked_frame(np.ascontiguousarray(frame)), 24, 32, channels)
    assert result.flags.c_contiguous
    assert result.shape == (24, 32, channels)
    assert np.array_equal(result, plain)


def test_the_frame_is_left_as_it_was():
    frame = color_scene()
    model_input(checked_frame(frame), 24, 32, 1)
    assert np.array_equal(frame, color_scene())


def test_image_resize_has_half_pixel_centres_and_no_antialiasing():
    ramp = np.arange(8, dtype=np.uint8)[np.newaxis].repeat(2, 0) * 10
    assert resize_image(ramp, 2, 4)[0].tolist() == [5, 25, 45, 65]
    stripes = np.tile(np.array([0, 0, 255, 0], np.uint8), (4, 4))
    assert set(resize_image(stripes, 1, 4)[0].tolist()) == {128}


def test_mask_resize_takes_the_pixel_at_the_centre():
    assert resize_mask(np.array([[1, 2], [3, 4]], np.uint8), 4, 4).tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]
    assert resize_mask(np.arange(9, dtype=np.uint8)[np.newaxis], 1, 3).tolist() == [[1, 4, 7]]


masks = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=20))


@given(masks, st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_mask_resize_gives_the_pixels_of_opencv(mask, height, width):
    expected = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(resize_mask(mask, height, width), expected)


@given(masks, st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_mask_resize_invents_no_id(mask, height, width):
    result = resize_mask(mask, height, width)
    assert result.shape == (height, width)
    assert set(np.unique(result)) <= set(np.unique(mask))


@given(masks, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_a_mask_made_larger_and_small_again_is_the_same(mask, factor):
    height, width = mask.shape
    larger = resize_mask(mask, height * factor, width * factor)
    assert np.array_equal(larger, np.kron(mask, np.ones((factor, factor), np.uint8)))
    assert np.array_equal(resize_mask(larger, height, width), mask)


def test_mask_resize_commutes_with_flipping():
    mask = np.random.default_rng(2).integers(0, 4, (24, 32), dtype=np.uint8)
    there = cv2.flip(resize_mask(mask, 72, 96), 1)
    assert np.array_equal(there, resize_mask(cv2.flip(mask, 1), 72, 96))
