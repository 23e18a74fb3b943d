"""Whether images may be flipped upside down: measured, chosen, recorded."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from datasets import png

from training.config import TrainConfig
from training.data.check import check_dataset
from training.data.orientation import up_and_down
from training.loop.flips import FEWEST, NO_UP, with_flip


def scattered(seed, size=(48, 40)):
    """A picture with no up: a disc anywhere, brighter or darker than its surface."""
    rng = np.random.default_rng(seed)
    ids = cv2.circle(np.zeros(size, np.uint8), (int(rng.integers(40)), int(rng.integers(size[0]))), 7, 1, -1)
    light = rng.integers(60, 120) + rng.integers(20, 90) * ids.astype(int) + rng.integers(-9, 9, size)
    return np.repeat(light.astype(np.uint8)[..., np.newaxis], 3, axis=2), ids


def lit_from_above(seed):
    image, ids = scattered(seed)
    return (image + np.linspace(40, 0, len(image))[:, np.newaxis, np.newaxis]).astype(np.uint8), ids


def standing(seed):
    """The same brightness everywhere, and a class that stands on the ground."""
    image, ids = scattered(seed)
    ids = np.zeros_like(ids)
    ids[np.random.default_rng(seed).integers(10, 30) :, 10:20] = 1
    return np.full_like(image, 90), ids


@pytest.mark.parametrize("count", [40, 160])
def test_pictures_without_an_up_agree_as_chance_does(count):
    found = up_and_down((scattered(seed) for seed in range(count)), 2)
    assert all(0 < agreement < min(NO_UP, 2 * count**-0.5) for agreement in found)


@pytest.mark.parametrize(("picture", "where", "elsewhere"), [(lit_from_above, 1, 0), (standing, 0, 1)])
def test_pictures_with_an_up_in_light_or_in_classes_alone_agree(picture, where, elsewhere):
    found = up_and_down((picture(seed) for seed in range(40)), 2)
    assert found[where] > 2 * NO_UP
    assert found[elsewhere] < NO_UP


def test_upside_down_they_agree_as_much():
    def turned(seed):
        image, ids = standing(seed)
        return image[::-1], ids[::-1]

    expected = up_and_down((standing(seed) for seed in range(9)), 2)
    assert up_and_down((turned(seed) for seed in range(9)), 2) == pytest.approx(expected)
    mixed = [standing(seed) if seed % 2 else turned(seed) for seed in range(40)]
    assert up_and_down(mixed, 2).classes < NO_UP


def test_grey_pictures_of_any_size_and_ids_that_are_not_counted():
    pairs = [scattered(seed, (33 + seed, 40)) for seed in range(80)]
    found = up_and_down(((image[..., :1], np.where(ids == 1, ids, 255).astype(np.uint8)) for image, ids in pairs), 2)
    assert max(found) < NO_UP


@pytest.mark.parametrize("height", [17, 50])
def test_bands_are_of_equal_height(height):
    """The first of unequal bands would hold more of every class."""
    assert up_and_down([(np.full((height, 8, 3), 5, np.uint8), np.zeros((height, 8), np.uint8))] * 3, 2) == (0, 0)


def test_one_colour_everywhere_has_no_up():
    assert up_and_down([(np.full((8, 8, 3), 5, np.uint8), np.zeros((8, 8), np.uint8))] * 3, 2) == (0, 0)


def written(folder, picture, count):
    for seed in range(count):
        image, ids = picture(seed)
        folder.image(f"{seed}.png", png(image))
        folder.mask(f"{seed}.png", png(ids))
    return check_dataset(folder.root)


@pytest.mark.parametrize(
    ("picture", "count", "expected", "said"),
    [
        (scattered, FEWEST, "both", ["flips: left to right and upside down, because"]),
        (scattered, FEWEST - 1, "horizontal", []),
        (lit_from_above, FEWEST, "horizontal", ["flips: left to right; the classes are alike"]),
        (standing, FEWEST, "horizontal", []),
    ],
)
def test_flips_are_chosen_from_the_images(empty_dataset, picture, count, expected, said):
    config, lines = with_flip(TrainConfig.from_preset("edge"), written(empty_dataset, picture, count))
    assert config.flip == expected
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_what_is_given_or_recorded_stays(empty_dataset):
    report = written(empty_dataset, scattered, FEWEST)
    config = TrainConfig.from_preset("edge")
    for flip in ("none", "horizontal", "both"):
        assert with_flip(replace(config, flip=flip), report) == (replace(config, flip=flip), ())
    still = replace(config, augment=False)
    assert with_flip(still, report) == (still, ())
