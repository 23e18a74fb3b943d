"""Networks that a preset might be: named plans, around what was found to pay."""

from __future__ import annotations

from dataclasses import replace

from training.config import PRESETS, UNetPlan

_EDGE = PRESETS["edge"].plan


def _narrow(*widths: int, stem: int = 2, **changes: object) -> UNetPlan:
    return replace(_EDGE, widths=widths, stem_stride=stem, **changes)  # type: ignore[arg-type]


CANDIDATES: dict[str, UNetPlan] = {
    # As it is, and one thing at a time.
    "edge": _EDGE,
    "edge bilinear": replace(_EDGE, upsampling="bilinear"),
    "edge context": replace(_EDGE, context=True),
    "edge reparameterised": replace(_EDGE, block="reparameterised"),
    "edge separable": replace(_EDGE, block="separable"),
    "edge inverted": replace(_EDGE, block="inverted", convolutions=1),
    "edge 1 per level": replace(_EDGE, convolutions=1),
    "edge 1 at the top": replace(_EDGE, convolutions=(1, 1, 2, 2, 2)),
    "edge stem 4": _narrow(32, 64, 128, 256, stem=4),
    # Narrower: for edge-nano.
    "nano 8-128": _narrow(8, 16, 32, 64, 128, block="reparameterised", convolutions=1, context=True),
    "nano 8-96 x2": _narrow(8, 16, 32, 64, 96, block="reparameterised", convolutions=(1, 1, 2, 2, 2), context=True),
    "nano stem 4 16-128": _narrow(16, 32, 64, 128, stem=4, block="reparameterised", context=True),
    "nano stem 4 24-96 x1": _narrow(24, 48, 96, stem=4, block="reparameterised", convolutions=(1, 2, 2), context=True),
    "nano separable 16-128": _narrow(16, 32, 64, 128, 128, block="separable", convolutions=1, context=True),
    "nano inverted 16-64": _narrow(8, 16, 24, 32, 64, block="inverted", convolutions=1, context=True),
    # About as wide: for edge.
    "rep 16-256 1 at the top": _narrow(
        16, 32, 64, 128, 256, block="reparameterised", convolutions=(1, 1, 2, 2, 2), context=True
    ),
    "rep stem 4 32-256": _narrow(32, 64, 128, 256, stem=4, block="reparameterised", context=True),
    "rep stem 4 48-192": _narrow(48, 96, 192, stem=4, block="reparameterised", convolutions=(2, 2, 3), context=True),
    "separable 24-256": _narrow(24, 48, 96, 192, 256, block="separable", context=True),
    # Wider: for edge-large.
    "rep 24-320": _narrow(24, 48, 96, 192, 320, block="reparameterised", context=True),
    "rep 32-384 1 at the top": _narrow(
        32, 64, 128, 256, 384, block="reparameterised", convolutions=(1, 1, 2, 2, 2), context=True
    ),
    "rep stem 4 64-384": _narrow(64, 128, 256, 384, stem=4, block="reparameterised", context=True),
}
