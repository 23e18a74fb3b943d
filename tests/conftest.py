"""Shared by all tests: packages of the small model of ``colors.py``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from colors import color_contract, write_color_package

# As in `edge-unet train`, so that a training in this process computes what one in a process of its own does.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@pytest.fixture
def color_package(tmp_path: Path) -> Path:
    """A package of three classes: background, red, blue."""
    return write_color_package(tmp_path / "colors", color_contract())


@pytest.fixture
def make_color_package(tmp_path: Path) -> Callable[..., Path]:
    """Make such packages with another size or a binary head: ``make_color_package(binary=True)``."""

    def make(name: str = "package", **contract: object) -> Path:
        return write_color_package(tmp_path / name, color_contract(**contract))  # type: ignore[arg-type]

    return make
