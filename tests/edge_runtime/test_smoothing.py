from itertools import pairwise

import cv2
import numpy as np
import pytest
from flicker import FlickerCounts, FlickerMeter, picture_change

from edge_runtime.segment.smoothing import TemporalSmoother, motion_between

SIDE = 96


def textured(seed, low, high, sigma=4):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), (0, 0), sigma)
    return low + (high - low) * (noise - noise.min()) / np.ptp(noise)


def noisy(picture, seed, sigma=2.0):
    noise = np.random.default_rng(seed).standard_normal(picture.shape) * sigma
    return np.clip(picture + noise, 0, 255).astype(np.uint8)[..., np.newaxis].repeat(3, 2)


def disc(x, y=48, radius=20):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (round(x), round(y)), radius, 1, -1)
    return mask


def planes_of(mask, classes=1, sure=0.9):
    if classes == 1:
        return np.where(mask == 1, sure, 1 - sure).astype(np.float32)[np.newaxis]
    rest = (1 - sure) / (classes - 1)
    return np.where(mask == np.arange(classes)[:, None, None], sure, rest).astype(np.float32)


def scene(x):
    """A textured disc at x before a textured background, (h, w) float64."""
    return np.where(disc(x) > 0, np.roll(textured(1, 120, 220), round(x), 1), textured(2, 30, 110))


def run(steps, *, fps=30):
    """Feed (planes, frame) after (planes, frame); returns the class ids and averages."""
    smoother = TemporalSmoother()
    answers = [smoother(planes, frame, index / fps) for index, (planes, frame) in enumerate(steps)]
    return [ids for _, ids in answers], smoother


def flickering(seed, classes, frames=20):
    """A still picture whose answers waver at the border: the class is right there in four frames of five."""
    random = np.random.default_rng(seed)
    mask = disc(48)
    border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    steps, plain = [], []
    for index in range(frames):
        wrong = border & (random.random((SIDE, SIDE)) < 0.2)
        answer = np.where(wrong, 1 - mask, mask)
        plain.append(answer)
        steps.append((planes_of(answer, classes, 0.75), noisy(scene(48), seed + index)))
    return steps, plain, mask


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_masks_of_a_still_picture_stop_flickering(classes):
    steps, plain, mask = flickering(0, classes)
    ids, _ = run(steps)
    changes = [sum((a != b).sum() for a, b in pairwise(masks[3:])) for masks in (plain, ids)]
    assert changes[0] > 500 and changes[1] < 0.15 * changes[0]
    assert (ids[-1] != mask).mean() < 0.2 * (plain[-1] != mask).mean() + 0.002


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("speed", [2, 5, 9])
def test_what_moves_is_not_smeared(speed, classes):
    steps, truth = [], []
    for index in range(8):
        x = 20 + speed * index
        truth.append(disc(x))
        steps.append((planes_of(truth[-1], classes), noisy(scene(x), index)))
    ids, _ = run(steps)
    for got, expected in zip(ids, truth, strict=True):
        assert ((got > 0) & (expected > 0)).sum() / ((got > 0) | (expected > 0)).sum() > 0.97


def test_a_camera_that_pans_smears_nothing():
    wide = np.hstack([textured(1, 60, 200), textured(2, 60, 200), textured(3, 60, 200)])
    steps, truth = [], []
    for index in range(12):
        truth.append(disc(80 - 4 * index))
        steps.append((planes_of(truth[-1]), noisy(wide[:, 4 * index : 4 * index + SIDE], index)))
    ids, _ = run(steps)
    for got, expected in zip(ids, truth, strict=True):
        assert ((got & expected) > 0).sum() / ((got | expected) > 0).sum() > 0.93


def test_a_change_of_brightness_is_no_motion():
    still, brighter = noisy(scene(48), 1)[..., 0], noisy(scene(48) + 25, 2)[..., 0]
    assert np.percentile(motion_between(still, brighter), 99) < 3
    assert np.percentile(motion_between(still, noisy(scene(56), 3)[..., 0]), 95) > 10


def test_noise_is_no_motion():
    assert np.percentile(motion_between(noisy(scene(48), 1, 4)[..., 0], noisy(scene(48), 2, 4)[..., 0]), 99) < 4


