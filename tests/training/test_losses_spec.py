import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from training.losses.make import make_loss
from training.losses.spec import LOSS_NAMES, LossTerm, parse_loss
from training.losses.terms import TERMS
from training.losses.weights import class_weights_of


def test_every_name_has_its_formula():
    assert list(LOSS_NAMES) == sorted(TERMS)


def test_a_sum_with_and_without_factors():
    assert parse_loss("focal") == (LossTerm(factor=1, name="focal"),)
    assert parse_loss("cross_entropy + 0.5*dice+2 * lovasz") == (
        LossTerm(factor=1, name="cross_entropy"),
        LossTerm(factor=0.5, name="dice"),
        LossTerm(factor=2, name="lovasz"),
    )


@given(st.lists(st.tuples(st.integers(1, 10**6).map(lambda n: n / 1000), st.sampled_from(LOSS_NAMES)), min_size=1))
def test_any_sum_comes_back(terms):
    text = "+".join(f"{factor}*{name}" for factor, name in terms)
    assert [(term.factor, term.name) for term in parse_loss(text)] == terms


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("dicee", "no loss 'dicee'.*did you mean 'dice'"),
        ("cross_entropy+Lovasz", "no loss 'Lovasz'.*did you mean 'lovasz'"),
        ("hinge", "no loss 'hinge' — expected a sum of boundary, cross_entropy, .*tversky — write for example"),
        ("", "no loss ''"),
        ("dice+", "no loss ''"),
        ("dice*0.5", r"no loss '0.5'"),
        ("0*dice", "factor '0' — expected a number above 0"),
        ("x*dice", "factor 'x'"),
        ("-1*dice", "factor '-1'"),
        ("inf*dice", "factor 'inf'"),
        ("nan*dice", "factor 'nan'"),
        ("*dice", "factor ''"),
    ],
)
def test_a_wrong_sum_is_refused_and_says_why(spec, found):
    with pytest.raises(UsageError, match=found) as caught:
        parse_loss(spec)
    assert str(caught.value).startswith(f"loss '{spec}' — ")


def test_a_configuration_is_checked_without_tensorflow():
    code = "import sys, training.losses.spec; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(UsageError, match=r"label smoothing — .* expected 0 to below 1"):
        make_loss("dice", classes=3, label_smoothing=smoothing)


@pytest.mark.parametrize("weights", [[1, 1], [1, 0, 1], [1, math.nan, 1], [[1, 1, 1]]])
def test_weights_that_do_not_fit_the_classes_are_refused(weights):
    with pytest.raises(UsageError, match=r"class weights — .* expected 3 numbers above 0"):
        make_loss("dice", classes=3, class_weights=np.array(weights, np.float32))


def test_class_weights_by_hand():
    # Shares 0.9 and 0.1: 1 / √ln 1.92 = 1.2381 and 1 / √ln 1.12 = 2.9705, of mean 2.1043.
    assert class_weights_of(np.array([900, 100])) == pytest.approx([1.2381 / 2.1043, 2.9705 / 2.1043], rel=1e-3)


def test_an_absent_class_weighs_1_and_moves_no_other():
    weights = class_weights_of(np.array([900, 0, 100]))
    assert weights[1] == 1
    assert weights[[0, 2]] == pytest.approx(class_weights_of(np.array([900, 100])))
    assert class_weights_of(np.zeros(3, np.int64)).tolist() == [1, 1, 1]


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=20))
def test_rarer_classes_weigh_more_within_bounds(counts):
    weights = class_weights_of(np.array(counts))
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert (np.diff(weights[np.argsort(counts)]) <= 1e-6).all()
    assert weights.max() / weights.min() < 6
