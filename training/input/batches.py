"""Make batches ahead of the training step in threads, reproducible from seed, epoch and step.

Plain threads are used instead of ``tf.data``: OpenCV releases the interpreter lock, and ``tf.data`` around the same
function takes a tenth more processor time per picture, hides which file failed or hangs, and needs TensorFlow in tests.
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
from training.input.rarity import shuffled_pass
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
"""Constants that keep the random streams apart, because NumPy seeds [s, 5] and [s, 5, 0] alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Batch of one training step.

    Attributes:
        images: (N, H, W, C) uint8, RGB or grey. The graph casts them to float: uint8 is a quarter of the bytes to copy.
        masks: (N, H, W) uint8 class ids, or ``IGNORE``.
        indices: (N,) int64 indices of the pictures in the cache.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    indices: NDArray[np.int64]


class Batches:
    """Batches of a training run.

    A batch depends only on seed, epoch and step, not on the number of threads, so that a resumed run gets the batches
    that it would have had. All batches have the same shape, so that the graph is traced once: an endless sequence of
    shuffled passes over the split is cut into batches. Each picture is seen as often as its factor says over a run, even
    if the split is smaller than a batch.

    Attributes:
        names: Paths of the pictures, indexed by ``Batch.indices``.
        steps: Batches per epoch, enough for every picture once.
    """

    def __init__(
        self,
        cache: PixelCache,
        *,
        height_px: int,
        width_px: int,
        batch_size: int,
        seed: int,
        factors: NDArray[np.float64] | None = None,
        augment: Augment | None = None,
        mix: Mix | None = None,
        threads: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Prepare the batches; threads start with ``epoch``.

        Args:
            cache: Decoded pictures and masks.
            height_px: Height of the batch's pictures in pixels.
            width_px: Width of the batch's pictures in pixels.
            batch_size: Pictures per batch.
            seed: Random seed of order and augmentation, 0 or more.
            factors: (N,) how often to show each picture, see ``repeat_factors``; None shows all equally often.
            augment: Function that makes a random variant of a picture; None needs a cache at the batch's size.
            mix: Function that mixes the pictures of a finished batch; None for no mixing.
            threads: Number of threads; by default half of the usable cores, at most ``MAX_THREADS``, because the
                training step uses the cores too.
            patience_s: Seconds after which a batch counts as hung.

        Raises:
            ValueError: The cache is empty, or has another size than the batches while ``augment`` is None.
        """
        if not len(cache.names):
            raise ValueError("cache has no pictures")
        if augment is None and cache.masks.shape[1:] != (height_px, width_px):
            raise ValueError(f"cache is {cache.masks.shape[1:]}, batches {(height_px, width_px)}: pass augment")
        self._cache = cache
        self._size = height_px, width_px
        self._batch_size = batch_size
        self._seed = seed
        self._factors = np.ones(len(cache.names)) if factors is None else factors
        self._augment = augment
        self._mix = mix
        self._threads = threads or min(MAX_THREADS, max(1, usable_cores() // 2))
        self._patience_s = patience_s
        self._at: dict[tuple[int, int], int] = {}  # index of the picture in progress, by epoch and step
        self.names = cache.names
        self.steps = math.ceil(len(cache.names) / batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, prepared in threads while earlier steps run.

        Args:
            number: Number of the epoch, from 0.
            first_step: First step to yield, from 0; above 0 in an interrupted epoch.

        Raises:
            LoaderError: Preparing a batch failed; names the file.
            WedgedError: A batch takes longer than ``patience_s``; names the file.
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
            LoaderError: Preparing the batch failed; names the file.
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
        # New arrays each time, because TensorFlow on a CPU may read them for as long as the step runs.
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
        """Return (batch_size,) indices of the pictures at position ``first`` and after it in the endless sequence."""
        count = len(self._cache.names)
        pass_number, start = divmod(first, count)
        orders = [self._order(pass_number + i) for i in range(math.ceil((start + self._batch_size) / count))]
        return np.concatenate(orders)[start : start + self._batch_size]

    def _order(self, pass_number: int) -> NDArray[np.int64]:
        """Return the (N,) indices of one shuffled pass over the pictures."""
        return shuffled_pass(self._factors, np.random.default_rng([self._seed, _ORDER, pass_number]))

    def _describe(self, number: int, step: int) -> str:
        index = self._at.get((number, step))
        file = "" if index is None else f", at {self._cache.names[index]}"
        return f"training: epoch {number + 1}, step {step + 1}: preparing the batch{file}"
