"""Compute segmentation metrics from one confusion matrix over a dataset, and a boundary score.

All functions are pure. Pixels whose truth is ``IGNORE`` (255) are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import InputError


def confusion_matrix(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: Class ids or ``IGNORE``, uint8, of any shape.
        prediction: Class ids, uint8, of the same shape; below ``classes`` where the truth is not ``IGNORE``.
        classes: Number of classes, at most 255.

    Returns:
        (classes, classes) int64; rows are the truth, columns the prediction.

    Raises:
        InputError: An id of the truth is neither a class nor ``IGNORE``, or an id of the prediction is not a class.
    """
    # Counting all pairs of bytes in 16 bits takes a third of the time of selecting the counted pixels in 64 bits first.
    pairs = truth.astype(np.uint16).reshape(-1) * np.uint16(256) + prediction.reshape(-1)
    table = np.bincount(pairs, minlength=65536).reshape(256, 256)[:IGNORE]
    matrix = table[:classes, :classes].copy()
    if matrix.sum() != table.sum():
        true_ids, found_ids = np.nonzero(table)
        raise InputError(
            f"confusion matrix — true ids up to {true_ids.max()}, predicted ids up to {found_ids.max()} — expected 0 to "
            f"{classes - 1} — compare masks and predictions of the same {classes} classes"
        )
    return matrix


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection over union of each class, (C,) in 0–1; NaN for a class in neither truth nor prediction.

    IoU = TP / (TP + FP + FN).
    """
    return _share_of(np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix))


def class_dice(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Dice coefficient of each class, (C,) in 0–1; NaN for a class in neither truth nor prediction.

    Dice = 2 TP / (2 TP + FP + FN).
    """
    return _share_of(2 * np.diag(matrix), matrix.sum(0) + matrix.sum(1))


def class_precision(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the precision of each class, (C,) in 0–1; NaN for a class that is never predicted.

    Precision = TP / (TP + FP): low if a model predicts too much of a class.
    """
    return _share_of(np.diag(matrix), matrix.sum(0))


def class_recall(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the recall of each class, (C,) in 0–1; NaN for a class not in the truth.

    Recall = TP / (TP + FN): low if a model misses a class.
    """
    return _share_of(np.diag(matrix), matrix.sum(1))


def mean_of_present(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN, which are those of the classes that occur; 0.0 if all are NaN."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Return the mean IoU over the classes that occur, from the confusion matrix of a whole dataset, 0–1."""
    return mean_of_present(class_iou(matrix))


def pixel_accuracy(matrix: NDArray[np.int64]) -> float:
    """Return the share of counted pixels with the correct class, 0–1; 0.0 if no pixel is counted."""
    return float(np.trace(matrix) / matrix.sum()) if matrix.sum() else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryCounts:
    """Numbers of boundary pixels, matched and in total, from ``boundary_counts``; can be added up over a dataset."""

    matched_prediction: int = 0
    prediction: int = 0
    matched_truth: int = 0
    truth: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            matched_prediction=self.matched_prediction + other.matched_prediction,
            prediction=self.prediction + other.prediction,
            matched_truth=self.matched_truth + other.matched_truth,
            truth=self.truth + other.truth,
        )

    @property
    def f_score(self) -> float:
        """Boundary F score: harmonic mean of boundary precision and recall, 0–1; 1.0 if neither side has a boundary."""
        if not self.prediction and not self.truth:
            return 1.0
        precision = self.matched_prediction / self.prediction if self.prediction else 0.0
        recall = self.matched_truth / self.truth if self.truth else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_counts(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> BoundaryCounts:
    """Match the class borders of the prediction with those of the truth in one image.

    A border pixel is matched if the other side has a border pixel of the same class within 0.75 % of the image's
    diagonal, rounded to whole pixels and at least 1.

    Args:
        truth: (H, W) uint8 class ids; borders next to ``IGNORE`` are not counted.
        prediction: (H, W) uint8 class ids.
        classes: Number of classes.

    Reference:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013.
    """
    radius_px = max(1, round(0.0075 * float(np.hypot(*truth.shape))))
    offsets = np.arange(-radius_px, radius_px + 1)
    # OpenCV's own ellipse rounds its rows, so that it reaches up to half a pixel too far.
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius_px**2).astype(np.uint8)
    ignored = (truth == IGNORE).astype(np.uint8)
    # A full square, because the smallest disc is a cross and diagonal neighbours of an ignored pixel are borders, too.
    usable = cv2.dilate(ignored, np.ones_like(disc)) == 0
    total = BoundaryCounts()
    for class_id in range(classes):
        true_border = _border(truth == class_id) & usable
        found_border = _border(prediction == class_id) & usable
        if not (true_border.any() or found_border.any()):
            continue
        near_truth = cv2.dilate(true_border.astype(np.uint8), disc) > 0
        near_found = cv2.dilate(found_border.astype(np.uint8), disc) > 0
        total += BoundaryCounts(
            matched_prediction=int((found_border & near_truth).sum()),
            prediction=int(found_border.sum()),
            matched_truth=int((true_border & near_found).sum()),
            truth=int(true_border.sum()),
        )
    return total


def _share_of(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _border(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the region's pixels next to its outside; the edge of the image is not a border."""
    inside = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return region & (inside == 0)
