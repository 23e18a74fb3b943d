"""Parse the text of a loss; loads nothing, so that a configuration is checked early."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from edge_runtime.errors import UsageError

LOSS_NAMES = ("boundary", "cross_entropy", "dice", "focal", "lovasz", "tversky")
"""The terms of ``training.losses.terms``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm:
    """Term of a sum of losses.

    Attributes:
        factor: Weight of the term, above 0.
        name: Name of the term, one of ``LOSS_NAMES``.
    """

    factor: float
    name: str


def parse_loss(spec: str) -> tuple[LossTerm, ...]:
    """Parse a sum of losses, such as ``cross_entropy+0.5*lovasz``.

    Args:
        spec: Names from ``LOSS_NAMES`` joined by ``+``, each optionally preceded by ``FACTOR*``; spaces are ignored.

    Returns:
        The terms in the order of the text.

    Raises:
        UsageError: A loss is unknown, or a factor is not a number above 0.
    """
    return tuple(_term(part.strip(), spec) for part in spec.split("+"))


def _term(text: str, spec: str) -> LossTerm:
    before, star, after = text.partition("*")
    name = (after if star else before).strip()
    if name not in LOSS_NAMES:
        close = difflib.get_close_matches(name.lower(), LOSS_NAMES, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else "write for example cross_entropy+0.5*dice"
        raise UsageError(f"loss '{spec}' — no loss '{name}' — expected a sum of {', '.join(LOSS_NAMES)} — {remedy}")
    return LossTerm(factor=_factor(before.strip(), spec) if star else 1.0, name=name)


def _factor(text: str, spec: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise UsageError(
            f"loss '{spec}' — factor '{text}' — expected a number above 0 — write for example cross_entropy+0.5*dice"
        )
    return factor
