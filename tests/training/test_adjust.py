import numpy as np
import pytest

from training.fit.adjust import Answers, choose_adjustment
from training.network.answer import shift_answer
from training.presets import PRESETS


def answers(*, shift=(), classes=2, images=12, noise=1.0, seed=0):
    """Return answers of a model that is right up to noise and a shift of its logits; class 1 covers a tenth."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 2000)
    truth = rng.choice(classes, len(image), p=[0.9, *[0.1 / (classes - 1)] * (classes - 1)]).astype(np.uint8)
    logits = 3 * np.eye(classes)[truth] + rng.normal(0, noise, (len(image), classes))
    logits += np.log([0.9, *[0.1 / (classes - 1)] * (classes - 1)])
    logits[:, : len(shift)] += shift
    return Answers(logits=logits.astype(np.float32), truth=truth, image=image)


@pytest.mark.parametrize(("shift", "expected"), [((0, 2), -2), ((2, 0), 2), ((0, -3), 3)])
def test_a_shift_of_a_binary_model_is_taken_back(shift, expected):
    adjustment, gain = choose_adjustment(answers(shift=shift, noise=1.5))
    assert adjustment[0] == 0
    assert abs(adjustment[1] - expected) <= 1
    assert gain > 0.05


def test_each_class_of_several_is_shifted_by_its_own_number():
    biased = answers(classes=4, shift=(0, 3, 0, -2), noise=1.5)
    adjustment, gain = choose_adjustment(biased)
    assert gain > 0.05
    assert adjustment[1] - adjustment[2] <= -2
    assert adjustment[3] - adjustment[2] >= 1
    assert biased.mean_iou(adjustment) > biased.mean_iou(np.zeros(4)) + 0.05


def test_a_model_that_is_right_stays_as_it_is():
    adjustment, gain = choose_adjustment(answers(noise=0.1))
    assert (adjustment.tolist(), abs(gain) < 0.002) == ([0, 0], True)


def test_what_gains_only_on_the_images_that_chose_it_is_not_made():
    """In each image another class is found too often, so that no number fits two of them."""
    parts = [answers(images=1, shift=(0, 3) if i % 2 else (0, -3), noise=1.5, seed=i) for i in range(2)]
    both = Answers(
        logits=np.concatenate([part.logits for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        image=np.repeat([0, 1], 2000),
    )
    adjustment, gain = choose_adjustment(both)
    assert (adjustment.tolist(), gain < 0) == ([0, 0], True)


def test_a_single_image_chooses_nothing():
    assert not choose_adjustment(answers(images=1, shift=(0, 3)))[0].any()


@pytest.mark.parametrize("preset", ["edge", "edge-nano", "classic"])
@pytest.mark.parametrize("adjustment", [[0.0, -1.5], [0.0, 0.5, -2.0]])
def test_the_shift_is_added_to_the_logits_of_every_pixel(preset, adjustment):
    import keras

    outputs = 1 if len(adjustment) == 2 else len(adjustment)
    model = PRESETS[preset].shape.build(height_px=64, width_px=64, channels=3, logit_channels=outputs)
    logits = keras.Model(model.input, model.get_layer("logits").output)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    before = np.asarray(logits(image))
    shift_answer(model, np.array(adjustment))
    np.testing.assert_allclose(
        np.asarray(logits(image)) - before, np.broadcast_to(adjustment[-outputs:], before.shape), atol=1e-4
    )
