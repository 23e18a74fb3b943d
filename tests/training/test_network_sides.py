"""Heads on the decoder's coarser maps: where they sit, what they begin with, and that only training has them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from datasets import squares

from training.errors import ResumeError
from training.loop.train_state import TrainState
from training.losses.make import make_loss
from training.network.answer import shift_answer
from training.network.deploy import deployable
from training.network.shape import HasDecoderMaps
from training.network.sides import labels_at, with_sides
from training.network.unet import UNetShape
from training.presets import PRESETS

SHAPE = UNetShape(widths=(4, 6, 8, 10), batch_norm=True, stem_stride=2, slim_decoder=True, convolutions=1)


def built(shape=SHAPE, classes=3):
    return shape.build(height_px=32, width_px=32, channels=3, logit_channels=classes, for_training=True)


def new_state(maps=SHAPE.decoder_maps):
    keras.utils.set_random_seed(0)
    loss = make_loss("cross_entropy", classes=3)
    strategy = tf.distribute.get_strategy()
    return TrainState(built(), keras.optimizers.Adam(1e-2), loss, average_over=5, strategy=strategy, maps=maps)


@pytest.mark.parametrize("preset", [name for name in PRESETS if isinstance(PRESETS[name].shape, HasDecoderMaps)])
def test_every_network_with_a_decoder_has_maps_of_half_the_size_each(preset):
    shape = PRESETS[preset].shape
    model = shape.build(height_px=64, width_px=64, channels=3, logit_channels=1, for_training=True)
    sizes = [model.get_layer(name).output.shape[1] for name in shape.decoder_maps]
    finest = 64 // shape.stem_stride
    assert sizes == [finest // 2**n for n in range(1, len(shape.widths) - 1)]


def test_each_head_begins_with_the_answer_of_the_network():
    model = built()
    shift_answer(model, np.log([0.7, 0.2, 0.1]))
    logits, *sides = with_sides(model, SHAPE.decoder_maps)(np.zeros((1, 32, 32, 3), np.float32))
    assert [side.shape for side in sides] == [(1, 8, 8, 3), (1, 4, 4, 3)]
    for side in sides:
        np.testing.assert_allclose(side, np.broadcast_to(np.log([0.7, 0.2, 0.1]), side.shape), rtol=1e-6)
    assert logits.shape == (1, 32, 32, 3)


def test_a_position_learns_the_label_in_its_middle():
    labels = tf.constant(np.arange(64).reshape(1, 8, 8))
    found = labels_at(labels, tf.zeros((1, 2, 2, 5)))
    assert found.numpy().tolist() == [[[18, 22], [50, 54]]]


def test_heads_learn_and_are_not_saved():
    images, masks = (np.stack(part) for part in zip(*(squares(seed) for seed in range(4)), strict=True))
    state = new_state()
    before = {name: array.copy() for name, array in state.arrays().items() if name.startswith("sides")}
    first, *_, last = [state.step(images, masks, 1e-2).loss for _ in range(30)]
    assert last < 0.6 * first
    assert len(before) == 2 * len(SHAPE.decoder_maps)
    assert all(np.abs(state.arrays()[name] - array).max() > 1e-3 for name, array in before.items())
    shipped = deployable(state.model, SHAPE)
    heads = tuple(f"{name}_logits" for name in SHAPE.decoder_maps)
    assert not any(weight.path.startswith(heads) for weight in (*state.model.weights, *shipped.weights))


def test_a_state_without_heads_cannot_go_on_with_them():
    with pytest.raises(ResumeError, match=r"saved by another version of edge-unet — start a new run"):
        new_state().restore(new_state(maps=()).arrays())
    subject = new_state()
    subject.restore(new_state().arrays())
