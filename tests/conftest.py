"""Shared by all tests: packages of the small model of ``colors.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from colors import color_contract, write_color_package


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
