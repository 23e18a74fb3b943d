"""Write ``report.html``: one self-contained page about a training run, which any browser opens offline.

``words`` holds its sentences, ``charts`` and ``tables`` hold the data that the templates draw.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, SegmentFrame
from edge_runtime.dataset.pairs import Pair, Problem
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable, write_bytes
from training.data.check.kinds import by_kind
from training.loop.run_record import RunRecord, RunSetup
from training.monitor.records import EpochRecord
from training.monitor.samples import ReadTruth, read_samples
from training.report.charts import BarChart, LineChart, Series, histogram, line_chart, stacked_bars
from training.report.tables import class_rows, css, line_css, matrix_rows
from training.report.words import (
    adjustment_in_words,
    advice,
    confusions,
    duration,
    limit,
    listed,
    percent,
    time_shares,
    with_code,
)

EACH = 3
"""Number of images shown of the worst, of the middle and of the best ones, each."""
LONGEST_PX = 480
"""Longest side of a picture in pixels: about twice its size on the page, so that it is sharp on any screen."""
_ACCENT, _SECOND, _THIRD, _QUIET = "var(--accent)", "var(--second)", "var(--third)", "var(--quiet)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """Facts that the page shows.

    Attributes:
        record: Content of ``run.json`` of a run that has begun.
        evaluation: Metrics of the best model on the validation split.
        pairs: Pairs of the validation split, in the order of the evaluation.
        read_truth: Function that reads the mask of a pair as (H, W) uint8 class ids, or ``IGNORE``.
        segment: Best model as a function of (H, W, 3) uint8 BGR that returns (H, W) uint8 class ids.
        problems: Problems that the dataset check found.
        sizes: Number of images in the dataset per (height, width) in pixels; empty if it is not known.
        train_pixels: (C,) pixels of each class in the training split.
        split_by: Origin of the validation split, as a phrase: "the dataset's val folder", "held out by seed".
        command: Command line that started the run.
        cores: Number of processor cores that training could use.
    """

    record: RunRecord
    evaluation: Evaluation
    pairs: Sequence[Pair]
    read_truth: ReadTruth
    segment: SegmentFrame
    problems: Sequence[Problem]
    sizes: Mapping[tuple[int, int], int]
    train_pixels: NDArray[np.int64]
    split_by: str
    command: str
    cores: int

    @property
    def setup(self) -> RunSetup:
        """Configuration, data and versions of the run."""
        if self.record.setup is None:
            raise ValueError("there is no report on a run that has not begun")
        return self.record.setup


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """Validation image on the page: pictures as data URIs, each with a caption."""

    name: str
    score: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Entry of a chart's legend: CSS colour and name."""

    color: str
    name: str


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the page atomically.

    Args:
        path: Path of the HTML file.
        facts: Facts that the page shows.

    Raises:
        InputError: A validation image cannot be read any more.
        StorageError: The file cannot be written.
    """
    write_bytes(path, render_report(facts, path.parent).encode())


def render_report(facts: ReportFacts, run_folder: Path) -> str:
    """Return the page as HTML with all pictures inside.

    Args:
        facts: Facts that the page shows.
        run_folder: Run folder, for the export command on the page.

    Raises:
        InputError: A validation image cannot be read any more.
    """
    record, evaluation, setup = facts.record, facts.evaluation, facts.setup
    contract, history = setup.contract, record.history
    train_shares = [float(v) for v in facts.train_pixels / max(1, int(facts.train_pixels.sum()))]
    warnings = [p for p in facts.problems if p.severity == "warning"]
    scores = [score for score in evaluation.image_ious if score is not None]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            facts=facts,
            run_folder=shlex.quote(printable(run_folder)),
            out_folder=shlex.quote(f"models/{contract.name}"),
            record=record,
            setup=setup,
            contract=contract,
            evaluation=evaluation,
            history=history,
            best=max(history, key=lambda r: r.val_mean_iou),
            mixed=record.best[0].trained_share if record.best else None,
            adjusted=adjustment_in_words(record.best[0].logit_adjustment) if record.best else "",
            advice=advice(
                history,
                evaluation,
                train_shares,
                [pair.image.name for pair in facts.pairs],
                finished=record.status == "finished",
                augmented=setup.config.get("augment", True),
            ),
            curves=_curves(history),
            class_curves=_class_curves(history, contract.classes),
            class_keys=[Key(color=css(c), name=c.name) for c in contract.classes],
            classes=class_rows(evaluation, contract.classes, train_shares, history),
            matrix=matrix_rows(evaluation, contract.classes),
            confusions=confusions(evaluation.matrix, evaluation.class_names),
            samples=_samples(facts, contract.classes),
            scores_chart=histogram(scores, color=_ACCENT),
            worst_names=[(facts.pairs[i].image.name, evaluation.image_ious[i]) for i in _ranked(evaluation)[:10]],
            limit=limit(history),
            shares=time_shares(history),
            time_chart=_time_chart(history),
            time_keys=_TIME_KEYS,
            images_per_s=float(np.median([r.images_per_s for r in history])),
            sizes=_sizes(facts.sizes),
            warnings=[kind.in_short(Path(setup.data.root)) for kind in by_kind(warnings)],
            count_of_warnings=len(warnings),
        )
    )


def environment() -> jinja2.Environment:
    """Return the environment of the templates in this folder."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("training.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, duration=duration, code=with_code, zip=zip)
    return made


