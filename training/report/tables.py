"""Make the rows of the report's tables: the classes, and the confusion matrix as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.dataset.evaluate import Evaluation
from edge_runtime.dataset.metrics import class_dice, class_iou, class_precision, class_recall
from edge_runtime.model.contract import ClassInfo
from training.monitor.records import EpochRecord
from training.report.charts import sparkline
from training.report.words import percent

SHOWN_CLASSES = 30
"""Maximum number of rows of the confusion matrix, so that it stays readable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """Metrics of a class on the validation split, 0–1 or None if not defined, and its share of the pixels.

    Attributes:
        name: Name of the class.
        color: CSS colour of its swatch.
        iou: Intersection over union.
        dice: Dice coefficient.
        precision: Share of the pixels predicted as this class that belong to it.
        recall: Share of the pixels of this class that are predicted as it.
        train_share: Share of the training pixels.
        val_share: Share of the validation pixels.
        curve: SVG path of the IoU over the epochs, empty if it was not recorded.
    """

    name: str
    color: str
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    train_share: float
    val_share: float
    curve: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Cell of the confusion matrix.

    Attributes:
        text: Percentage in the cell, "·" below half a per cent, empty for no pixels.
        title: Tooltip.
        strength: Opacity of the colour, 0–1.
        right: Whether the cell is on the diagonal.
    """

    text: str
    title: str
    strength: float
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """Row of the confusion matrix: a true class and its predictions; no cells if the class does not occur."""

    name: str
    color: str
    cells: tuple[Cell, ...]


def class_rows(
    evaluation: Evaluation,
    classes: Sequence[ClassInfo],
    train_shares: Sequence[float],
    history: Sequence[EpochRecord],
) -> list[ClassRow]:
    """Return one row per class, in order of the ids."""
    matrix = evaluation.matrix
    ious, dices = class_iou(matrix), class_dice(matrix)
    precisions, recalls = class_precision(matrix), class_recall(matrix)
    recorded = [record.val_class_iou for record in history if len(record.val_class_iou) == len(classes)]
    return [
        ClassRow(
            name=c.name,
            color=css(c),
            iou=_defined(ious[c.id]),
            dice=_defined(dices[c.id]),
            precision=_defined(precisions[c.id]),
            recall=_defined(recalls[c.id]),
            train_share=train_shares[c.id],
            val_share=float(matrix[c.id].sum() / matrix.sum()),
            curve=sparkline([row[c.id] for row in recorded]) if len(recorded) > 1 else "",
        )
        for c in classes
    ]


def matrix_rows(evaluation: Evaluation, classes: Sequence[ClassInfo]) -> list[MatrixRow]:
    """Return the confusion matrix with rows as shares of the true class, of the classes with the most pixels."""
    totals = evaluation.matrix.sum(1)
    common = np.argsort(-totals, kind="stable")[:SHOWN_CLASSES]
    shown = [classes[i] for i in sorted(common.tolist())]
    return [
        MatrixRow(
            name=row.name,
            color=css(row),
            cells=tuple(
                _cell(row, column, int(evaluation.matrix[row.id, column.id]), int(totals[row.id])) for column in shown
            )
            if totals[row.id]
            else (),
        )
        for row in shown
    ]


def css(info: ClassInfo) -> str:
    """Return the colour of a class as CSS."""
    return "#{:02x}{:02x}{:02x}".format(*info.color)


def line_css(info: ClassInfo) -> str:
    """Return a CSS colour for the line of a class that is visible on white and on black."""
    luma = (0.299 * info.color[0] + 0.587 * info.color[1] + 0.114 * info.color[2]) / 255
    return css(info) if 0.12 <= luma <= 0.88 else "var(--soft)"


def _cell(row: ClassInfo, column: ClassInfo, pixels: int, total: int) -> Cell:
    share = pixels / total
    right = row.id == column.id
    said = "found" if right else f"predicted as {column.name}"
    return Cell(
        text=f"{100 * share:.0f}" if share >= 0.005 else "·" if pixels else "",
        title=f"{percent(share)} of {row.name} is {said} ({pixels:,} of {total:,} pixels)",
        # Errors are a few per cent: the root makes them visible beside a diagonal near 100.
        strength=round(0.95 * (share if right else math.sqrt(share)), 3),
        right=right,
    )


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
