"""Segmentation metrics from one confusion matrix over a dataset, and a boundary score.

All functions are pure: update a matrix, compute from it. Pixels whose truth is ``IGNORE`` (255) count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.labels import IGNORE


def confusion_matrix(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: Class ids, any shape, uint8; ``IGNORE`` counts nowhere.
        prediction: Class ids, same shape, uint8, below ``classes``.
        classes: Number of classes.

    Returns:
        (classes, classes) int64; rows are the truth, columns the prediction.
    """
    counted = truth != IGNORE
    pairs = truth[counted].astype(np.int64) * classes + prediction[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union of each class, (C,) in 0–1; NaN for a class in neither truth nor prediction.

    IoU = TP / (TP + FP + FN).
    """
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def class_dice(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Dice coefficient of each class, (C,) in 0–1; NaN where the class occurs nowhere.

    Dice = 2 TP / (2 TP + FP + FN).
    """
    hits = 2.0 * np.diag(matrix)
    total = matrix.sum(0) + matrix.sum(1)
    return np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0)


def mean_of_present(values: NDArray[np.float64]) -> float:
    """Return the mean over the classes that occur, 0.0 if none does."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Return the mean over the occurring classes of the IoU from one confusion matrix of the whole dataset."""
    return mean_of_present(class_iou(matrix))


def pixel_accuracy(matrix: NDArray[np.int64]) -> float:
    """Return the share of counted pixels whose class is right, 0.0 if none counts."""
    return float(np.trace(matrix) / matrix.sum()) if matrix.sum() else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryCounts:
    """Boundary pixels, matched and in all, that ``boundary_counts`` finds; add them up over a dataset."""

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
        """Boundary F: harmonic mean of boundary precision and recall; 1.0 when there is no boundary on either side."""
        if not self.prediction and not self.truth:
            return 1.0
        precision = self.matched_prediction / self.prediction if self.prediction else 0.0
        recall = self.matched_truth / self.truth if self.truth else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_counts(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> BoundaryCounts:
    """Match the class borders of one image within 0.75 % of its diagonal.

    Args:
        truth: (H, W) uint8 class ids; borders next to ``IGNORE`` count nowhere.
        prediction: (H, W) uint8 class ids.
        classes: Number of classes.

    Reference:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013.
    """
    radius_px = max(1, round(0.0075 * float(np.hypot(*truth.shape))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    ignored = (truth == IGNORE).astype(np.uint8)
    # A full square: the smallest ellipse is a cross, and the diagonal neighbours of an ignored pixel are borders too.
    usable = cv2.dilate(ignored, np.ones_like(kernel)) == 0
    total = BoundaryCounts()
    for class_id in range(classes):
        true_border = _border(truth == class_id) & usable
        found_border = _border(prediction == class_id) & usable
        near_truth = cv2.dilate(true_border.astype(np.uint8), kernel) > 0
        near_found = cv2.dilate(found_border.astype(np.uint8), kernel) > 0
        total += BoundaryCounts(
            matched_prediction=int((found_border & near_truth).sum()),
            prediction=int(found_border.sum()),
            matched_truth=int((true_border & near_found).sum()),
            truth=int(true_border.sum()),
        )
    return total


def _border(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the region's pixels that touch its outside; the edge of the picture is no border."""
    inside = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return region & (inside == 0)
