"""State of training: the network, its optimizer, and the moving average of its weights, which is saved as the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.errors import ResumeError
from training.losses.make import Loss, accuracy
from training.network.sides import FADING, labels_at, with_sides

WARM_UP = 0.03
"""Share of a run in which the learning rate of the cosine schedule rises linearly to its peak."""
FROZEN = 0.1
"""Share of a run in which a pretrained encoder stays as it is, until the decoder asks for something sensible."""
ENCODER_RATE = 0.1
"""Length of the steps of a pretrained encoder after that, relative to those of the other layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Result of one step on its batch, from the weights before the step.

    Attributes:
        loss: Mean loss; not finite if training has diverged.
        accuracy: Pixel accuracy, 0–1.
    """

    loss: float
    accuracy: float


class TrainState:
    """Network, optimizer and averaged weights, trained step by step on one or several devices.

    With several devices each takes its share of the batch, and the optimizer adds up the gradients.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        *,
        average_over: int,
        strategy: tf.distribute.Strategy,
        maps: Sequence[str] = (),
        pretrained: Sequence[str] = (),
    ) -> None:
        """Prepare to train.

        Args:
            model: Model from pixels to probabilities with a layer named ``logits``; built under the strategy.
            optimizer: Optimizer that was built under the strategy.
            loss: Function of labels and logits.
            average_over: Time constant of the moving average of the weights, in steps; 0 for no average.
            strategy: Strategy for the devices; ``tf.distribute.get_strategy()`` for one device.
            maps: Names of the layers on whose maps heads learn, too, see ``with_sides``.
            pretrained: Names of the layers that have pretrained weights, for ``encoder_rate`` of ``step``.
        """
        self.model = model
        self.optimizer = optimizer
        self._loss = loss
        self._strategy = strategy
        self._decay = 1 - 1 / average_over if average_over else 0.0
        with strategy.scope():
            self._to_logits = with_sides(model, maps)
            optimizer.build(self._to_logits.trainable_variables)
            self._averages = [tf.Variable(w.numpy(), trainable=False) for w in model.weights] if average_over else []
        self._pretrained = [w for name in pretrained for w in model.get_layer(name).trainable_weights]
        self._steps = 0
        self._distributed_step = tf.function(self._step, reduce_retracing=True)

    def step(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], learning_rate: float, *, encoder_rate: float = 1.0
    ) -> StepResult:
        """Take one step on a batch.

        Args:
            images: (N, H, W, C) uint8; N is a multiple of the number of devices.
            masks: (N, H, W) uint8 class ids or ``IGNORE``.
            learning_rate: Learning rate of this step.
            encoder_rate: Length of the step of the pretrained layers, relative to that of the others; 0 leaves them alone.
        """
        self.optimizer.learning_rate.assign(learning_rate)
        # A long average would consist mostly of the random initial weights at first.
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        numbers = (tf.constant(number, tf.float32) for number in (decay, encoder_rate))
        loss, right = self._distributed_step(self._spread(images), self._spread(masks), *numbers)
        self._steps += 1
        return StepResult(loss=float(loss), accuracy=float(right))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace the network's weights by their average within the ``with`` block."""
        if not self._averages:
            yield
            return
        own = [weight.numpy() for weight in self.model.weights]
        self._assign(self.model.weights, [average.numpy() for average in self._averages])
        try:
            yield
        finally:
            self._assign(self.model.weights, own)

    def unfit_weight(self) -> str | None:
        """Return the path of a weight that is not finite, or None."""
        return next((w.path for w in self._to_logits.weights if not np.isfinite(w.numpy()).all()), None)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays that ``restore`` needs to continue training exactly."""
        arrays = {name: np.asarray(variable.numpy()) for name, variable in self._variables().items()}
        return {**arrays, "steps": np.asarray(self._steps)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore the arrays that ``arrays`` returned; the network and the optimizer must be the same."""
        variables = self._variables()
        if {*variables, "steps"} != set(arrays):
            raise ResumeError("the state of the run — was saved by another version of edge-unet — start a new run")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self._steps = int(arrays["steps"])

    def _variables(self) -> dict[str, Any]:
        # The model's variables are its weights and the state of its dropout.
        own = {id(variable) for variable in self.model.variables}
        sides = [variable for variable in self._to_logits.variables if id(variable) not in own]
        groups = {
            "model": self.model.variables,
            "sides": sides,
            "optimizer": self.optimizer.variables,
            "average": self._averages,
        }
        return {f"{kind}-{i}": variable for kind, group in groups.items() for i, variable in enumerate(group)}

    def _step(self, images: Any, masks: Any, decay: tf.Tensor, encoder_rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses, rights = self._strategy.run(self._replica_step, (images, masks, encoder_rate))
        for average, weight in zip(self._averages, self.model.weights, strict=bool(self._averages)):
            average.assign(decay * average + (1 - decay) * tf.cast(weight.value, average.dtype))
        mean = tf.distribute.ReduceOp.MEAN
        return self._strategy.reduce(mean, losses, axis=None), self._strategy.reduce(mean, rights, axis=None)

    def _replica_step(
        self, images: tf.Tensor, masks: tf.Tensor, encoder_rate: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        labels = tf.cast(masks, tf.int32)
        with tf.GradientTape() as tape:
            outputs = keras.tree.flatten(self._to_logits(tf.cast(images, tf.float32), training=True))
            logits, *sides = [tf.cast(output, tf.float32) for output in outputs]
            loss = self._loss(labels, logits)
            total = loss + sum(
                FADING**number * self._loss(labels_at(labels, side), side) for number, side in enumerate(sides, start=1)
            )
            share = total / self._strategy.num_replicas_in_sync
        weights = self._to_logits.trainable_variables
        before = [tf.identity(weight.value) for weight in self._pretrained]
        self.optimizer.apply(tape.gradient(share, [weight.value for weight in weights]), weights)
        # Scaled gradients would change nothing, because the length of an AdamW step does not depend on them.
        for weight, old in zip(self._pretrained, before, strict=True):
            weight.assign(old + encoder_rate * (weight.value - old))
        return loss, accuracy(labels, logits)

    def _spread(self, batch: NDArray[np.uint8]) -> Any:
        """Split a batch over the devices."""
        replicas = self._strategy.num_replicas_in_sync
        if replicas == 1:
            return tf.constant(batch)
        shares = np.split(batch, replicas)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group])
        )

    @staticmethod
    def _assign(weights: list[Any], values: list[NDArray[Any]]) -> None:
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)


def encoder_rate_at(share: float) -> float:
    """Return the length of a pretrained encoder's steps, relative to the other layers', at a share of the run, 0–1."""
    return 0.0 if share < FROZEN else ENCODER_RATE


def learning_rate_at(share: float, *, peak: float, schedule: str) -> float:
    """Return the learning rate at a share of the run, 0–1: constant, or a linear warm-up and then a cosine.

    Reference: Loshchilov, Hutter: SGDR, ICLR 2017. https://arxiv.org/abs/1608.03983
    """
    if schedule == "constant":
        return peak
    if share < WARM_UP:
        return peak * max(0.02, share / WARM_UP)
    return peak * max(0.005, 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))))
