"""Interpolate between the weights that a run started from and those that it ended with.

Public weights have seen far more pictures than most datasets hold. Between them and the trained weights there often is
a network that knows what is in the dataset and has not forgotten the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.progress import OnProgress
from training.fit.adjust import answers_of
from training.input.cache import PixelCache
from training.loop.run_folder import RunFolder
from training.loop.trainer import archive_of

SHARES = tuple(tenths / 10 for tenths in range(1, 11))
"""Shares of the way from the start to the end at which the network is tried."""
NOISE = 0.0005
"""Difference of mean IoU that says nothing: less is not gained over the best epoch, and shares within it are alike."""


def interpolate_weights(
    run: RunFolder,
    trained: keras.Model,
    validation: PixelCache,
    note: Callable[[str], None],
    on_progress: OnProgress,
) -> None:
    """Save the network between ``start.keras`` and the trained weights that is best on the validation images.

    Nothing is saved if no such network is better than the best epoch's.

    Args:
        run: The open run folder, trained to its end.
        trained: Network to save, with the weights of the end; afterwards it has others.
        validation: Validation split at the model's size.
        note: Called with a line that says what was saved.
        on_progress: Called with how much of the search is done.

    Reference:
        Wortsman et al.: Robust fine-tuning of zero-shot models, CVPR 2022. https://arxiv.org/abs/2109.01903
    """
    best, epoch = run.best_on_disk(), len(run.record.history)
    if best is None or not run.start.is_file() or best.logit_adjustment:
        return
    if best.trained_share is not None and best.epoch == epoch:
        return  # a resumed run that had got here before
    start = keras.saving.load_model(run.start, compile=False).get_weights()
    end = trained.get_weights()
    unadjusted = np.zeros(max(2, trained.output_shape[-1]))
    reached = answers_of(keras.saving.load_model(run.best, compile=False), validation).mean_iou(unadjusted)
    found: dict[float, float] = {}
    for number, share in enumerate(SHARES):
        on_progress("mixing weights", number, len(SHARES))
        trained.set_weights(between(start, end, share))
        found[share] = answers_of(trained, validation).mean_iou(unadjusted)
    if max(found.values()) - reached < NOISE:
        return
    share = chosen_share(found)
    trained.set_weights(between(start, end, share))
    run.write_best(archive_of(trained, run.root), epoch=epoch, val_mean_iou=found[share], trained_share=share)
    note(
        f"weights mixed: {share:.0%} trained, the rest from the start; mean IoU on the validation images "
        f"{found[share]:.4f}, trained alone {found[1.0]:.4f}, best epoch {reached:.4f}"
    )


def chosen_share(found: Mapping[float, float]) -> float:
    """Return the best share by its mean IoU; of those alike the most trained, which has seen what validation images lack.

    Args:
        found: Mean IoU on the validation images by share.
    """
    most = max(found.values())
    return max(share for share, mean_iou in found.items() if mean_iou > most - NOISE)


def between(
    start: Sequence[NDArray[np.float32]], end: Sequence[NDArray[np.float32]], share: float
) -> list[NDArray[np.float32]]:
    """Return the weights at a share, 0–1, of the way from the start to the end."""
    return [a + np.float32(share) * (b - a) for a, b in zip(start, end, strict=True)]
