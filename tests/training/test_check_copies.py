"""Copies of pictures are found however they were made, and pictures that are only alike are left in peace."""

import cv2
import numpy as np
import pytest
from datasets import jpeg
from faults import scene
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.check.duplicates import near_duplicates, thumbnail, turn

OTHERS = [thumbnail(scene(seed)[0]) for seed in range(30)]


def reopened(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


CHANGES = {
    "encoded again": lambda x: reopened(jpeg(x)),
    "encoded badly": lambda x: cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "smaller": lambda x: cv2.resize(x, None, fx=0.6, fy=0.6),
    "larger": lambda x: cv2.resize(x, None, fx=2, fy=2),
    "of another shape": lambda x: cv2.resize(x, (224, 224)),
    "brighter": lambda x: cv2.convertScaleAbs(x, alpha=1.1, beta=5),
    "darker": lambda x: cv2.convertScaleAbs(x, alpha=0.6),
    "grey": lambda x: cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "blurred": lambda x: cv2.GaussianBlur(x, (0, 0), 1),
    "noisy": lambda x: np.clip(x + np.random.default_rng(0).normal(0, 8, x.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=25)
@given(seed=st.integers(0, 29), variant=st.integers(0, 7))
def test_a_changed_copy_is_found_whichever_way_it_is_turned(change, seed, variant):
    copy = np.ascontiguousarray(turn(CHANGES[change](scene(seed)[0]), variant))
    (match,) = near_duplicates([thumbnail(copy)], OTHERS)
    assert (match.query, match.reference) == (0, seed)
    assert 0.97 <= match.correlation <= 1.001
    assert ("mirrored" in match.change) == (variant >= 4)


def test_a_copy_that_ran_into_white_is_known_by_the_rest():
    grey = cv2.cvtColor(scene(5)[0], cv2.COLOR_BGR2GRAY)
    copy = cv2.convertScaleAbs(grey, alpha=1.5, beta=30)
    assert 0.1 < (copy == 255).mean() < 0.5, "much is lost"
    (match,) = near_duplicates([thumbnail(cv2.cvtColor(copy, cv2.COLOR_GRAY2BGR))], OTHERS)
    assert match.reference == 5


@given(seed=st.integers(30, 100_000))
def test_another_picture_is_none(seed):
    assert near_duplicates([thumbnail(scene(seed)[0])], OTHERS) == []


@pytest.mark.parametrize("side", [12, 20])
def test_a_fixed_camera_sees_no_copies_where_something_has_moved(side):
    still = scene(0)[0]
    passed = still.copy()
    passed[20 : 20 + side, 30 : 30 + side] = passed[40 : 40 + side, 60 : 60 + side]
    assert np.corrcoef(still.reshape(-1), passed.reshape(-1))[0, 1] > 0.9
    assert near_duplicates([thumbnail(passed)], OTHERS) == []


def test_light_alone_makes_no_copies():
    rows, columns = np.mgrid[-1:1:72j, -1:1:96j]
    rng = np.random.default_rng(0)
    vignette = (200 - 120 * (rows**2 + columns**2))[..., None]
    sheets = [np.clip(vignette + rng.normal(0, 12, (72, 96, 3)), 0, 255).astype(np.uint8) for _ in range(6)]
    assert near_duplicates([thumbnail(sheet) for sheet in sheets]) == []


def test_blank_pictures_are_no_copies_of_each_other():
    blank = thumbnail(np.full((40, 40, 3), 99, np.uint8))
    assert near_duplicates([blank, blank], [blank]) == []


def test_nothing_has_no_copies():
    assert near_duplicates([], OTHERS) == []
    assert near_duplicates(OTHERS, []) == []


def test_among_themselves_each_picture_is_compared_with_those_before_it():
    again = thumbnail(reopened(jpeg(scene(3)[0])))
    matches = near_duplicates([*OTHERS, again, OTHERS[7]])
    assert [(m.query, m.reference, m.change) for m in matches] == [(30, 3, ""), (31, 7, "")]


def test_a_large_set_is_compared_in_parts(monkeypatch):
    whole = near_duplicates(OTHERS[:9], OTHERS)
    monkeypatch.setattr("training.data.check.duplicates._MAX_SCORES", 1)
    assert near_duplicates(OTHERS[:9], OTHERS) == whole
    assert [m.reference for m in whole] == list(range(9))
