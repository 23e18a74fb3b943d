import numpy as np
import pytest

from edge_runtime.model.contract import Contract
from training.config import TrainConfig
from training.data.dataset import make_classes
from training.loop.initial_state import initial_state
from training.network.start import answer_with_shares, measure_statistics, see_differences
from training.presets import PRESETS


def network(preset, logit_channels):
    return PRESETS[preset].shape.build(
        height_px=64, width_px=64, channels=1, logit_channels=logit_channels, for_training=True
    )


def first_filters(model):
    return next(layer for layer in model.layers if hasattr(layer, "kernel")).kernel.numpy()


@pytest.mark.parametrize("preset", ["edge", "edge-nano", "classic"])
def test_first_filters_answer_nothing_to_an_even_picture(preset):
    model = network(preset, 1)
    before = first_filters(model)
    see_differences(model)
    after = first_filters(model)
    assert np.abs(before.sum(axis=(0, 1))).max() > 0.1
    assert np.abs(after.sum(axis=(0, 1))).max() < 1e-6
    assert np.allclose(before - before.mean(axis=(0, 1)), after, atol=1e-6)


@pytest.mark.parametrize("preset", ["edge", "edge-nano", "classic"])
@pytest.mark.parametrize("shares", [[97, 3], [80, 15, 5], [0.5, 0.25, 0.125, 0.125]])
def test_the_first_answer_is_the_shares_of_the_classes(preset, shares):
    shares = np.array(shares, np.float64)
    model = network(preset, 1 if len(shares) == 2 else len(shares))
    answer_with_shares(model, shares)
    image = np.zeros((1, 64, 64, 1), np.float32)  # in which the random weights find nothing
    found = model.predict_on_batch(image).reshape(-1, model.output_shape[-1])
    expected = shares / shares.sum()
    assert np.allclose(found, expected[1:] if len(shares) == 2 else expected, atol=2e-3)


def test_a_class_that_is_nearly_absent_is_not_given_up():
    model = network("edge", 1)
    answer_with_shares(model, np.array([1e9, 1.0]))
    found = model.predict_on_batch(np.zeros((1, 64, 64, 1), np.float32))
    assert np.allclose(found, 1e-3, atol=1e-5)


@pytest.mark.parametrize(("preset", "informed"), [("edge", True), ("edge-nano", True), ("seed", False)])
def test_training_starts_so_in_every_preset_but_the_seed(preset, informed):
    classes = make_classes(["background", "defect"])
    contract = Contract(name="a", height_px=64, width_px=64, channels=1, classes=classes, binary=True)
    config = TrainConfig.from_preset(preset, input_size=(64, 64), batch_size=2, class_weights=False)
    model = initial_state(config, contract, np.array([90, 10])).model
    evenness = np.abs(first_filters(model).sum(axis=(0, 1))).max()
    answer = float(np.mean(model.predict_on_batch(np.zeros((1, 64, 64, 1), np.float32))))
    assert (evenness < 1e-6, abs(answer - 0.1) < 2e-3) == (informed, informed)


@pytest.mark.parametrize("preset", ["edge", "edge-nano", "classic"])
def test_what_is_validated_answers_from_the_first_step_on_like_what_is_trained(preset):
    model = network(preset, 1)
    see_differences(model)
    images = np.random.default_rng(0).integers(90, 110, (4, 64, 64, 1), np.uint8)

    def gap():
        trained, validated = (np.asarray(model(images.astype(np.float32), training=t)) for t in (True, False))
        return np.abs(trained - validated).mean()

    # Training moves the statistics, so the momentum is 1 meanwhile.
    norms = [layer for layer in model.layers if hasattr(layer, "momentum")]
    momentum = norms[0].momentum
    for layer in norms:
        layer.momentum = 1.0
    before = gap()
    measure_statistics(model, images)
    assert gap() < before / 5
    assert {layer.momentum for layer in norms} == {1.0} != {momentum}
