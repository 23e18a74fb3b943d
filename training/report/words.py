"""Sentences of the report: confused classes, the limit of the training speed, and advice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation
from edge_runtime.dataset.metrics import class_iou
from edge_runtime.storage import printable
from training.monitor.records import EpochRecord

CONFUSIONS = 8
LEAST_CONFUSED = 0.02
"""Smallest share of a class's pixels that is listed as predicted as another class."""
LOW_IOU, FEW_PIXELS = 0.3, 0.01
WAITING = 0.15
"""Share of the time spent waiting for data from which on the data is named as the limit."""
VALIDATING = 0.4
"""Share of the time spent on validation from which on validation is named as the limit."""
RISING = 0.005
"""Gain of mean IoU in the last fifth of the epochs from which on more epochs are advised."""
FALLING = 0.02
"""Drop of mean IoU from the best epoch to the mean of the last fifth that is called overfitting."""
GAP = 0.08
"""Pixel accuracy on the training split minus that on the validation split that is called overfitting."""
FEW_IMAGES = 20
"""Number of validation images below which metrics are called uncertain."""
OUTLIER = 0.6
"""Share of the median image's mean IoU below which an image is named."""
ROUGH_BORDERS = 0.15
"""Mean IoU minus boundary F score from which on borders are called rough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Pixels of one class that are predicted as another: share of the true class, 0–1, and count."""

    truth: str
    prediction: str
    share: float
    pixels: int


