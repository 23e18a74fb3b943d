"""Each loss against its paper's formula, written again in NumPy; gradients against finite differences of that."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.metrics import class_iou, confusion_matrix, pixel_accuracy
from training.losses.make import accuracy, make_loss
from training.losses.spec import LOSS_NAMES
from training.losses.terms import LOVASZ_BINS, near_border

SPECS = [*LOSS_NAMES, "cross_entropy+0.5*dice"]
WEIGHTS = {1: np.array([0.5, 2], np.float32), 3: np.array([0.3, 1, 2.5], np.float32)}
"""Class weights by channels of the logits."""


@pytest.fixture(autouse=True)
def _without_compiling():
    """Run step by step: compiling each loss for each shape takes longer than all of these tests."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def sample(seed, channels, *, ignored=0.2, shape=(2, 4, 5)):
    """Return class ids (N, H, W) int32, some ignored, and logits (N, H, W, channels)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(2, channels), shape, np.int32)
    labels[rng.random(shape) < ignored] = IGNORE
    return labels, rng.normal(size=(*shape, channels), scale=2).astype(np.float32)


def loss_of(spec, channels, **options):
    return make_loss(spec, classes=max(2, channels), **options)


def value(loss, labels, logits):
    result = loss(tf.constant(labels, tf.int32), tf.constant(logits))
    assert (result.shape, result.dtype) == ((), tf.float32)
    return float(result)


def gradient(loss, labels, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        result = loss(tf.constant(labels, tf.int32), logits)
    return tape.gradient(result, logits).numpy()


# The formulas in 64 bits, over the counted pixels: y (P,) their class ids, p (P, C) their probabilities.


def jaccard_loss(wrong, is_class):
    """1 - IoU of a class when ``wrong`` pixels are mispredicted."""
    union = (is_class | wrong).sum()
    return wrong.sum() / union if union else 0.0


def lovasz_extension(errors, is_class):
    """The paper's equation 8: errors, largest first, each times what its pixel adds to the loss of those before it."""
    total, wrong = 0.0, np.zeros(len(errors), bool)
    for i in np.argsort(-errors, kind="stable"):
        before = jaccard_loss(wrong, is_class)
        wrong[i] = True
        total += errors[i] * (jaccard_loss(wrong, is_class) - before)
    return total


def border_weights(labels):
    weights = np.ones(labels.shape)
    for n, y, x in np.ndindex(labels.shape):
        around = labels[n, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        weights[n, y, x] = 5 if len(set(around[around != IGNORE].tolist())) > 1 else 1
    return weights


def reference(name, labels, logits, weights=None, smoothing=0.0):
    counted = labels != IGNORE
    y, z = labels[counted], logits.astype(np.float64)[counted]
    z = np.concatenate([np.zeros_like(z), z], 1) if z.shape[1] == 1 else z
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    classes = z.shape[1]
    target = np.eye(classes)[y]
    w = np.ones(classes) if weights is None else weights.astype(np.float64)
    present = [c for c in range(1 if logits.shape[-1] == 1 else 0, classes) if (y == c).any()]
    if name in ("cross_entropy", "boundary"):
        border = border_weights(labels)[counted] if name == "boundary" else np.ones(len(y))
        smooth = (1 - smoothing) * target * w[y][:, None] + smoothing / classes * w
        return (border * -(smooth * np.log(p)).sum(1)).sum() / (border * w[y]).sum()
    if name == "focal":
        true = p[np.arange(len(y)), y]
        return (w[y] * -((1 - true) ** 2) * np.log(true)).sum() / w[y].sum()
    losses = []
    for c in present:
        t, q = target[:, c], p[:, c]
        if name == "dice":
            losses.append(1 - (2 * (t * q).sum() + 1) / (t.sum() + q.sum() + 1))
        if name == "tversky":
            tp, fp, fn = (t * q).sum(), ((1 - t) * q).sum(), (t * (1 - q)).sum()
            losses.append(1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1))
        if name == "lovasz":
            losses.append(lovasz_extension(np.abs(t - q), t > 0))
    return np.mean(losses) if losses else 0.0


