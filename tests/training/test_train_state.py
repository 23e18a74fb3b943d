"""One step at a time: the average of the weights, the state that can be taken up, and several devices."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from datasets import squares
from tried_unet import TriedUNet

from training.config import TrainConfig
from training.data.dataset import make_classes
from training.loop.initial_state import initial_state
from training.loop.train_state import (
    ENCODER_RATE,
    FROZEN,
    WARM_UP,
    TrainState,
    encoder_rate_at,
    learning_rate_at,
)
from training.losses.make import make_loss
from training.presets import PRESETS


def batch(count=4):
    pairs = [squares(seed) for seed in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def new_state(*, average_over=0, seed=0, accumulate=None, pretrained=()):
    keras.utils.set_random_seed(seed)
    shape = TriedUNet(widths=(4, 8), batch_norm=True, dropout=0.5)
    model = shape.build(height_px=32, width_px=32, channels=3, logit_channels=3, for_training=True)
    optimizer = keras.optimizers.Adam(1e-2, gradient_accumulation_steps=accumulate)
    loss = make_loss("cross_entropy", classes=3)
    strategy = tf.distribute.get_strategy()
    return TrainState(model, optimizer, loss, average_over=average_over, strategy=strategy, pretrained=pretrained)


def weights(of):
    return [w.numpy() for w in of.model.weights]


def test_learns():
    images, masks = batch()
    subject = new_state()
    results = [subject.step(images, masks, 1e-2) for _ in range(40)]
    assert results[-1].loss < 0.5 * results[0].loss
    assert results[-1].accuracy > results[0].accuracy
    assert 0 <= results[0].accuracy <= 1


def test_the_average_looks_back_on_the_steps_and_not_on_the_random_start():
    images, masks = batch()
    subject = new_state(average_over=3)
    expected = weights(subject)
    for step in range(6):
        subject.step(images, masks, 1e-2)
        decay = min(1 - 1 / 3, (1 + step) / (10 + step))
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, weights(subject), strict=True)]
    own = weights(subject)
    with subject.averaged():
        for found, value in zip(weights(subject), expected, strict=True):
            assert np.allclose(found, value, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(weights(subject), own, strict=True)), (
        "training goes on from its own"
    )


def test_without_an_average_the_weights_are_those_of_the_last_step():
    subject = new_state()
    own = weights(subject)
    with subject.averaged():
        assert all(np.array_equal(a, b) for a, b in zip(weights(subject), own, strict=True))


def test_goes_on_from_a_state_as_if_nothing_had_happened():
    images, masks = batch()
    first = new_state(average_over=10)
    for _ in range(3):
        first.step(images, masks, 1e-2)
    arrays = first.arrays()
    second = new_state(average_over=10, seed=7)
    second.restore(arrays)
    for _ in range(2):
        assert second.step(images, masks, 1e-2).loss == pytest.approx(first.step(images, masks, 1e-2).loss, rel=1e-5)
    for (name, here), there in zip(second.arrays().items(), first.arrays().values(), strict=True):
        assert np.allclose(here, there, rtol=1e-4, atol=1e-6), name


def test_accumulated_gradients_change_the_weights_every_so_many_steps():
    images, masks = batch()
    subject = new_state(accumulate=2)
    trainable = [w.numpy() for w in subject.model.trainable_variables]
    subject.step(images, masks, 1e-2)
    assert all(np.array_equal(a, w) for a, w in zip(trainable, subject.model.trainable_variables, strict=True))
    subject.step(images, masks, 1e-2)
    assert not all(np.array_equal(a, w) for a, w in zip(trainable, subject.model.trainable_variables, strict=True))


def test_names_a_weight_that_is_not_finite():
    subject = new_state()
    assert subject.unfit_weight() is None
    subject.model.weights[3].assign(np.full(subject.model.weights[3].shape, np.nan, np.float32))
    assert subject.unfit_weight() == subject.model.weights[3].path


def test_the_weights_are_float32_whatever_the_arithmetic(monkeypatch):
    from edge_runtime.model.contract import Contract

    shape = replace(PRESETS["edge"].shape, widths=(4, 4, 4, 4, 4))
    monkeypatch.setitem(PRESETS, "small", replace(PRESETS["edge"], shape=shape))
    config = TrainConfig.from_preset("small", input_size=(32, 32), precision="bfloat16")
    classes = make_classes(["a", "b", "c"])
    contract = Contract(name="x", height_px=32, width_px=32, channels=3, binary=False, classes=classes)
    subject = initial_state(config, contract, np.array([900, 90, 10]))
    assert {str(w.dtype) for w in subject.model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    compute = {layer.compute_dtype for layer in subject.model.layers if isinstance(layer, keras.layers.Conv2D)}
    assert compute == {"bfloat16", "float32"}, "the logits alone are float32"
    images, masks = batch()
    assert np.isfinite(subject.step(images, masks, 1e-3).loss)


def test_pretrained_layers_take_shorter_steps_or_none():
    images, masks = batch()
    begun = new_state()
    first = next(layer.name for layer in begun.model.layers if isinstance(layer, keras.layers.Conv2D))
    begun.step(images, masks, 1e-2)
    start, whole = weights(new_state()), weights(begun)
    assert all((a != b).any() for a, b in zip(start, whole, strict=True))
    for rate in (0.0, 0.1):
        subject = new_state(pretrained=[first])
        subject.step(images, masks, 1e-2, encoder_rate=rate)
        for weight, found, before, after in zip(subject.model.weights, weights(subject), start, whole, strict=True):
            share = rate if weight.path.split("/")[0] == first else 1.0
            np.testing.assert_allclose(found, before + share * (after - before), rtol=0, atol=1e-6)


def test_an_encoder_is_frozen_at_first():
    assert [encoder_rate_at(share) for share in (0, 0.05, FROZEN, 1)] == [0, 0, ENCODER_RATE, ENCODER_RATE]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    def at(share):
        return learning_rate_at(share, peak=1.0, schedule="cosine")

    assert (at(0), at(WARM_UP / 2), at(WARM_UP)) == (0.02, 0.5, 1.0)
    assert at((1 + WARM_UP) / 2) == pytest.approx(0.5)
    assert at(1.0) == 0.005
    assert learning_rate_at(0.7, peak=3.0, schedule="constant") == 3.0


TWO_DEVICES = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from training.loop.train_state import TrainState
from training.losses.make import make_loss
from training.network.unet import UNetShape

rng = np.random.default_rng(0)
images, masks = rng.integers(0, 256, (4, 16, 16, 3), np.uint8), rng.integers(0, 3, (4, 16, 16), np.uint8)
losses, weights = [], []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        shape = UNetShape(widths=(4, 8), batch_norm=False)
        model = shape.build(height_px=16, width_px=16, channels=3, logit_channels=3, for_training=True)
        optimizer = keras.optimizers.SGD(0.1)
    loss = make_loss("cross_entropy", classes=3)
    state = TrainState(model, optimizer, loss, average_over=5, strategy=strategy)
    losses.append([state.step(images, masks, 0.1).loss for _ in range(3)])
    with state.averaged():
        weights.append([w.numpy() for w in model.weights])
    state.restore(state.arrays())
assert strategy.num_replicas_in_sync == 2
assert np.allclose(*losses, rtol=1e-4), losses
assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(*weights))
print("alike")
"""


def test_two_devices_learn_as_one_does():
    child = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False)
    assert child.stdout.splitlines()[-1:] == ["alike"], child.stderr[-2000:]
