"""Shared by the tests of training: small datasets on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import DatasetFolder


@pytest.fixture
def empty_dataset(tmp_path: Path) -> DatasetFolder:
    return DatasetFolder(tmp_path / "data")


@pytest.fixture
def dataset(empty_dataset: DatasetFolder) -> DatasetFolder:
    """Three good pairs of three classes, index masks, no splits, no dataset.yaml."""
    return empty_dataset.fill(3)
