"""Measure the best model of a run on whole validation images, and write pictures and report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, evaluate
from edge_runtime.dataset.pairs import Pair
from edge_runtime.model.contract import Contract
from edge_runtime.progress import OnProgress
from edge_runtime.resources import usable_cores
from training.data.check import DatasetReport
from training.data.dataset import Dataset, read_class_ids
from training.loop.keras_segmenter import KerasSegmenter
from training.loop.run_folder import RunFolder
from training.report import ReportFacts, write_report
from training.report.pictures import write_pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """Facts for the report of a run that its folder does not hold.

    Attributes:
        report: The checked dataset.
        dataset: The dataset with the validation split that was used.
        split_by: Origin of the validation split, as a phrase.
        contract: Input and classes of the model.
        command: Command line that started the run.
    """

    report: DatasetReport
    dataset: Dataset
    split_by: str
    contract: Contract
    command: str


def finish(run: RunFolder, context: ReportContext, on_progress: OnProgress) -> Evaluation:
    """Measure the best model, write pictures and report, and mark the run as finished.

    Args:
        run: The open run folder, trained to its end.
        context: Facts for the report that the folder does not hold.
        on_progress: Called with "measuring the best epoch" and the number of images done and in all.

    Returns:
        Metrics of the best model on the validation split at the size of its images.
    """
    report, contract = context.report, context.contract
    segment = KerasSegmenter(keras.saving.load_model(run.best, compile=False), contract)
    pairs = context.dataset.splits["val"]

    def read_truth(pair: Pair) -> NDArray[np.uint8]:
        return read_class_ids(pair, report.key)

    result = evaluate(
        segment,
        pairs,
        key=report.key,
        classes=[c.name for c in contract.classes],
        on_progress=lambda _, done, total: on_progress("measuring the best epoch", done, total),
    )
    write_pictures(run.root / "pictures", pairs, read_truth, segment, contract.classes)
    metrics = {"split": "val", **result.to_dict()}
    facts = ReportFacts(
        record=run.record.finished(metrics),
        evaluation=result,
        pairs=pairs,
        read_truth=read_truth,
        segment=segment,
        problems=report.problems,
        sizes=Counter(report.shapes.values()),
        train_pixels=report.pixels_of(context.dataset.splits["train"]),
        split_by=context.split_by,
        command=context.command,
        cores=usable_cores(),
    )
    write_report(run.root / "report.html", facts)
    run.finish(metrics)
    return result
