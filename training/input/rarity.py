"""Show pictures of rare classes more often: repeat factors, and shuffled passes that follow them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 4.0
"""Largest factor: the few pictures of a very rare class would otherwise be learnt by heart."""


def repeat_factors(classes_in: Sequence[Collection[int]]) -> NDArray[np.float64]:
    """Return how often to show each picture, relative to a picture whose classes are in all pictures.

    A class that is in a share f of the pictures has the factor 1 / f, at most ``MOST``, and a picture has the largest
    factor of its classes. Defects that are in 29 % of the pictures are thus in 58 % of those shown.

    Args:
        classes_in: Class ids in each picture.

    Returns:
        (N,) float64 from 1 to ``MOST``; 1 for a picture in which nothing is labelled.

    Reference:
        Repeat factors: Gupta, Dollár, Girshick: LVIS, CVPR 2019, which takes the square root of a threshold / f.
        https://arxiv.org/abs/1908.03195
    """
    pictures_with = Counter(class_id for found in classes_in for class_id in found)
    factor_of = {class_id: min(len(classes_in) / count, MOST) for class_id, count in pictures_with.items()}
    return np.array([max((factor_of[class_id] for class_id in found), default=1.0) for found in classes_in])


def shuffled_pass(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of one pass over the pictures in random order, each shown in proportion to its factor.

    A pass is as long as there are pictures. A picture is in it as often as its share says, rounded down or up at random
    (systematic sampling); with equal factors each is in it once.

    Args:
        factors: (N,) float64 above 0.
        rng: Source of randomness.
    """
    count = len(factors)
    order = rng.permutation(count)
    ends = np.cumsum(factors[order])
    places = np.searchsorted(ends, (np.arange(count) + rng.random()) * (ends[-1] / count), side="right")
    return rng.permutation(order[np.minimum(places, count - 1)])
