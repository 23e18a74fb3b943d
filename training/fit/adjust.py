"""Adjust the logits of the best model to the shares of the classes, which training shows more evenly than they are.

Class weights, Dice, repeated images and crops around rare classes teach a network to find rare classes more often than
they occur. What of this helps is a question to the validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.metrics import mean_iou
from edge_runtime.dataset.sampling import spread
from training.input.cache import PixelCache
from training.loop.run_folder import RunFolder
from training.loop.trainer import archive_of
from training.network.answer import shift_answer
from training.report.words import adjustment_in_words

STEPS = tuple(s for s in np.arange(-3, 3.25, 0.5).tolist() if s)
"""Numbers that are tried for a class's logit; 3 is a factor of 20 in its odds."""
ROUNDS = 2
"""Number of times that each class is tried, because the best number of one depends on those of the others."""
IMAGES, VALUES = 400, 8_000_000
"""Largest numbers of validation images and of logits that are looked at."""
LEAST_GAIN = 0.002
"""Mean IoU that must be gained on images that the adjustment was not chosen on; less is chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model answers to pixels, and what is right.

    Attributes:
        logits: (P, C) float32; a binary model has 0 for the background.
        truth: (P,) uint8 class ids.
        image: (P,) int64 index of the image of each pixel.
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.uint8]
    image: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Answers:
        """Return some of the pixels."""
        return Answers(logits=self.logits[chosen], truth=self.truth[chosen], image=self.image[chosen])

    def mean_iou(self, adjustment: NDArray[np.float64]) -> float:
        """Return the mean IoU if the adjustment, (C,), is added to the logits."""
        return _mean_iou(self.truth, (self.logits + adjustment.astype(np.float32)).argmax(-1), len(adjustment))


def adjust_logits(
    run: RunFolder, validation: PixelCache, class_names: Sequence[str], note: Callable[[str], None]
) -> None:
    """Add to the logits of the best model what gains mean IoU on the validation images, and save it, if anything does.

    Half of the images choose the adjustment for the other half: only if these gain is it made, chosen on all.

    Args:
        run: The open run folder, trained to its end.
        validation: Validation split at the model's size.
        class_names: Names of the classes in order of their ids.
        note: Called with a line that says what was adjusted, and what it gains.
    """
    best = run.best_on_disk()
    if best is None or best.logit_adjustment:  # a resumed run whose best model is still the same
        return
    model = keras.saving.load_model(run.best, compile=False)
    adjustment, gain = choose_adjustment(answers_of(model, validation))
    if not adjustment.any():
        return
    shift_answer(model, adjustment)
    by_name = dict(zip(class_names, adjustment.tolist(), strict=True))
    run.adjust_best(best, archive_of(model, run.root), by_name)
    note(
        f"logits adjusted: {adjustment_in_words(by_name)}; mean IoU {gain:+.4f} on halves of the validation images that "
        "did not choose it"
    )


def answers_of(model: keras.Model, validation: PixelCache) -> Answers:
    """Return what a model answers to random pixels of the validation images."""
    chosen = spread(range(len(validation.names)), IMAGES)
    classes = max(2, model.output_shape[-1])
    limit = VALUES // (classes * len(chosen))
    rng = np.random.default_rng(0)
    logits, truths, images = [], [], []
    for i in chosen:
        ids = np.asarray(validation.masks[i]).ravel()
        counted = np.flatnonzero(ids != IGNORE)
        places = counted if len(counted) <= limit else rng.choice(counted, limit, replace=False)
        image = validation.images[i : i + 1].astype(np.float32)
        shares = np.asarray(model.predict_on_batch(image)).reshape(len(ids), -1)[places].astype(np.float64)
        if classes == 2:
            shares = np.hstack([1 - shares, shares])
        logits.append(np.log(np.maximum(shares, 1e-12)).astype(np.float32))
        truths.append(ids[places])
        images.append(np.full(len(places), i))
    return Answers(logits=np.concatenate(logits), truth=np.concatenate(truths), image=np.concatenate(images))


def choose_adjustment(answers: Answers) -> tuple[NDArray[np.float64], float]:
    """Return (C,) numbers to add to the logits, 0 each if nothing is gained, and the mean IoU gained on held-out halves.

    Reference:
        Menon et al.: Long-tail learning via logit adjustment, ICLR 2021. https://arxiv.org/abs/2007.07314
    """
    none = np.zeros(answers.logits.shape[1])
    images = np.unique(answers.image)
    in_first = np.isin(answers.image, images[::2])
    halves = answers.of(in_first), answers.of(~in_first)
    if not all(len(half.truth) for half in halves):
        return none, 0.0
    gains = [other.mean_iou(_best_adjustment(half)) - other.mean_iou(none) for half, other in (halves, halves[::-1])]
    gain = float(np.mean(gains))
    return (_best_adjustment(answers), gain) if gain >= LEAST_GAIN else (none, gain)


def _best_adjustment(answers: Answers) -> NDArray[np.float64]:
    """Return the adjustment of the highest mean IoU that changing one class after the other finds."""
    classes = answers.logits.shape[1]
    # Of two classes only the difference counts.
    adjusted = range(classes) if classes > 2 else range(1, 2)
    best = np.zeros(classes)
    best_iou = answers.mean_iou(best)
    for _ in range(ROUNDS):
        before = best.copy()
        for class_id in adjusted:
            logits = answers.logits + best.astype(np.float32)
            own = answers.logits[:, class_id].copy()
            logits[:, class_id] = -np.inf
            other, margin = logits.argmax(-1), own - logits.max(-1)
            for number in (0.0, *STEPS):
                iou = _mean_iou(answers.truth, np.where(margin + number > 0, class_id, other), classes)
                if iou > best_iou + 1e-4:
                    best[class_id], best_iou = number, iou
        if (best == before).all():
            break
    return best


def _mean_iou(truth: NDArray[np.uint8], found: NDArray[np.int64], classes: int) -> float:
    return mean_iou(np.bincount(truth * np.int64(classes) + found, minlength=classes**2).reshape(classes, classes))