def _curves(history: Sequence[EpochRecord]) -> list[tuple[str, list[Key], LineChart]]:
    """Return title, legend and chart of each quantity that is recorded per epoch."""
    best = max(history, key=lambda r: r.val_mean_iou).epoch
    mean_iou = Series(name="mean IoU", values=[r.val_mean_iou for r in history], color=_ACCENT)
    loss = Series(name="loss", values=[r.loss for r in history], color=_ACCENT)
    accuracies = [
        Series(name="training", values=[r.accuracy for r in history], color=_SECOND),
        Series(name="validation", values=[r.val_pixel_accuracy for r in history], color=_ACCENT),
    ]
    rate = Series(name="learning rate", values=[r.learning_rate for r in history], color=_ACCENT)
    keys = [Key(color=s.color, name=s.name) for s in accuracies]
    return [
        (f"Validation mean IoU, best in epoch {best}", [], line_chart([mean_iou], best_epoch=best)),
        ("Training loss", [], line_chart([loss])),
        ("Pixel accuracy", keys, line_chart(accuracies)),
        ("Learning rate", [], line_chart([rate])),
    ]


def _class_curves(history: Sequence[EpochRecord], classes: Sequence[ClassInfo]) -> LineChart | None:
    """Return the chart of the IoU of every class over the epochs; None if it was not recorded."""
    if not all(len(r.val_class_iou) == len(classes) for r in history):
        return None
    series = [Series(name=c.name, values=[r.val_class_iou[c.id] for r in history], color=line_css(c)) for c in classes]
    return line_chart(series, width=1060, height=260)


_TIME_KEYS = (
    Key(color=_ACCENT, name="training steps"),
    Key(color=_THIRD, name="waiting for data"),
    Key(color=_SECOND, name="validating"),
    Key(color=_QUIET, name="checkpoints and logs"),
)


def _time_chart(history: Sequence[EpochRecord]) -> BarChart:
    rest = [max(0.0, r.seconds - r.step_s - r.wait_s - r.validate_s) for r in history]
    values = ([r.step_s for r in history], [r.wait_s for r in history], [r.validate_s for r in history], rest)
    parts = [(key.name, key.color, part) for key, part in zip(_TIME_KEYS, values, strict=True)]
    return stacked_bars(parts, unit="s")


def _sizes(sizes: Mapping[tuple[int, int], int]) -> str:
    """Return the sizes of images as width × height, the most frequent first."""
    most = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{width}×{height} ({count:,})" for (height, width), count in most]) if most else ""


def _ranked(evaluation: Evaluation) -> list[int]:
    """Return the indices of the images by mean IoU, worst first, without images whose pixels are all ignored."""
    scored = [(score, i) for i, score in enumerate(evaluation.image_ious) if score is not None]
    return [i for _, i in sorted(scored)]


def _samples(facts: ReportFacts, classes: tuple[ClassInfo, ...]) -> list[tuple[str, list[SampleRow]]]:
    """Return a few of the worst, the middle and the best validation images, none of them twice."""
    ranked = _ranked(facts.evaluation)
    each = min(EACH, max(1, len(ranked) // 3))
    middle = (len(ranked) - each) // 2
    groups, shown = [], set[int]()
    for title, chosen in (
        ("Worst", ranked[:each]),
        ("Middle", ranked[middle : middle + each]),
        ("Best", ranked[-each:]),
    ):
        indices = [i for i in chosen if i not in shown]
        shown.update(indices)
        if indices:
            groups.append((title, [_sample_row(facts, i, classes) for i in indices]))
    return groups


def _sample_row(facts: ReportFacts, index: int, classes: tuple[ClassInfo, ...]) -> SampleRow:
    (sample,) = read_samples([facts.pairs[index]], facts.read_truth, facts.segment, longest_px=LONGEST_PX)
    accuracy, iou = facts.evaluation.image_accuracies[index], facts.evaluation.image_ious[index]
    return SampleRow(
        name=sample.name,
        score=f"mean IoU {iou:.3f}, {percent(accuracy)} of the pixels right",
        figures=(
            (data_uri(sample.image_bgr), "image"),
            (data_uri(sample.painted_truth(classes)), "truth"),
            (data_uri(sample.painted_prediction(classes)), "prediction"),
            (data_uri(sample.errors()), "wrong pixels"),
        ),
    )


def data_uri(image_bgr: NDArray[np.uint8]) -> str:
    """Return (H, W, 3) uint8 BGR as a JPEG data URI."""
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 86])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
