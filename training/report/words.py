"""The report's sentences: what was confused, what took the time, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation
from edge_runtime.dataset.metrics import class_iou
from training.monitor.records import EpochRecord

CONFUSIONS = 8
LEAST_CONFUSED = 0.02
"""Smallest share of a class that is listed as taken for another class."""
LOW_IOU, FEW_PIXELS = 0.3, 0.01
WAITING = 0.15
"""From this share of its time on that training waits for data, the data is named as the limit."""
VALIDATING = 0.4
RISING = 0.005
"""A gain of mean IoU over the last fifth of the epochs from which on more epochs are advised."""
FALLING = 0.02
"""A loss of mean IoU between the best epoch and the mean of the last fifth that tells of overfitting."""
GAP = 0.08
"""Pixel accuracy on the training split above that on the validation split that tells of overfitting."""
FEW_IMAGES = 20
OUTLIER = 0.6
"""An image whose mean IoU is below this share of the median image's is named."""
ROUGH_BORDERS = 0.15
"""Mean IoU above the boundary F score: the areas are right and their borders are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Pixels of one class that the model takes for another: share of the true class, 0–1, and count."""

    truth: str
    prediction: str
    share: float
    pixels: int


def confusions(matrix: NDArray[np.int64], names: Sequence[str]) -> list[Confusion]:
    """Return the pairs of classes that are most confused, by share of the true class, the worst first.

    Args:
        matrix: (C, C) pixel counts, rows truth, columns prediction.
        names: Of the classes.
    """
    totals = matrix.sum(1)
    found = [
        Confusion(truth=names[i], prediction=names[j], share=float(matrix[i, j] / totals[i]), pixels=int(matrix[i, j]))
        for i, j in zip(*np.nonzero(matrix), strict=True)
        if i != j and matrix[i, j] >= LEAST_CONFUSED * totals[i]
    ]
    return sorted(found, key=lambda c: (-c.share, -c.pixels))[:CONFUSIONS]


def time_shares(history: Sequence[EpochRecord]) -> dict[str, float]:
    """Return the shares of the time of all epochs, 0–1: "steps", "waiting", "validating" and "other"."""
    total = max(sum(r.seconds for r in history), 1e-9)
    shares = {
        "steps": sum(r.step_s for r in history) / total,
        "waiting": sum(r.wait_s for r in history) / total,
        "validating": sum(r.validate_s for r in history) / total,
    }
    return {**shares, "other": max(0.0, 1 - sum(shares.values()))}


def limit(history: Sequence[EpochRecord]) -> str:
    """Say what the time was spent on and what would shorten it."""
    shares = time_shares(history)
    if shares["waiting"] >= WAITING:
        return (
            f"The data was the limit: for {percent(shares['waiting'])} of the time training waited for its next batch. "
            "A faster disk, smaller image files or more processor cores make it faster; `--no-augment` tells how much "
            "of it is augmentation."
        )
    if shares["validating"] >= VALIDATING:
        return (
            f"Validation took {percent(shares['validating'])} of the time: it looks at every validation image after each "
            "epoch. A smaller validation split leaves more of the time for training."
        )
    return (
        f"The step was the limit: {percent(shares['steps'])} of the time went into the network's own arithmetic and "
        f"{percent(shares['waiting'])} into waiting for data. A smaller `--input-size`, a smaller `--preset` or a GPU "
        "make it faster; a faster disk does not."
    )


def advice(
    history: Sequence[EpochRecord],
    evaluation: Evaluation,
    train_shares: Sequence[float],
    image_names: Sequence[str],
    *,
    finished: bool,
    augmented: bool,
) -> list[str]:
    """Return what these results suggest to do next, the most useful first; empty if nothing stands out.

    Args:
        history: The epochs of the run.
        evaluation: Of the best checkpoint on the validation split.
        train_shares: Share of the training pixels of each class, 0–1.
        image_names: Of the validation images, in the order of the evaluation.
        finished: The run reached its end.
        augmented: It was trained with augmentation.
    """
    return [
        *_about_length(history, finished=finished, augmented=augmented),
        *_about_classes(evaluation, train_shares),
        *_about_images(evaluation, image_names),
    ]


