"""Make batches ahead of the training step in threads, reproducible from seed, epoch and step.

Plain threads and no ``tf.data``: OpenCV lets go of the interpreter lock, and a pipeline around the same function takes a
tenth more processor time per picture, hides which file failed or hangs, and needs TensorFlow to be tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EdgeUnetError
from edge_runtime.resources import usable_cores
from training.errors import LoaderError
from training.input.cache import PixelCache
from training.input.workers import PATIENCE_S, in_order

Augment = Callable[
    [NDArray[np.uint8], NDArray[np.uint8], int, int, np.random.Generator],
    tuple[NDArray[np.uint8], NDArray[np.uint8]],
]
"""``augment(image, mask, height_px, width_px, rng)``: a random variant of a cached pair, at the model's size."""
Mix = Callable[[NDArray[np.uint8], NDArray[np.uint8], np.random.Generator], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""``mix(images, masks, rng)``: (N, H, W, C) and (N, H, W) with pictures of the batch mixed, in the same shapes."""
MAX_THREADS = 8
_ORDER, _PIXELS = 1, 2
"""Keep the random streams apart: NumPy seeds [s, 5] and [s, 5, 0] alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The batch of one step.

    Attributes:
        images: (N, H, W, C) uint8, RGB or grey. The graph casts them: a quarter of the bytes to hand over.
        masks: (N, H, W) uint8 class ids, or ``IGNORE``.
        indices: (N,) int64, which pictures of the cache they are.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    indices: NDArray[np.int64]


class Batches:
    """The batches of a training run.

    A batch depends on the seed, the epoch and the step alone, whatever the number of threads, so that a resumed run sees
    what it would have seen. All have the same shape, so that the graph is traced once: the pictures come in one
    endless row of shuffled passes over the split, cut into batches. Over a run each is seen equally often, also where
    there are fewer pictures than a batch takes.

    Attributes:
        names: Of the pictures, in the order that the indices of a batch count in.
        steps: Batches per epoch: as many as hold all pictures once.
    """

    def __init__(
        self,
        cache: PixelCache,
        *,
        height_px: int,
        width_px: int,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        mix: Mix | None = None,
        threads: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Prepare to make batches; no thread runs before an epoch does.

        Args:
            cache: The pictures.
            height_px: Height of a batch.
            width_px: Width of a batch.
            batch_size: Pictures per batch.
            seed: Of order and variation, 0 or more.
            augment: Makes a variant of each picture; without it the cache must have the batch's size.
            mix: Changes the finished batch.
            threads: How many make batches; by default half of the usable cores, at most ``MAX_THREADS``: the step
                wants them too.
            patience_s: Time after which a batch counts as hung.

        Raises:
            ValueError: There are no pictures, or they have another size and nothing is to change it.
        """
        if not len(cache.names):
            raise ValueError("cache has no pictures")
        if augment is None and cache.masks.shape[1:] != (height_px, width_px):
            raise ValueError(f"cache is {cache.masks.shape[1:]}, batches {(height_px, width_px)}: pass augment")
        self._cache = cache
        self._size = height_px, width_px
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment
        self._mix = mix
        self._threads = threads or min(MAX_THREADS, max(1, usable_cores() // 2))
        self._patience_s = patience_s
        self._at: dict[tuple[int, int], int] = {}  # the picture that the batch of an epoch and step has come to
        self.names = cache.names
        self.steps = math.ceil(len(cache.names) / batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, made while the steps before them run.

        Args:
            number: Of the epoch, from 0.
            first_step: Where to begin, from 0, in an epoch that was interrupted.

        Raises:
            LoaderError: Preparing a batch failed; names the file.
            WedgedError: A batch takes longer than the patience; names the file in hand.
        """
        return in_order(
            lambda step: self.batch(number, step),
            range(first_step, self.steps),
            threads=self._threads,
            ahead=self._threads + 1,
            describe=lambda step: self._describe(number, step),
            patience_s=self._patience_s,
        )

    def batch(self, number: int, step: int) -> Batch:
        """Make the batch of an epoch and a step, in the caller's thread.

        Raises:
            LoaderError: As ``epoch``.
        """
        indices = self._indices((number * self.steps + step) * self._batch_size)
        rng = np.random.default_rng([self._seed, _PIXELS, number, step])
        try:
            images, masks = self._pixels(indices, rng, (number, step))
            if self._mix is not None:
                images, masks = self._mix(images, masks, rng)
        except EdgeUnetError:
            raise
        except Exception as cause:
            raise LoaderError(
                f"{self._describe(number, step)} — failed with {type(cause).__name__}: {' '.join(str(cause).split())} — "
                "look at the picture, or train with --no-augment"
            ) from cause
        self._at.pop((number, step), None)
        return Batch(images=images, masks=masks, indices=indices)

    def _pixels(
        self, indices: NDArray[np.int64], rng: np.random.Generator, key: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        # Fresh memory each time: TensorFlow on a CPU may read from it for as long as the step runs.
        images = np.empty((len(indices), *self._size, self._cache.images.shape[3]), np.uint8)
        masks = np.empty((len(indices), *self._size), np.uint8)
        for row, index in enumerate(indices.tolist()):
            self._at[key] = index
            image, mask = self._cache.images[index], self._cache.masks[index]
            if self._augment is not None:
                image, mask = self._augment(image, mask, *self._size, rng)
            images[row], masks[row] = image, mask
        return images, masks

    def _indices(self, first: int) -> NDArray[np.int64]:
        """Return which pictures stand at ``first`` and after it in the endless row, (batch_size,)."""
        count = len(self._cache.names)
        pass_number, start = divmod(first, count)
        orders = [self._order(pass_number + i) for i in range(math.ceil((start + self._batch_size) / count))]
        return np.concatenate(orders)[start : start + self._batch_size]

    def _order(self, pass_number: int) -> NDArray[np.int64]:
        """Return one shuffled pass over the pictures, (N,)."""
        rng = np.random.default_rng([self._seed, _ORDER, pass_number])
        return rng.permutation(len(self._cache.names))

    def _describe(self, number: int, step: int) -> str:
        index = self._at.get((number, step))
        file = "" if index is None else f", at {self._cache.names[index]}"
        return f"training: epoch {number + 1}, step {step + 1}: preparing the batch{file}"
