import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.metrics import (
    BoundaryCounts,
    boundary_counts,
    class_dice,
    class_iou,
    class_precision,
    class_recall,
    confusion_matrix,
    mean_iou,
    mean_of_present,
    pixel_accuracy,
)
from edge_runtime.errors import InputError


def ids(*rows):
    return np.array(rows, np.uint8)


def test_two_by_two_by_hand():
    truth, prediction = ids([0, 0], [1, 1]), ids([0, 1], [1, 1])
    matrix = confusion_matrix(truth, prediction, 2)
    assert matrix.tolist() == [[1, 1], [0, 2]]
    assert class_iou(matrix).tolist() == [1 / 2, 2 / 3]
    assert class_dice(matrix).tolist() == [2 / 3, 4 / 5]
    assert mean_iou(matrix) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert pixel_accuracy(matrix) == 3 / 4


def test_precision_and_recall_by_hand():
    matrix = np.array([[1, 1, 0], [0, 2, 0], [1, 0, 0]])
    # Predicted 0 twice, right once; 1 three times, right twice; 2 never.
    assert class_precision(matrix) == pytest.approx([1 / 2, 2 / 3, math.nan], nan_ok=True)
    # Of class 0 one of two found, of class 1 both, of class 2 none.
    assert class_recall(matrix).tolist() == [1 / 2, 1.0, 0.0]
    assert math.isnan(class_recall(np.diag([3, 0]))[1])


def test_a_perfect_and_an_entirely_wrong_prediction():
    truth = ids([0, 1], [1, 0])
    right, wrong = confusion_matrix(truth, truth, 2), confusion_matrix(truth, 1 - truth, 2)
    assert (mean_iou(right), pixel_accuracy(right)) == (1.0, 1.0)
    assert (mean_iou(wrong), pixel_accuracy(wrong)) == (0.0, 0.0)


def test_an_absent_class_is_nan_and_not_in_the_mean():
    matrix = confusion_matrix(ids([0, 0], [1, 1]), ids([0, 1], [1, 1]), 3)
    assert math.isnan(class_iou(matrix)[2])
    assert math.isnan(class_dice(matrix)[2])
    assert mean_iou(matrix) == pytest.approx(7 / 12)


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = confusion_matrix(ids([0, 0]), ids([0, 2]), 3)
    assert class_iou(matrix)[2] == 0.0
    assert mean_iou(matrix) == pytest.approx((0.5 + 0.0) / 2)


def test_ignored_pixels_count_nowhere():
    truth = ids([0, IGNORE], [1, IGNORE])
    assert confusion_matrix(truth, ids([0, 1], [1, 0]), 2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("truth", "prediction", "named"),
    [((0, 1), (0, 3), "predicted ids up to 3"), ((0, 4), (0, 1), "true ids up to 4"), ((1, 1), (0, 255), "up to 255")],
)
def test_an_id_that_is_no_class_is_refused_not_dropped(truth, prediction, named):
    with pytest.raises(InputError, match=rf"{named}.* expected 0 to 2 — compare masks and predictions"):
        confusion_matrix(ids(truth), ids(prediction), 3)


def test_any_prediction_may_stand_where_the_truth_is_ignored():
    assert confusion_matrix(ids([0, IGNORE]), ids([0, 200]), 3).sum() == 1


def test_a_matrix_of_the_most_classes_there_can_be():
    every = np.arange(255, dtype=np.uint8)
    assert np.array_equal(confusion_matrix(every, every[::-1], 255), np.eye(255)[::-1])


def test_nothing_counted_gives_zeros_and_no_warning():
    matrix = confusion_matrix(ids([IGNORE, IGNORE]), ids([0, 1]), 2)
    assert matrix.tolist() == [[0, 0], [0, 0]]
    assert (mean_iou(matrix), pixel_accuracy(matrix), mean_of_present(class_dice(matrix))) == (0.0, 0.0, 0.0)


def test_an_empty_mask_that_is_found_empty_is_perfect():
    empty = np.zeros((4, 4), np.uint8)
    matrix = confusion_matrix(empty, empty, 2)
    assert mean_iou(matrix) == 1.0
    assert boundary_counts(empty, empty, 2).f_score == 1.0


def naive_iou(truth, prediction, class_id):
    union = intersection = 0
    for t, p in zip(truth.reshape(-1).tolist(), prediction.reshape(-1).tolist(), strict=True):
        if t != IGNORE:
            union += t == class_id or p == class_id
            intersection += t == class_id and p == class_id
    return intersection / union if union else math.nan


shapes = st.shared(npst.array_shapes(min_dims=2, max_dims=2, max_side=12), key="shape")
truths = npst.arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 2, 3, IGNORE]))
predictions = npst.arrays(np.uint8, shapes, elements=st.integers(0, 3))


