"""Progress callback of all long-running functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""``(what, done, total)``: called with 0 parts done when a stage starts, and after each part, from any thread.

``what`` names the stage in a few words ("reading images"). An exception that it raises ends the work and is passed on.
"""


def silent(what: str, done: int, total: int) -> None:
    """Ignore all progress: the default of every ``OnProgress`` argument."""
