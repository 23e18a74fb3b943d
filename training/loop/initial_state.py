"""Build the network, the optimizer and the loss of a run, on all devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.storage import system_text
from training.config import TrainConfig
from training.loop.muon import ConvolutionMuon
from training.loop.train_state import TrainState
from training.losses.make import make_loss
from training.losses.weights import class_weights_of
from training.network.encoders import encoder_layers, load_encoder
from training.network.shape import HasDecoderMaps, TakesPublicWeights
from training.network.start import answer_with_shares, see_differences
from training.presets import PRESETS, Precision


def initial_state(
    config: TrainConfig, contract: Contract, pixels: NDArray[np.int64], *, pretrained: bool = True
) -> TrainState:
    """Return the state before training: random weights, or those to start from; see ``training.network.start``.

    Sets Keras' global random seed, so that the same configuration starts from the same weights.

    Args:
        config: Configuration of the run.
        contract: Input and classes of the model.
        pixels: (classes,) int64, pixels per class in the training split, for the class weights.
        pretrained: Load the weights that the configuration names. A saved state includes them, so that resuming needs
            neither a download nor a file.

    Raises:
        UsageError: The batch cannot be spread over the devices, or weights cannot be loaded.
    """
    strategy = tf.distribute.MirroredStrategy() if len(_gpus()) > 1 else tf.distribute.get_strategy()
    devices = strategy.num_replicas_in_sync
    if config.batch_size % devices:
        raise UsageError(f"--batch-size {config.batch_size} — for {devices} devices — expected a multiple of {devices}")
    class_weights = class_weights_of(pixels)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(_policy(config.precision))
    height_px, width_px = config.step_size
    try:
        with strategy.scope():
            model = config.shape.build(
                height_px=height_px,
                width_px=width_px,
                channels=contract.channels,
                logit_channels=contract.logit_channels,
                for_training=True,
            )
            if config.recipe.informed_start:
                answer_with_shares(model, pixels * (class_weights if config.class_weights else 1.0))
                if not config.encoder:
                    see_differences(model)
            if pretrained:
                _load_weights(model, config)
            encoder = encoder_layers(model, config.encoder) if config.encoder and config.encoder_weights else ()
            optimizer = _optimizer(config)
    finally:
        keras.config.set_dtype_policy("float32")
    loss = make_loss(
        config.loss,
        classes=len(contract.classes),
        class_weights=class_weights if config.class_weights else None,
        label_smoothing=config.label_smoothing,
    )
    shape = config.shape
    return TrainState(
        model,
        optimizer,
        loss,
        average_over=config.recipe.average_over,
        strategy=strategy,
        pretrained=encoder,
        maps=shape.decoder_maps if config.recipe.deep_supervision and isinstance(shape, HasDecoderMaps) else (),
    )


def _load_weights(model: keras.Model, config: TrainConfig) -> None:
    shape = PRESETS[config.preset].shape
    if config.public_weights and isinstance(shape, TakesPublicWeights):
        shape.load_public_weights(model, config.public_weights)
    if config.encoder and config.encoder_weights:
        weights = config.encoder_weights
        load_encoder(model, config.encoder, "imagenet" if weights == "imagenet" else Path(weights))


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


def _policy(precision: Precision) -> str:
    """Return Keras' dtype policy; "auto" is bfloat16 on devices with bfloat16 arithmetic, else float32."""
    if precision == "auto":
        flags = system_text(Path("/proc/cpuinfo")).partition("flags")[2].partition("\n")[0].split()
        gains = _gpus() or {"avx512_bf16", "amx_bf16"} & set(flags)
        precision = "bfloat16" if gains else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    recipe = config.recipe
    steps = config.accumulate if config.accumulate > 1 else None
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(config.learning_rate, gradient_accumulation_steps=steps)
    options: dict[str, Any] = {"weight_decay": recipe.weight_decay, "gradient_accumulation_steps": steps}
    # Steps of the same length in all directions would undo what pretrained weights have learnt.
    if recipe.optimizer == "adamw" or config.start_from or config.encoder_weights:
        optimizer = keras.optimizers.AdamW(config.learning_rate, **options)
    else:
        half_precision = _policy(config.precision) == "mixed_bfloat16"
        optimizer = ConvolutionMuon(config.learning_rate, half_precision=half_precision, **options)
    # Weight decay of biases and normalisation parameters only hurts.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