def numeric_gradient(function, logits, step=1e-5):
    logits = logits.astype(np.float64)
    result = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        result[index] = (function(up) - function(down)) / (2 * step)
    return result


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_values_and_gradients_are_those_of_the_formula(name, channels, weighted, smoothing):
    labels, logits = sample(7, channels)
    weights = WEIGHTS[channels] if weighted else None
    loss = loss_of(name, channels, class_weights=weights, label_smoothing=smoothing)
    # Lovász counts errors in steps; here no step holds pixels of both sides, so that its gradient is exact.
    off = {"abs": 1 / LOVASZ_BINS} if name == "lovasz" else {"rel": 1e-5}
    assert value(loss, labels, logits) == pytest.approx(reference(name, labels, logits, weights, smoothing), **off)
    expected = numeric_gradient(lambda z: reference(name, labels, z, weights, smoothing), logits)
    assert np.abs(expected).max() > 1e-3
    assert np.allclose(gradient(loss, labels, logits), expected, rtol=1e-3, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), ignored=st.sampled_from([0.0, 0.3, 0.9]))
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_values_are_those_of_the_formula_for_any_batch(name, seed, channels, ignored):
    labels, logits = sample(seed, channels, ignored=ignored, shape=(1, 3, 4))
    expected = reference(name, labels, logits) if (labels != IGNORE).any() else 0.0
    assert value(loss_of(name, channels), labels, logits) == pytest.approx(expected, rel=1e-4, abs=1.1 / LOVASZ_BINS)


# 2×2 pixels by hand. Classes 0 0 / 1 1; the probability of class 1 is 0.5 0.25 / 0.75 0.9.
TRUTH = np.array([[[0, 0], [1, 1]]], np.int32)
ONE = np.array([[[0.5, 0.25], [0.75, 0.9]]], np.float32)
BINARY = np.log(ONE / (1 - ONE))[..., None]
TWO = np.log(np.stack([1 - ONE, ONE], axis=-1))
BY_HAND = {
    # The true classes have 0.5, 0.75, 0.75, 0.9.
    "cross_entropy": -(math.log(0.5) + 2 * math.log(0.75) + math.log(0.9)) / 4,
    # In 2×2 every pixel is near the border: a factor for all is a factor for none.
    "boundary": -(math.log(0.5) + 2 * math.log(0.75) + math.log(0.9)) / 4,
    "focal": -(0.25 * math.log(0.5) + 2 * 0.0625 * math.log(0.75) + 0.01 * math.log(0.9)) / 4,
    # Foreground: Σ p·t = 1.65, Σ p = 2.4, Σ t = 2.
    "dice": 1 - (2 * 1.65 + 1) / (2.4 + 2 + 1),
    # TP 1.65, FP 0.75, FN 0.35.
    "tversky": 1 - 2.65 / (1.65 + 0.3 * 0.75 + 0.7 * 0.35 + 1),
    # Errors 0.5 (background), 0.25 (background), 0.25 (foreground), 0.1 (foreground); 1 - IoU with one, two, three, four
    # of them wrong is 1/3, 2/4, 3/4, 4/4.
    "lovasz": 0.5 / 3 + 0.25 * (3 / 4 - 1 / 3) + 0.1 / 4,
}


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_binary_model_by_hand(name):
    assert value(loss_of(name, 1), TRUTH, BINARY) == pytest.approx(BY_HAND[name], rel=1e-5, abs=1e-6)


def test_two_softmax_classes_by_hand():
    # Background: Σ p·t = 1.25, Σ p = 1.6, Σ t = 2; the foreground as above, and pixel by pixel nothing else.
    background = 1 - (2 * 1.25 + 1) / (1.6 + 2 + 1)
    assert value(loss_of("dice", 2), TRUTH, TWO) == pytest.approx((background + BY_HAND["dice"]) / 2)
    assert value(loss_of("focal", 2), TRUTH, TWO) == pytest.approx(BY_HAND["focal"])


def test_weights_and_smoothing_by_hand():
    weighted = loss_of("cross_entropy", 2, class_weights=np.array([1, 3], np.float32))
    expected = -(math.log(0.5) + math.log(0.75) + 3 * math.log(0.75) + 3 * math.log(0.9)) / 8
    assert value(weighted, TRUTH, TWO) == pytest.approx(expected)
    smoothed = loss_of("cross_entropy", 2, label_smoothing=0.2)
    other = -(math.log(0.5) + 2 * math.log(0.25) + math.log(0.1)) / 4
    assert value(smoothed, TRUTH, TWO) == pytest.approx(0.9 * BY_HAND["cross_entropy"] + 0.1 * other)


