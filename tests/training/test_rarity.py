import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.input.rarity import repeat_factors, shuffled_pass


def test_a_picture_has_the_factor_of_its_rarest_class():
    # Class 1 is in 8 of 16 pictures, class 2 in one of them.
    classes_in = [(0, 1, 2), *[(0, 1)] * 6, (1,), *[(0,)] * 7, ()]
    factors = repeat_factors(classes_in)
    assert factors.tolist() == pytest.approx([4, *[2] * 7, *[16 / 14] * 7, 1])


def test_classes_that_are_in_all_pictures_change_nothing():
    assert repeat_factors([(0, 1)] * 5).tolist() == [1] * 5


def test_defects_in_29_percent_of_the_pictures_are_in_58_percent_of_those_shown():
    factors = repeat_factors([(0, 1)] * 290 + [(0,)] * 710)
    shown = np.concatenate([shuffled_pass(factors, np.random.default_rng(i)) for i in range(20)])
    assert np.mean(shown < 290) == pytest.approx(0.585, abs=0.002)


@given(st.lists(st.floats(1, 30), min_size=1, max_size=40), st.integers(0, 1000))
def test_a_pass_shows_each_picture_as_often_as_its_share_rounded_down_or_up(values, seed):
    factors = np.array(values)
    shown = shuffled_pass(factors, np.random.default_rng(seed))
    assert shown.shape == factors.shape
    shares = len(factors) * factors / factors.sum()
    assert (np.abs(np.bincount(shown, minlength=len(factors)) - shares) < 1 + 1e-6).all()


def test_a_pass_is_shuffled_and_the_same_for_the_same_numbers():
    factors = np.ones(50)
    first, again, other = (shuffled_pass(factors, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert sorted(first) == list(range(50)) != first
