"""The optimizer Muon for networks of convolutions, whose kernels Keras' own would leave to AdamW."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

HEADS = "logits"
"""Part of the names of the layers that give logits."""
NARROWEST, WIDEST = 8, 1024
"""Least and largest number of input channels and of filters of a kernel for Muon: of few, there is little to balance; of
many, the iteration takes longer than the rest of the step."""


class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon that takes the kernel of a convolution for a matrix from all taps of all input channels to the filters.

    A step of Muon has the same length in all directions of that matrix. The gradient of a rare object is small beside
    that of the background, and AdamW, which balances single weights, lets it wait. All other weights have AdamW:
    biases, normalisation, narrow kernels such as those of the first layer and of depthwise convolutions, and the heads.

    Reference:
        Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024.
        https://kellerjordan.github.io/posts/muon/
        Liu et al.: Muon is scalable for LLM training, 2025, for the length of the step. https://arxiv.org/abs/2502.16982
    """

    def __init__(self, learning_rate: float, *, weight_decay: float, half_precision: bool, **options: Any) -> None:
        """Prepare the optimizer.

        Args:
            learning_rate: Learning rate of all weights.
            weight_decay: Weight decay of all weights, relative to the learning rate.
            half_precision: Whether to compute the direction of a step in bfloat16, which is precise enough.
            options: Further keyword arguments of ``keras.optimizers.Muon``.
        """
        super().__init__(learning_rate, weight_decay=weight_decay, adam_weight_decay=weight_decay, **options)
        self._dtype = "bfloat16" if half_precision else "float32"

    def _should_use_adamw(self, variable: Any) -> bool:
        if len(variable.shape) != 4 or HEADS in variable.path:
            return True
        sides = variable.shape[-2:]
        return min(sides) < NARROWEST or max(sides) > WIDEST

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        matrix = (-1, variable.shape[-1])
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        direction = ops.reshape(ops.add(gradient, self.momentum * m), matrix)
        direction = direction / (ops.norm(direction) + self.epsilon)
        direction = self.zeropower_via_newtonschulz5(ops.cast(direction, self._dtype), self.ns_steps)
        step = self.lr_adjust(lr * ops.cast(direction, variable.dtype))
        self.assign_sub(variable, ops.reshape(step, variable.shape))