@given(truths, predictions)
@settings(max_examples=100, deadline=None)
def test_iou_agrees_with_counting_pixel_by_pixel(truth, prediction):
    matrix = confusion_matrix(truth, prediction, 4)
    expected = [naive_iou(truth, prediction, c) for c in range(4)]
    assert class_iou(matrix) == pytest.approx(expected, nan_ok=True)
    # Dice = 2 IoU / (1 + IoU), whatever the counts, and the harmonic mean of precision and recall where both are.
    assert class_dice(matrix) == pytest.approx([2 * i / (1 + i) for i in expected], nan_ok=True)
    precision, recall, dice = class_precision(matrix), class_recall(matrix), class_dice(matrix)
    both = precision + recall > 0
    assert dice[both] == pytest.approx(2 * precision[both] * recall[both] / (precision + recall)[both])


@given(truths, predictions)
@settings(max_examples=50, deadline=None)
def test_a_matrix_adds_up_over_parts(truth, prediction):
    parts = confusion_matrix(truth[::2], prediction[::2], 4) + confusion_matrix(truth[1::2], prediction[1::2], 4)
    assert np.array_equal(parts, confusion_matrix(truth, prediction, 4))
    assert parts.sum() == (truth != IGNORE).sum()


def square(left, size=(60, 80)):
    mask = np.zeros(size, np.uint8)
    mask[20:40, left : left + 20] = 1
    return mask


def test_a_border_within_the_tolerance_matches_and_one_beyond_does_not():
    # The diagonal is 100 px: 0.75 % of it is 1 px.
    assert boundary_counts(square(20), square(20), 2).f_score == 1.0
    assert boundary_counts(square(20), square(21), 2).f_score == 1.0
    assert boundary_counts(square(20), square(24), 2).f_score < 0.8
    assert boundary_counts(square(0), square(50), 2).f_score == 0.0


def test_a_missed_or_invented_object_scores_zero():
    empty = np.zeros((60, 80), np.uint8)
    assert boundary_counts(square(20), empty, 2).f_score == 0.0
    assert boundary_counts(empty, square(20), 2).f_score == 0.0


def test_the_edge_of_the_picture_is_no_border():
    full = np.ones((20, 20), np.uint8)
    assert boundary_counts(full, full, 2) == BoundaryCounts()


@pytest.mark.parametrize("size", [(24, 32), (60, 80), (400, 600)])
def test_borders_beside_ignored_pixels_count_nowhere(size):
    truth, prediction = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    truth[10, 10] = IGNORE
    assert boundary_counts(truth, prediction, 2) == BoundaryCounts()


def naive_boundary_counts(truth, prediction, classes):
    """Borders and their distances pixel by pixel, from the definition."""
    height, width = truth.shape
    radius = max(1, round(0.0075 * math.hypot(height, width)))
    pixels = [(y, x) for y in range(height) for x in range(width)]
    ignored = [(y, x) for y, x in pixels if truth[y, x] == IGNORE]

    def border(mask, class_id):
        found = []
        for y, x in pixels:
            around = mask[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            usable = all(max(abs(y - v), abs(x - u)) > radius for v, u in ignored)
            if mask[y, x] == class_id and (around != class_id).any() and usable:
                found.append((y, x))
        return found

    def near(points, others):
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points)

    total = BoundaryCounts()
    for class_id in range(classes):
        true, found = border(truth, class_id), border(prediction, class_id)
        total += BoundaryCounts(
            matched_prediction=near(found, true),
            prediction=len(found),
            matched_truth=near(true, found),
            truth=len(true),
        )
    return total


@given(truths, predictions)
@settings(max_examples=40, deadline=None)
def test_boundary_counts_agree_with_distances_pixel_by_pixel(truth, prediction):
    assert boundary_counts(truth, prediction, 4) == naive_boundary_counts(truth, prediction, 4)


@pytest.mark.parametrize("width", [300, 540, 680])  # a tolerance of 2, 4 and 5 px
def test_the_tolerance_is_a_disc(width):
    rng = np.random.default_rng(width)
    truth, prediction = np.zeros((2, 24, width), np.uint8)
    truth[(rng.integers(0, 24, 20), rng.integers(0, width // 4, 20))] = 1
    prediction[(rng.integers(0, 24, 20), rng.integers(0, width // 4, 20))] = 1
    truth[12, width // 2] = IGNORE
    assert boundary_counts(truth, prediction, 2) == naive_boundary_counts(truth, prediction, 2)


def test_boundary_f_by_hand():
    # One pixel of class 1 in 5×5, predicted two columns to the right: farther than the tolerance of 1 px.
    truth, prediction = np.zeros((2, 5, 5), np.uint8)
    truth[2, 1] = prediction[2, 3] = 1
    # The background's border is the ring of 8 around the pixel. The rings share the 3 pixels of column 2, and the 2
    # above and below the dot are 1 px from those; the 3 of the far column are 2 px away.
    assert boundary_counts(truth, prediction, 2) == BoundaryCounts(
        matched_prediction=5, prediction=9, matched_truth=5, truth=9
    )
    assert boundary_counts(truth, prediction, 2).f_score == pytest.approx(5 / 9)


def test_boundary_counts_add_up():
    one = BoundaryCounts(matched_prediction=1, prediction=2, matched_truth=3, truth=4)
    assert one + one == BoundaryCounts(matched_prediction=2, prediction=4, matched_truth=6, truth=8)
    assert one.f_score == pytest.approx(2 * 0.5 * 0.75 / 1.25)
