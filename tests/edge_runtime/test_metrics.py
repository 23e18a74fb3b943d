import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime.labels import IGNORE
from edge_runtime.metrics import (
    BoundaryCounts,
    boundary_counts,
    class_dice,
    class_iou,
    confusion_matrix,
    mean_iou,
    mean_of_present,
    pixel_accuracy,
)


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
    # Dice = 2 IoU / (1 + IoU), whatever the counts.
    assert class_dice(matrix) == pytest.approx([2 * i / (1 + i) for i in expected], nan_ok=True)


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


def test_boundary_counts_add_up():
    one = BoundaryCounts(matched_prediction=1, prediction=2, matched_truth=3, truth=4)
    assert one + one == BoundaryCounts(matched_prediction=2, prediction=4, matched_truth=6, truth=8)
    assert one.f_score == pytest.approx(2 * 0.5 * 0.75 / 1.25)