def _about_length(history: Sequence[EpochRecord], *, finished: bool, augmented: bool) -> list[str]:
    """Tell from the curves whether training was too short or too long."""
    if not finished:
        return ["The run did not reach its end: the same command with `--resume` goes on where it stopped."]
    last = history[-max(1, len(history) // 5) :]
    before = history[: len(history) - len(last)]
    best = max(history, key=lambda r: r.val_mean_iou)
    if not before:
        return ["These are few epochs: train longer with `--epochs` or `--max-minutes`."]
    gain = max(r.val_mean_iou for r in last) - max(r.val_mean_iou for r in before)
    if gain >= RISING:
        return [
            f"Mean IoU was still rising at the end ({gain:+.3f} in the last {_count(len(last), 'epoch')}): train longer, "
            f"with `--epochs {2 * len(history)}` or more `--max-minutes`."
        ]
    drop = best.val_mean_iou - float(np.mean([r.val_mean_iou for r in last]))
    gap = best.accuracy - best.val_pixel_accuracy
    remedy = "more and more varied images help most"
    if not augmented:
        remedy += "; `--augment` is off"
    if drop >= FALLING:
        return [
            f"Overfitting: mean IoU was best in epoch {best.epoch} and lost {drop:.3f} by the end, so that later epochs only "
            f"learnt the training images by heart; {remedy}."
        ]
    if gap >= GAP:
        return [
            f"Overfitting: {percent(best.accuracy)} of the training pixels are right and only "
            f"{percent(best.val_pixel_accuracy)} of the validation pixels; {remedy}."
        ]
    return []


def _about_classes(evaluation: Evaluation, train_shares: Sequence[float]) -> list[str]:
    """Name the classes that are badly found, and why that may be."""
    rare: list[str] = []
    common: list[str] = []
    absent: list[str] = []
    unseen: list[str] = []
    matrix = evaluation.matrix
    for name, iou, true_pixels, share in zip(
        evaluation.class_names, class_iou(matrix), matrix.sum(1), train_shares, strict=True
    ):
        if not share:
            unseen.append(name)
        elif not true_pixels:
            absent.append(name)
        elif iou < LOW_IOU:
            (rare if share < FEW_PIXELS else common).append(f"{name} (IoU {iou:.2f}, {percent(share)} of the pixels)")
    found = []
    if unseen:
        found.append(f"No training pixel of {listed(unseen)}: the model cannot know it. Add images that show it.")
    if absent:
        found.append(f"No validation pixel of {listed(absent)}: whether it is found is not known. Add such images.")
    if rare:
        found.append(
            f"Few pixels, low IoU: {listed(rare)}. More images that show them help most, and a larger `--input-size` keeps "
            "small things visible."
        )
    if common:
        found.append(
            f"Low IoU though not rare: {listed(common)}. See below what they are taken for, and look whether their masks are "
            "drawn the same way everywhere; thin things want a larger `--input-size`."
        )
    return found


def _about_images(evaluation: Evaluation, names: Sequence[str]) -> list[str]:
    """Name the images that stand out, and say where the figures themselves are weak."""
    found = []
    scored = sorted((iou, name) for iou, name in zip(evaluation.image_ious, names, strict=True) if iou is not None)
    median = scored[len(scored) // 2][0]
    outliers = [f"{name} ({iou:.2f})" for iou, name in scored if iou < OUTLIER * median]
    if outliers:
        found.append(
            f"Far below the other validation images, whose median is {median:.2f}: {listed(outliers)}. Look at the masks "
            "first: often it is they that are wrong."
        )
    if evaluation.images < FEW_IMAGES:
        found.append(
            f"Only {_count(evaluation.images, 'validation image')}: another split could give quite another figure. "
            f"Hold out at least {FEW_IMAGES}."
        )
    if evaluation.mean_iou - evaluation.boundary_f >= ROUGH_BORDERS:
        found.append(
            f"Areas are found better than borders (mean IoU {evaluation.mean_iou:.2f}, boundary F "
            f"{evaluation.boundary_f:.2f}): a larger `--input-size` draws finer borders."
        )
    return found


def percent(share: float) -> str:
    """Return a share, 0–1, as a percentage with as many digits as are of interest."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<\u00a00.1\u00a0%"
    digits = f"{value:.1f}" if value < 9.95 or 99 <= value < 100 else f"{value:.0f}"
    return f"{digits.removesuffix('.0')}\u00a0%"


def duration(seconds: float) -> str:
    """Return a time in the two units that matter."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as an enumeration; those beyond so many are counted."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def with_code(text: str) -> Markup:
    """Escape a sentence and set what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
