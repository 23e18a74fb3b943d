import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from edge_runtime.labels import IGNORE
from training.losses import LOSSES, accuracy, cross_entropy_dice_loss, cross_entropy_loss, dice_loss

FUNCTIONS = [cross_entropy_loss, dice_loss, cross_entropy_dice_loss, accuracy]


def sample(seed, classes, images=3):
    """Return random class ids (N, 4, 5) and probabilities (N, 4, 5, L)."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, classes, (images, 4, 5), np.uint8)
    logits = rng.normal(size=(images, 4, 5, 1 if classes == 2 else classes), scale=2).astype(np.float32)
    y_pred = ops.sigmoid(logits) if classes == 2 else ops.softmax(logits)
    return y_true, np.asarray(y_pred)


def value(function, y_true, y_pred):
    return np.asarray(function(ops.convert_to_tensor(y_true[..., None]), ops.convert_to_tensor(y_pred)))


@pytest.mark.parametrize("seed", range(3))
def test_binary_cross_entropy_is_that_of_keras(seed):
    y_true, y_pred = sample(seed, 2)
    expected = keras.losses.BinaryCrossentropy()(y_true[..., None].astype(np.float32), y_pred)
    assert np.isclose(value(cross_entropy_loss, y_true, y_pred).mean(), float(expected), rtol=1e-5)


@pytest.mark.parametrize("classes", [3, 12])
def test_cross_entropy_is_that_of_keras(classes):
    y_true, y_pred = sample(1, classes)
    expected = keras.losses.SparseCategoricalCrossentropy()(y_true, y_pred)
    assert np.isclose(value(cross_entropy_loss, y_true, y_pred).mean(), float(expected), rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.sampled_from([2, 3]))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_ignored_pixels_have_no_influence(function, seed, classes):
    y_true, y_pred = sample(seed, classes)
    rng = np.random.default_rng(seed)
    ignored = rng.random(y_true.shape) < 0.4
    y_true[ignored] = IGNORE
    other = y_pred.copy()
    other[ignored] = rng.permutation(y_pred.reshape(-1, y_pred.shape[-1]))[: ignored.sum()]
    assert np.allclose(value(function, y_true, y_pred), value(function, y_true, other), rtol=1e-5, atol=1e-6)


def test_ignored_pixels_do_not_dilute_the_mean():
    y_true, y_pred = sample(0, 3)
    half = value(cross_entropy_loss, y_true[:, :2], y_pred[:, :2])
    y_true[:, 2:] = IGNORE
    assert np.allclose(value(cross_entropy_loss, y_true, y_pred), half, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_image_without_any_counted_pixel_costs_nothing(function, classes):
    y_true, y_pred = sample(0, classes)
    found = value(function, np.full_like(y_true, IGNORE), y_pred)
    assert found.tolist() == [0, 0, 0]


# 2×2 pixels by hand. Classes 0 0 / 1 1; the probability of class 1 is 0.5 0.25 / 0.75 1.
TRUTH = np.array([[[0, 0], [1, 1]]], np.uint8)
ONE = np.array([[[0.5, 0.25], [0.75, 1.0]]], np.float32)


def test_dice_of_a_binary_model_by_hand():
    # 1 - (2 · (0.75 + 1) + 1) / ((0.5 + 0.25 + 0.75 + 1) + 2 + 1) = 1 - 4.5 / 5.5
    assert value(dice_loss, TRUTH, ONE[..., None]) == pytest.approx([1 - 4.5 / 5.5])


def test_dice_of_two_softmax_classes_by_hand():
    # Class 0: (2 · (0.5 + 0.75) + 1) / (1.5 + 2 + 1) = 3.5 / 4.5; class 1 as above.
    both = np.stack([1 - ONE, ONE], axis=-1)
    assert value(dice_loss, TRUTH, both) == pytest.approx([1 - (3.5 / 4.5 + 4.5 / 5.5) / 2])


def test_dice_leaves_out_classes_that_do_not_occur():
    three = np.stack([1 - ONE, ONE, np.zeros_like(ONE)], axis=-1)
    assert value(dice_loss, TRUTH, three) == pytest.approx(value(dice_loss, TRUTH, three[..., :2]))
    only_one = np.zeros_like(TRUTH)
    # Class 0 alone: 1 - (2 · 1.5 + 1) / (1.5 + 4 + 1)
    assert value(dice_loss, only_one, three) == pytest.approx([1 - 4 / 6.5])


def test_dice_of_a_binary_model_without_any_foreground_costs_nothing():
    assert value(dice_loss, np.zeros_like(TRUTH), ONE[..., None]).tolist() == [0]


def test_dice_sums_over_the_batch_and_gives_one_value_an_image():
    y_true, y_pred = sample(0, 3)
    found = value(dice_loss, y_true, y_pred)
    assert found.shape == (3,)
    assert np.ptp(found) == 0
    merged = value(dice_loss, y_true.reshape(1, 12, 5), y_pred.reshape(1, 12, 5, 3))
    assert found[0] == pytest.approx(merged[0])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_perfect_answer_costs_nothing_and_is_all_right(classes):
    y_true, _ = sample(0, classes)
    perfect = (y_true[..., None] == np.arange(classes)).astype(np.float32)
    perfect = perfect[..., 1:] if classes == 2 else perfect
    assert value(cross_entropy_dice_loss, y_true, perfect) == pytest.approx(np.zeros(3), abs=1e-5)
    assert value(accuracy, y_true, perfect).tolist() == [1, 1, 1]


def test_the_sum_is_the_sum():
    y_true, y_pred = sample(4, 3)
    both = value(cross_entropy_loss, y_true, y_pred) + value(dice_loss, y_true, y_pred)
    assert np.allclose(value(LOSSES["cross_entropy+dice"], y_true, y_pred), both)


def test_accuracy_by_hand():
    assert value(accuracy, TRUTH, ONE[..., None]).tolist() == [1.0]  # 0.5 is not above one half
    assert value(accuracy, 1 - TRUTH, ONE[..., None]).tolist() == [0.0]
    partly = np.array([[[0, IGNORE], [IGNORE, 0]]], np.uint8)
    assert value(accuracy, partly, ONE[..., None]).tolist() == [0.5]
    both = np.stack([1 - ONE, ONE], axis=-1)
    assert value(accuracy, np.array([[[1, 0], [1, 1]]], np.uint8), both).tolist() == [0.75]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_loss_stays_finite_where_a_model_is_sure_and_wrong(classes):
    y_true = np.zeros((1, 2, 2), np.uint8)
    channels = 1 if classes == 2 else classes
    y_pred = np.zeros((1, 2, 2, channels), np.float32)
    y_pred[..., -1] = 1
    found = value(cross_entropy_dice_loss, y_true, y_pred)
    assert np.isfinite(found).all()
    assert (found > 1).all()