def test_a_sum_is_the_sum_times_its_factors():
    labels, logits = sample(1, 3)
    parts = [value(loss_of(name, 3), labels, logits) for name in ("focal", "dice", "lovasz")]
    total = value(loss_of("focal+0.5*dice+3*lovasz", 3), labels, logits)
    assert total == pytest.approx(parts[0] + 0.5 * parts[1] + 3 * parts[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_lovasz_of_a_hard_answer_is_one_minus_its_iou(channels):
    labels, _ = sample(3, channels, shape=(2, 8, 8))
    answer = np.random.default_rng(3).integers(0, max(2, channels), labels.shape)
    iou = class_iou(confusion_matrix(labels.astype(np.uint8), answer.astype(np.uint8), max(2, channels)))
    sure = 100.0 * (answer[..., None] == np.arange(channels)) if channels > 1 else 200.0 * answer[..., None] - 100
    expected = 1 - iou[1] if channels == 1 else 1 - iou.mean()
    assert value(loss_of("lovasz", channels), labels, sure.astype(np.float32)) == pytest.approx(expected, abs=1e-5)


def test_lovasz_is_the_dearest_of_all_orders():
    # The extension of a submodular loss is the largest that any order of the pixels gives: no sorting here.
    labels, logits = sample(5, 1, ignored=0.0, shape=(1, 2, 3))
    is_class = labels.reshape(-1) == 1
    errors = np.abs(is_class - 1 / (1 + np.exp(-logits.reshape(-1).astype(np.float64))))

    def price(order):
        wrong, total = np.zeros(6, bool), 0.0
        for i in order:
            before = jaccard_loss(wrong, is_class)
            wrong[i] = True
            total += errors[i] * (jaccard_loss(wrong, is_class) - before)
        return total

    dearest = max(price(order) for order in itertools.permutations(range(6)))
    assert value(loss_of("lovasz", 1), labels, logits) == pytest.approx(dearest, abs=1 / LOVASZ_BINS)


def test_lovasz_shares_the_price_among_pixels_that_tie():
    # Four pixels at 0.5: together they cost the whole IoU. Foreground first, each of its two adds 1/2 and nothing is
    # left for the background; background first, 1/4 each and then 1/4 each. Of both orders the mean is 3/8 and 1/8.
    loss, logits = loss_of("lovasz", 1), np.zeros((1, 2, 2, 1), np.float32)
    assert value(loss, TRUTH, logits) == pytest.approx(0.5)
    assert gradient(loss, TRUTH, logits).reshape(-1) == pytest.approx(np.array([1, 1, -3, -3]) / 8 / 4)


def test_lovasz_keeps_its_bound_when_many_pixels_share_a_step():
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 40, 50)) < 0.2).astype(np.int32)
    logits = rng.normal(size=(1, 40, 50, 1), scale=0.01).astype(np.float32)
    off = value(loss_of("lovasz", 1), labels, logits) - reference("lovasz", labels, logits)
    assert 0 < abs(off) < 1 / LOVASZ_BINS


def test_borders_are_seen_from_both_sides_and_ignored_pixels_make_none():
    labels = np.zeros((2, 6, 12), np.int32)
    labels[0, :, 6:] = 1
    labels[1, 2:4, 5] = IGNORE
    found = near_border(tf.constant(labels)).numpy()
    assert found[0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]] * 6
    assert not found[1].any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]))
@pytest.mark.parametrize("spec", SPECS)
def test_what_stands_at_ignored_pixels_changes_nothing(spec, seed, channels):
    labels, logits = sample(seed, channels, ignored=0.4)
    other, ignored = logits.copy(), labels == IGNORE
    other[ignored] = np.random.default_rng(seed).normal(size=other[ignored].shape, scale=30)
    loss = loss_of(spec, channels, class_weights=WEIGHTS[channels], label_smoothing=0.1)
    assert value(loss, labels, logits) == pytest.approx(value(loss, labels, other), rel=1e-5)
    assert not gradient(loss, labels, other)[ignored].any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("spec", SPECS)
def test_the_order_of_classes_does_not_matter(spec, seed):
    labels, logits = sample(seed, 3)
    order = np.random.default_rng(seed).permutation(3)
    renamed = np.where(labels == IGNORE, IGNORE, np.argsort(order)[np.minimum(labels, 2)])
    loss = loss_of(spec, 3, class_weights=WEIGHTS[3], label_smoothing=0.1)
    other = loss_of(spec, 3, class_weights=WEIGHTS[3][order], label_smoothing=0.1)
    assert value(other, renamed, logits[..., order]) == pytest.approx(value(loss, labels, logits), rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]))
