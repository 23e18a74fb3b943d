"""A few of many items, evenly spread."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.dataset.sampling import spread


@given(count=st.integers(0, 3000), number=st.integers(0, 300))
def test_places_are_sorted_unique_no_more_than_asked_and_reach_both_ends(count, number):
    found = spread(range(count), number)
    assert found == sorted(set(found))
    assert len(found) == min(count, number)
    if found:
        assert found[0] == 0
    if len(found) > 1:
        assert found[-1] == count - 1
        gaps = np.diff(found)
        assert gaps.max() - gaps.min() <= 1


@given(count=st.integers(0, 3000))
def test_all_places_are_all(count):
    assert spread(range(count), count) == list(range(count))


def test_items_are_the_same_objects():
    items = [object() for _ in range(5)]
    assert spread(items, 3) == [items[0], items[2], items[4]]
