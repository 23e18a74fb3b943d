"""Whether images may be flipped upside down: measured on the decoded images, chosen, and done."""

import cv2
import numpy as np
import pytest

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import UsageError
from training.config import TrainConfig
from training.data.orientation import up_and_down
from training.input.cache import PixelCache
from training.input.flips import FEWEST, NO_UP, choose_flip
from training.input.prepare import make_batches


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


def empty(seed):
    return np.full((48, 40, 3), 90 + seed % 3, np.uint8), np.zeros((48, 40), np.uint8)


def cache_of(pairs):
    images, masks = zip(*pairs, strict=True)
    return PixelCache(images=np.array(images), masks=np.array(masks), names=tuple(map(str, range(len(images)))))


@pytest.mark.parametrize("count", [40, 160])
def test_pictures_without_an_up_agree_as_chance_does(count):
    by_class, brightness = up_and_down((scattered(seed) for seed in range(count)), 2)
    for found in (*by_class, brightness):
        assert 0 < found.share < 2 * count**-0.5
        assert found.pictures <= count
        assert not found.tells_an_up(NO_UP)


@pytest.mark.parametrize(("picture", "where", "elsewhere"), [(lit_from_above, 1, 0), (standing, 0, 1)])
def test_pictures_with_an_up_in_light_or_in_classes_alone_agree(picture, where, elsewhere):
    by_class, brightness = up_and_down((picture(seed) for seed in range(40)), 2)
    told = by_class[1].tells_an_up(NO_UP), brightness.tells_an_up(NO_UP)
    assert told[where]
    assert not told[elsewhere]


def test_upside_down_they_agree_as_much():
    def turned(seed):
        image, ids = standing(seed)
        return image[::-1], ids[::-1]

    expected, _ = up_and_down((standing(seed) for seed in range(9)), 2)
    found, _ = up_and_down((turned(seed) for seed in range(9)), 2)
    assert [agreement.share for agreement in found] == pytest.approx([agreement.share for agreement in expected])
    mixed, _ = up_and_down((standing(seed) if seed % 2 else turned(seed) for seed in range(40)), 2)
    assert not mixed[1].tells_an_up(NO_UP)


def test_grey_pictures_of_any_size_and_ids_that_are_not_counted():
    pairs = [scattered(seed, (33 + seed, 40)) for seed in range(80)]
    ignored = ((image[..., :1], np.where(ids == 1, ids, IGNORE).astype(np.uint8)) for image, ids in pairs)
    by_class, _ = up_and_down(ignored, 2)
    assert by_class[0].pictures == 0
    assert by_class[1].share < NO_UP


def test_a_small_class_counts_as_much_as_a_large_one():
    """Two surfaces that lie anywhere, and a lamp of four pixels that is always at the top."""

    def room(seed):
        image, ids = scattered(seed)
        ids[1:3, 20:22] = 2
        return image, ids

    by_class, _ = up_and_down((room(seed) for seed in range(60)), 3)
    assert [found.tells_an_up(NO_UP) for found in by_class] == [False, False, True]


@pytest.mark.parametrize("height", [17, 50])
def test_bands_are_of_equal_height(height):
    """The first of unequal bands would hold more of every class."""
    by_class, brightness = up_and_down([(np.full((height, 8, 3), 5, np.uint8), np.zeros((height, 8), np.uint8))] * 3, 2)
    assert {found.pictures for found in (*by_class, brightness)} == {0}


@pytest.mark.parametrize(
    ("pairs", "expected", "said"),
    [
        ([scattered(seed) for seed in range(FEWEST)], "both", "flips: left to right and upside down, because"),
        ([scattered(seed) for seed in range(FEWEST - 1)], "horizontal", None),
        ([lit_from_above(seed) for seed in range(FEWEST)], "horizontal", "flips: left to right; the classes are alike"),
        ([standing(seed) for seed in range(FEWEST)], "horizontal", None),
        ([standing(seed) for seed in range(4)] + [empty(seed) for seed in range(96)], "horizontal", None),
        ([standing(seed) for seed in range(FEWEST)] + [empty(seed) for seed in range(120)], "horizontal", None),
        (
            [scattered(seed) for seed in range(60)] + [empty(seed) for seed in range(60)],
            "both",
            "flips: left to right and",
        ),
    ],
    ids=["no up", "too few", "lit from above", "standing", "few that stand", "most are empty", "half are empty"],
)
def test_flips_are_chosen_from_the_images(pairs, expected, said):
    flip, why = choose_flip(cache_of(pairs), 2)
    assert flip == expected
    assert (why or "").startswith(said or "")
    assert (why is None) == (said is None)


def test_batches_hold_images_that_are_upside_down_if_they_may():
    image = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[:, np.newaxis], 64, axis=1)[..., np.newaxis]
    cache = cache_of([(image, np.zeros((64, 64), np.uint8))] * 16)

    def rising(flip):
        config = TrainConfig.from_preset("edge", input_size=(64, 64), batch_size=16, flip=flip)
        batch = make_batches(config, cache, [{0}] * 16).batch(0, 0)
        return sum(picture[40, 32, 0] > picture[24, 32, 0] for picture in batch.images)

    assert rising("horizontal") == rising("none") == 16
    assert 2 < rising("both") < 14


@pytest.mark.parametrize(
    ("settings", "found"), [({"flip": "vertical"}, "vertical"), ({"flip": "both", "augment": False}, "no-augment")]
)
def test_flips_that_cannot_work_are_refused(settings, found):
    with pytest.raises(UsageError, match=found):
        TrainConfig.from_preset("edge", **settings)