def confusions(matrix: NDArray[np.int64], names: Sequence[str]) -> list[Confusion]:
    """Return the pairs of classes that are most confused, by share of the true class, the worst first.

    Args:
        matrix: (C, C) pixel counts, rows truth, columns prediction.
        names: Names of the classes.
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
    """Return a sentence on what limits the training speed, and how to train faster."""
    shares = time_shares(history)
    if shares["waiting"] >= WAITING:
        return (
            f"Loading data limits the speed: training waited for its next batch {percent(shares['waiting'])} of the "
            "time. Use a faster disk, smaller image files or more processor cores. A short run with `--no-augment` "
            "shows how much of the waiting is for augmentation."
        )
    if shares["validating"] >= VALIDATING:
        return (
            f"Validation took {percent(shares['validating'])} of the time, because it segments every validation image "
            "after each epoch. A smaller validation split leaves more time for training."
        )
    return (
        f"The network's arithmetic limits the speed: training steps took {percent(shares['steps'])} of the time, and "
        f"waiting for data {percent(shares['waiting'])}. A smaller `--input-size`, a smaller `--preset` or a GPU makes "
        "training faster; a faster disk does not."
    )


def adjustment_in_words(adjustment: Mapping[str, float] | None) -> str:
    """Return the numbers that were added to the logits of the classes: "'car' -0.5, 'road' +1"; "" if there are none."""
    return ", ".join(f"'{printable(name)}' {number:+g}" for name, number in (adjustment or {}).items() if number)


def advice(
    history: Sequence[EpochRecord],
    evaluation: Evaluation,
    train_shares: Sequence[float],
    image_names: Sequence[str],
    *,
    finished: bool,
    augmented: bool,
) -> list[str]:
    """Return advice on what to do next, the most useful first; empty if nothing stands out.

    Args:
        history: Records of all epochs of the run.
        evaluation: Metrics of the best model on the validation split.
        train_shares: Share of the training pixels of each class, 0–1.
        image_names: Names of the validation images, in the order of the evaluation.
        finished: Whether the run reached its end.
        augmented: Whether the training images were augmented.
    """
    return [
        *_about_length(history, finished=finished, augmented=augmented),
        *_about_classes(evaluation, train_shares),
        *_about_images(evaluation, image_names),
    ]


def _about_length(history: Sequence[EpochRecord], *, finished: bool, augmented: bool) -> list[str]:
    """Return advice on the length of training, from the curves."""
    if not finished:
        return ["The run did not reach its end. Repeat its command with `--resume` to continue it."]
    last = history[-max(1, len(history) // 5) :]
    before = history[: len(history) - len(last)]
    best = max(history, key=lambda r: r.val_mean_iou)
    if not before:
        return ["The run has too few epochs to judge. Train longer, with larger `--epochs` or `--max-minutes`."]
    gain = max(r.val_mean_iou for r in last) - max(r.val_mean_iou for r in before)
    if gain >= RISING:
        return [
            f"Mean IoU was still rising at the end ({gain:+.3f} in the last {_count(len(last), 'epoch')}). Train "
            f"longer, for example with `--epochs {2 * len(history)}` or more `--max-minutes`."
        ]
    drop = best.val_mean_iou - float(np.mean([r.val_mean_iou for r in last]))
    gap = best.accuracy - best.val_pixel_accuracy
    remedy = "More training images, and more varied ones, help most."
    if not augmented:
        remedy += " Augmentation is off: turn it on with `--augment`."
    if drop >= FALLING:
        return [
            f"Overfitting: mean IoU was best in epoch {best.epoch}, whose model is saved, and then fell by {drop:.3f}. "
            f"Later epochs only memorised the training images. {remedy}"
        ]
    if gap >= GAP:
        return [
            f"Overfitting: {percent(best.accuracy)} of the training pixels are right and only "
            f"{percent(best.val_pixel_accuracy)} of the validation pixels. {remedy}"
        ]
    return []


def _about_classes(evaluation: Evaluation, train_shares: Sequence[float]) -> list[str]:
    """Return advice on the classes that are badly found, by the likely cause."""
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
        found.append(
            f"No training pixel of {listed(unseen)}: the model cannot learn a class that it never sees. Add training "
            "images that show it."
        )
    if absent:
        found.append(
            f"No validation pixel of {listed(absent)}: how well it is found is unknown. Add validation images that "
            "show it."
        )
    if rare:
        found.append(
            f"Few pixels, low IoU: {listed(rare)}. Add images that show more of them. A larger `--input-size` keeps "
            "small objects visible."
        )
    if common:
        found.append(
            f"Low IoU though not rare: {listed(common)}. See in the confusion matrix what they are predicted as, and "
            "check that their masks are drawn the same way in all images. Thin objects need a larger `--input-size`."
        )
    return found


def _about_images(evaluation: Evaluation, names: Sequence[str]) -> list[str]:
    """Return advice on images far below the others, too few images, and rough borders."""
    found = []
    scored = sorted((iou, name) for iou, name in zip(evaluation.image_ious, names, strict=True) if iou is not None)
    median = scored[len(scored) // 2][0]
    outliers = [f"{name} ({iou:.2f})" for iou, name in scored if iou < OUTLIER * median]
    if outliers:
        found.append(
            f"Mean IoU far below that of the median validation image ({median:.2f}): {listed(outliers)}. Check their "
            "masks first: often the mask is wrong, not the model."
        )
    if evaluation.images < FEW_IMAGES:
        found.append(
            f"Only {_count(evaluation.images, 'validation image')}: other images could give very different metrics. "
            f"Validate on at least {FEW_IMAGES}."
        )
    if evaluation.mean_iou - evaluation.boundary_f >= ROUGH_BORDERS:
        found.append(
            f"Areas are found better than borders (mean IoU {evaluation.mean_iou:.2f}, boundary F "
            f"{evaluation.boundary_f:.2f}). A larger `--input-size` gives finer borders."
        )
    return found


def percent(share: float) -> str:
    """Return a share, 0–1, as a percentage with two or three significant digits."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<\u00a00.1\u00a0%"
    digits = f"{value:.1f}" if value < 9.95 or 99 <= value < 100 else f"{value:.0f}"
    return f"{digits.removesuffix('.0')}\u00a0%"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes, or hours and minutes."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as an enumeration; names beyond the first ``most`` are counted."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def with_code(text: str) -> Markup:
    """Escape a sentence and mark the parts in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