@pytest.mark.parametrize("spec", SPECS)
def test_the_order_of_pixels_does_not_matter(spec, seed, channels):
    labels, logits = sample(seed, channels)
    if spec == "boundary":  # which looks at neighbours: only the images may change places
        mixed = labels[::-1], logits[::-1]
    else:
        order = np.random.default_rng(seed).permutation(labels.size)
        mixed = labels.reshape(-1)[order].reshape(1, 5, 8), logits.reshape(-1, channels)[order].reshape(1, 5, 8, -1)
    loss = loss_of(spec, channels)
    assert value(loss, *mixed) == pytest.approx(value(loss, labels, logits), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_values_and_gradients_are_finite_whatever_comes(spec, channels):
    labels, logits = sample(0, channels)
    labels[0, 0, 0] = 0
    loss = loss_of(spec, channels, class_weights=WEIGHTS[channels], label_smoothing=0.1)
    batches = {
        "nothing counted": (np.full_like(labels, IGNORE), logits),
        "one class": (np.zeros_like(labels), logits),
        "one pixel": (labels[:1, :1, :1], logits[:1, :1, :1]),
        "sure": (labels, np.sign(logits) * np.float32(1e4)),
        "undecided": (labels, np.zeros_like(logits)),
        "sure and wrong": (np.zeros_like(labels), np.float32(1e4) * (np.arange(channels) == channels - 1) + 0 * logits),
    }
    found = {name: value(loss, *batch) for name, batch in batches.items()}
    assert np.isfinite(list(found.values())).all(), found
    assert min(found.values()) >= 0
    assert found["nothing counted"] == 0
    for name, batch in batches.items():
        assert np.isfinite(gradient(loss, *batch)).all(), name
    assert not gradient(loss, *batches["nothing counted"]).any()


@pytest.mark.parametrize("name", ["dice", "tversky", "lovasz"])
def test_region_losses_look_at_the_classes_that_occur(name):
    labels, logits = sample(0, 3)
    labels[labels == 2] = IGNORE
    # Without class 2 in the truth, what it is given counts only through what the others lack.
    expected = reference(name, labels, logits)
    assert value(loss_of(name, 3), labels, logits) == pytest.approx(expected, abs=1 / LOVASZ_BINS)
    assert value(loss_of(name, 1), np.zeros_like(labels), logits[..., :1]) == 0, "no foreground: nothing to find"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_a_sure_and_right_answer_costs_nothing(spec, channels):
    labels, _ = sample(2, channels)
    right = (
        100.0 * (labels[..., None] == np.arange(channels)) if channels > 1 else 200.0 * (labels[..., None] == 1) - 100
    )
    assert value(loss_of(spec, channels), labels, right.astype(np.float32)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_a_model_that_has_diverged_shows_in_the_loss(spec):
    labels, logits = sample(0, 3, ignored=0.0)
    logits[0, 0, 0, 1] = np.nan
    assert math.isnan(value(loss_of(spec, 3), labels, logits))


ALL = "+".join(LOSS_NAMES)


@pytest.mark.parametrize(("channels", "spec"), [(1, "cross_entropy+dice"), (3, ALL)])
def test_compiled_in_a_training_step_they_are_the_same(channels, spec):
    labels, logits = sample(4, channels)
    loss = loss_of(spec, channels, class_weights=WEIGHTS[channels], label_smoothing=0.1)
    expected = value(loss, labels, logits), gradient(loss, labels, logits)
    tf.config.run_functions_eagerly(False)

    @tf.function
    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            result = 2 * loss(labels, logits)  # as a step in half precision does, and averages over replicas
        return result, tape.gradient(result, logits)

    found, slope = step(tf.constant(labels), tf.constant(logits))
    assert float(found) == pytest.approx(2 * expected[0], rel=1e-4)
    assert np.allclose(slope, 2 * expected[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_logits_of_half_precision_are_computed_with_in_full(dtype):
    labels, logits = sample(4, 3)
    logits = tf.cast(logits, dtype)
    loss = loss_of(ALL, 3)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        result = loss(tf.constant(labels), logits)
    assert float(result) == pytest.approx(value(loss, labels, tf.cast(logits, tf.float32)))
    assert tape.gradient(result, logits).dtype == dtype


def test_accuracy_by_hand():
    assert value(accuracy, TRUTH, BINARY) == 1.0  # a logit of 0 is not above it
    assert value(accuracy, 1 - TRUTH, BINARY) == 0.0
    assert value(accuracy, np.array([[[0, IGNORE], [IGNORE, 0]]]), BINARY) == 0.5
    assert value(accuracy, np.array([[[1, 0], [1, 1]]]), TWO) == 0.75
    assert value(accuracy, np.full_like(TRUTH, IGNORE), TWO) == 0


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_accuracy_is_that_of_the_confusion_matrix(channels):
    labels, logits = sample(0, channels, shape=(2, 16, 16))
    found = logits.argmax(-1) if channels > 1 else logits[..., 0] > 0
    matrix = confusion_matrix(labels.astype(np.uint8), found.astype(np.uint8), max(2, channels))
    assert value(accuracy, labels, logits) == pytest.approx(pixel_accuracy(matrix))
