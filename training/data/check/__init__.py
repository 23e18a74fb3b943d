"""Check a dataset: find every problem in one pass, before TensorFlow is loaded."""

from __future__ import annotations

from training.data.check.findings import DatasetReport
from training.data.check.linter import check_dataset
from training.data.check.terminal import progress_bar, render, warnings_in_short

__all__ = ["DatasetReport", "check_dataset", "progress_bar", "render", "warnings_in_short"]