@pytest.mark.parametrize("classes", [1, 2])
def test_a_pixel_keeps_its_class_until_another_wins_by_a_margin(classes):
    frame, mask = noisy(scene(48), 0), disc(48)
    steps = [(planes_of(mask, classes, 0.9), frame)]
    steps += [(planes_of(1 - mask, classes, 0.55), frame)] * 30  # the other class wins, but hardly
    ids, _ = run(steps)
    assert np.array_equal(ids[-1], mask)
    ids, _ = run([*steps, *[(planes_of(1 - mask, classes, 0.8), frame)] * 10])
    assert np.array_equal(ids[-1], 1 - mask)


def test_the_average_follows_answers_that_stay():
    frame, mask = noisy(scene(48), 0), disc(48)
    smoother = TemporalSmoother()
    smoother(planes_of(mask, sure=0.9), frame, 0.0)
    average, _ = smoother(planes_of(mask, sure=0.6), frame, 0.1)
    assert 0.6 < average[0, 48, 48] < 0.9
    for index in range(40):
        average, _ = smoother(planes_of(mask, sure=0.6), frame, 0.2 + index / 30)
    assert np.allclose(average, planes_of(mask, sure=0.6), atol=1e-3)


def test_what_was_handed_in_stays_as_it_is():
    frame, planes = noisy(scene(48), 0), planes_of(disc(48))
    kept = frame.copy(), planes.copy()
    smoother = TemporalSmoother()
    for index in range(3):
        smoother(planes, frame, index / 30)
    assert np.array_equal(frame, kept[0]) and np.array_equal(planes, kept[1])


class TestStartingAfresh:
    def after(self, prepare):
        """The average after a long past of one answer, something, and then the opposite answer on the same frame."""
        frame, mask = noisy(scene(48), 0), disc(48)
        smoother = TemporalSmoother()
        for index in range(5):
            smoother(planes_of(mask), frame, index / 30)
        frame, at_s = prepare(smoother, frame)
        average, ids = smoother(planes_of(1 - mask), frame, at_s)
        return np.array_equal(average, planes_of(1 - mask)) and np.array_equal(ids, 1 - mask)

    def test_not_between_two_frames(self):
        assert not self.after(lambda _, frame: (frame, 5 / 30))

    def test_when_told(self):
        assert self.after(lambda smoother, frame: (smoother.reset() or frame, 5 / 30))

    def test_after_a_gap(self):
        assert self.after(lambda _, frame: (frame, 3.0))

    def test_at_a_cut(self):
        assert self.after(lambda _, frame: (np.ascontiguousarray(255 - frame[::-1]), 5 / 30))

    def test_when_the_size_changes(self):
        smoother = TemporalSmoother()
        for size in ((20, 30), (30, 20), (30, 30)):
            planes = np.random.default_rng(0).random((3, *size), np.float32)
            average, ids = smoother(planes, np.zeros((*size, 1), np.uint8), 0.0)
            assert np.array_equal(average, planes) and np.array_equal(ids, planes.argmax(0))


class TestFlicker:
    def test_changes_and_changes_back_are_counted_in_still_pixels(self):
        image = np.full((10, 10, 3), 80, np.uint8)
        masks = [np.zeros((10, 10), np.uint8) for _ in range(4)]
        masks[1][0, :3] = 1  # three pixels: A-B-A
        masks[2][5, :4] = masks[3][5, :4] = 1  # four: A-A-B-B
        meter = FlickerMeter()
        for mask in masks:
            meter.add(mask, image)
        assert meter.counts == FlickerCounts(still=300, changed=3 + 3 + 4, still_twice=200, returned=3)
        assert meter.counts.changed_per_mille == pytest.approx(1000 * 10 / 300)
        assert meter.counts.returned_per_mille == pytest.approx(1000 * 3 / 200)

    def test_changes_where_the_picture_moves_do_not_count(self):
        meter = FlickerMeter()
        for x in (20, 30, 40):
            meter.add(disc(x), noisy(scene(x), 0, 0))
        assert meter.counts.changed_per_mille < 1 and meter.counts.still > SIDE * SIDE

    def test_nothing_seen_yet(self):
        meter = FlickerMeter()
        meter.add(disc(3), noisy(scene(3), 0))
        assert (
            meter.counts == FlickerCounts() and meter.counts.changed_per_mille == 0 == meter.counts.returned_per_mille
        )

    def test_counts_add_up(self):
        one = FlickerCounts(still=1, changed=2, still_twice=3, returned=4)
        assert one + one == FlickerCounts(still=2, changed=4, still_twice=6, returned=8)

    def test_noise_and_exposure_are_no_change_of_the_picture(self):
        change = picture_change(noisy(scene(48), 1, 4), noisy(scene(48) + 12, 2, 4))
        assert np.percentile(change, 99) < 3
