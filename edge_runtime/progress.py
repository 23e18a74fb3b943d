"""The one shape in which long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""``(what, done, total)``: called at the start of a stage with 0 parts done, and after each part, from any thread.

``what`` names the stage in a few words ("reading images"). An exception that it raises ends the work.
"""


def silent(what: str, done: int, total: int) -> None:
    """Report to nobody: the default wherever an ``OnProgress`` is taken."""
