"""Muon: which weights have it, how long its steps are, and that training with it goes on after a stop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from datasets import squares

from edge_runtime.model.contract import Contract
from training.config import TrainConfig
from training.data.dataset import make_classes
from training.loop.initial_state import initial_state
from training.loop.muon import NARROWEST, WIDEST, ConvolutionMuon
from training.loop.train_state import TrainState
from training.losses.make import make_loss
from training.network.unet import UNetShape

RATE = 0.01


def kernel(*shape, name="kernel"):
    return keras.Variable(np.random.default_rng(0).normal(size=shape).astype(np.float32), name=name)


def change(variable, gradient, *, half_precision=False, weight_decay=0.0):
    """Return what one step takes from a variable."""
    before = variable.numpy()
    optimizer = ConvolutionMuon(RATE, weight_decay=weight_decay, half_precision=half_precision)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    return before - variable.numpy()


def lopsided(*shape):
    """A gradient thirty times as long in one direction as in the others."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(int(np.prod(shape[:-1])), shape[-1]))
    rows, _, columns = np.linalg.svd(matrix, full_matrices=False)
    lengths = np.full(min(matrix.shape), 1 / 30)
    lengths[0] = 1.0
    return ((rows * lengths) @ columns).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("half_precision", [False, True])
@pytest.mark.parametrize("shape", [(3, 3, 16, 8), (1, 1, 8, 24)])
def test_a_step_is_about_as_long_in_every_direction(shape, half_precision):
    step = change(kernel(*shape), lopsided(*shape), half_precision=half_precision)
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    lengths = np.linalg.svd(step.reshape(rows, columns), compute_uv=False)
    # 0.2 · sqrt(larger side) gives steps of AdamW's length.
    assert lengths.max() / lengths.min() < 2.5
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * RATE, rel=0.35)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((8,), "bias"),
        ((3, 3, 16, NARROWEST - 1), "narrow"),
        ((3, 3, 3, 32), "first"),
        ((3, 3, 16, 1), "depthwise"),
        ((1, 1, 16, 44), "half_logits"),
        ((1, 1, 16, WIDEST + 1), "wide"),
    ],
)
def test_the_other_weights_have_adamw(shape, name):
    gradient = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    step = change(kernel(*shape, name=name), gradient)
    expected = keras.Variable(kernel(*shape).numpy())
    adamw = keras.optimizers.AdamW(RATE, weight_decay=0.0)
    adamw.build([expected])
    adamw.apply([keras.ops.convert_to_tensor(gradient)])
    np.testing.assert_allclose(step, kernel(*shape).numpy() - expected.numpy(), rtol=0, atol=1e-6)


def test_weights_decay_as_with_adamw():
    shape = (3, 3, 16, 8)
    step = change(kernel(*shape), np.zeros(shape, np.float32), weight_decay=0.1)
    np.testing.assert_allclose(step, kernel(*shape).numpy() * 0.1 * RATE, rtol=1e-3)


def optimizer_of(**options):
    config = TrainConfig.from_preset(**options)
    contract = Contract(name="x", height_px=64, width_px=64, channels=3, binary=True, classes=make_classes(["a", "b"]))
    return initial_state(config, contract, np.array([90, 10]), pretrained=False).optimizer


def test_a_network_has_muon_for_the_kernels_between_the_first_and_the_heads():
    optimizer = optimizer_of(name="edge", input_size=(64, 64))
    assert isinstance(optimizer, ConvolutionMuon)
    balanced = {v.path.split("/")[0] for v in optimizer._trainable_variables if not optimizer._should_use_adamw(v)}
    assert {"encoder_0", "bottleneck", "decoder_0", "reduce_3", "context"} <= balanced
    assert not {"stem", "half_logits", "decoder_1_relu_logits", "encoder_0_norm"} & balanced


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "seed", "input_size": (64, 64)}, keras.optimizers.Adam),
        ({"name": "selfie", "input_size": (64, 64), "start_from": "mediapipe:a.tflite"}, keras.optimizers.AdamW),
        (
            {"name": "edge", "input_size": (64, 64), "encoder": "mobilenetv3small", "encoder_weights": "imagenet"},
            keras.optimizers.AdamW,
        ),
        ({"name": "edge", "input_size": (64, 64), "encoder": "mobilenetv3small"}, ConvolutionMuon),
    ],
)
def test_what_is_trained_already_has_adamw(options, expected):
    assert type(optimizer_of(**options)) is expected


def state():
    keras.utils.set_random_seed(0)
    shape = UNetShape(widths=(8, 16, 16), batch_norm=True, slim_decoder=True, convolutions=1)
    model = shape.build(height_px=32, width_px=32, channels=3, logit_channels=3, for_training=True)
    return TrainState(
        model,
        ConvolutionMuon(1e-2, weight_decay=1e-2, half_precision=False),
        make_loss("cross_entropy", classes=3),
        average_over=5,
        strategy=tf.distribute.get_strategy(),
        maps=shape.decoder_maps,
    )


def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped():
    images, masks = (np.stack(part) for part in zip(*(squares(seed) for seed in range(4)), strict=True))
    whole, begun = state(), state()
    losses = [whole.step(images, masks, 1e-2).loss for _ in range(20)]
    for _ in range(10):
        begun.step(images, masks, 1e-2)
    resumed = state()
    resumed.restore(begun.arrays())
    assert [resumed.step(images, masks, 1e-2).loss for _ in range(10)] == losses[10:]
    assert losses[-1] < 0.3 * losses[0]
