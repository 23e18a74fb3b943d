"""The pictures that the person model is trained on: labels go where their pictures go, and what is no person has none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "person"


@pytest.fixture(scope="module")
def make():
    sys.path.insert(0, str(FOLDER))
    try:
        import make_dataset
    finally:
        sys.path.remove(str(FOLDER))
    return make_dataset


@pytest.fixture
def photo(make):
    """A red person before green, 60x40, and a passer-by at the left border whom only the second look has seen."""
    person = np.zeros((60, 40), bool)
    person[20:, 22:32] = True
    rgb = np.where(person[..., np.newaxis], (255, 0, 0), (0, 255, 0)).astype(np.uint8)
    passers_by = np.zeros_like(person)
    passers_by[:, :3] = True
    alpha = np.where(person, 255, 0).astype(np.uint8)
    return make.Photo(rgb, make.sure(alpha), alpha, passers_by)


def agree(make, rgb, label):
    """Check that what is labelled as a person is red, and what is labelled as empty is not."""
    red = rgb[..., 0] > 127
    assert red[label == make.PERSON].all()
    assert not red[label == make.EMPTY].any()


@pytest.mark.parametrize("seed", range(4))
def test_labels_move_with_their_pictures(make, photo, seed):
    rng = np.random.default_rng(seed)
    for rgb, label in (
        make.mosaic(lambda: photo, (90, 160), rng),
        make.upper_body(photo, (90, 160), rng),
        make.side_by_side(lambda: (photo.rgb, photo.label), (90, 120), rng),
    ):
        assert rgb.shape[:2] == label.shape
        assert {make.EMPTY, make.PERSON} <= set(np.unique(label).tolist())
        agree(make, rgb, label)


def test_what_is_pasted_is_a_person_only_if_it_shows_one(make, photo):
    ground = np.zeros((90, 120, 3), np.uint8)
    large = make.Photo(
        *(
            np.kron(array, np.ones((3, 3, 1)[: array.ndim], np.uint8)).astype(array.dtype)
            for array in (photo.rgb, photo.label, photo.alpha, photo.passers_by)
        )
    )
    _, label = make.pasted(large, *make.nobody(ground), np.random.default_rng(0))
    assert (label == make.PERSON).sum() > 100
    decoy = make.Photo(large.rgb, np.zeros_like(large.label), large.alpha, large.passers_by)
    rgb, label = make.pasted(decoy, *make.nobody(ground), np.random.default_rng(0))
    assert rgb.any(), "it is seen"
    assert not (label == make.PERSON).any()


def test_the_empty_part_of_a_street_is_the_widest_with_nobody(make, photo):
    assert make.beside_person(photo) is None, "too narrow"
    wide = make.Photo(
        *(np.repeat(array, 6, axis=1) for array in (photo.rgb, photo.label, photo.alpha, photo.passers_by))
    )
    part = make.beside_person(wide)
    assert part.shape == (60, 6 * (22 - 3), 3), "between the passer-by and the person"
    assert not (part[..., 0] > 127).any()


def test_where_the_teacher_is_unsure_there_is_no_label(make):
    alpha = np.repeat(np.array([0, 30, 60, 120, 200, 255], np.uint8), 20)[np.newaxis].repeat(20, 0)
    label = make.sure(alpha)
    found = [int(label[10, 20 * step + 10]) for step in range(6)]
    assert found == [make.EMPTY, make.EMPTY, make.IGNORE, make.IGNORE, make.IGNORE, make.PERSON]
