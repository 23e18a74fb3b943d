import cv2
import numpy as np
import pytest

from edge_runtime.segment.preprocess import resize_mask
from edge_runtime.segment.soft_edges import soft_alpha

SMALL, SIZE = (128, 128), (320, 400)


def shape(seed, grow=0):
    """A blob with thin arms and its exact opacity, (H, W) uint8: drawn at eight times the size, then averaged."""
    random = np.random.default_rng(seed)
    height, width = (8 * side for side in SIZE)
    centre = np.array([width / 2, height / 2])
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = random.uniform(0.18, 0.35, (24, 1)) * height + 8 * grow
    outline = centre + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    drawn = np.zeros((height, width), np.uint8)
    cv2.fillPoly(drawn, [outline.astype(np.int32)], 255)
    for angle in random.uniform(0, 2 * np.pi, 4):
        tip = centre + 0.42 * height * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(drawn, centre.astype(int).tolist(), tip.astype(int).tolist(), 255, int(8 * (6 + 2 * grow)))
    return cv2.resize(drawn, SIZE[::-1], interpolation=cv2.INTER_AREA)


def picture(alpha, seed):
    """A dark thing before a light background, both textured and noisy."""
    random = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(random.standard_normal((*SIZE, 3)), (0, 0), 5) * 60 for _ in range(2)]
    weight = alpha[..., None] / 255
    mixed = (70 + noise[0]) * weight + (180 + noise[1]) * (1 - weight) + random.standard_normal((*SIZE, 3)) * 2
    return np.clip(mixed, 0, 255).astype(np.uint8)


def answer(alpha):
    """What a good model at a small size says of it: about right, steeper than the truth."""
    small = cv2.resize(alpha, SMALL[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return (1 / (1 + np.exp(-12 * (cv2.GaussianBlur(small, (0, 0), 1) - 0.5)))).astype(np.float32)


def border_band(alpha):
    kernel = np.ones((9, 9), np.uint8)
    return cv2.dilate(alpha, kernel) != cv2.erode(alpha, kernel)


def border_error(truth, alpha):
    """Mean absolute difference and IoU at one half, within four pixels of the true edge."""
    band = border_band(truth)
    a, b = truth[band] > 127, alpha[band] > 127
    return np.abs(truth[band].astype(int) - alpha[band]).mean(), (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grow", [0, 1.5])
def test_closer_to_the_true_opacity_than_hard_edges(seed, grow):
    """Also where the model's answer is too large by a pixel and a half: the frame shows where the edge is."""
    truth = shape(seed)
    foreground = answer(shape(seed, grow))
    alpha = soft_alpha(foreground, picture(truth, seed))
    hard = resize_mask((foreground > 0.5).astype(np.uint8) * 255, *SIZE)
    error, overlap = border_error(truth, alpha)
    hard_error, hard_overlap = border_error(truth, hard)
    assert error < 0.6 * hard_error and 1 - overlap < 0.6 * (1 - hard_overlap)


def test_far_from_edges_it_is_all_or_nothing():
    truth = shape(1)
    alpha = soft_alpha(answer(truth), picture(truth, 1))
    kernel = np.ones((25, 25), np.uint8)
    assert (alpha[cv2.erode(truth, kernel) == 255] >= 250).all() and (alpha[cv2.dilate(truth, kernel) == 0] <= 5).all()


def test_edges_are_softer_than_a_step():
    truth = shape(2)
    alpha = soft_alpha(answer(truth), picture(truth, 2))
    between = (alpha > 20) & (alpha < 235)
    assert between.sum() > 300 and border_band(truth)[between].mean() > 0.8


@pytest.mark.parametrize("level", [0, 90, 255])
def test_without_anything_to_see_it_is_the_probability(level):
    """On an even frame there is no edge to follow: what is left is the model's own, at the frame's size."""
    foreground = answer(shape(0))
    alpha = soft_alpha(foreground, np.full((*SIZE, 3), level, np.uint8))
    own = cv2.resize(foreground, SIZE[::-1]) > 0.5
    assert ((alpha > 127) == own).mean() > 0.99


def test_grey_frames():
    truth = shape(0)
    frame = picture(truth, 0)
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(soft_alpha(answer(truth), grey), soft_alpha(answer(truth), frame))


@pytest.mark.parametrize("frame", [(1, 1), (7, 300), (64, 64), (50, 30), (720, 1280)])
@pytest.mark.parametrize("small", [(8, 8), (64, 64), (33, 65)])
def test_any_sizes(frame, small):
    random = np.random.default_rng(4)
    foreground = random.random(small, np.float32)
    image = random.integers(0, 256, (*frame, 3), np.uint8)
    kept = foreground.copy(), image.copy()
    alpha = soft_alpha(foreground, image)
    assert alpha.shape == frame and alpha.dtype == np.uint8
    assert np.array_equal(foreground, kept[0]) and np.array_equal(image, kept[1])


@pytest.mark.parametrize(("probability", "opacity"), [(0.0, 0), (0.2, 0), (0.5, 128), (0.8, 255), (1.0, 255)])
def test_even_probabilities(probability, opacity):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    alpha = soft_alpha(np.full((32, 32), probability, np.float32), image)
    assert np.abs(alpha.astype(int) - opacity).max() <= 1
