"""Candidates for presets: the presets, each with one change at a time, and further shapes around those that paid."""

from __future__ import annotations

from dataclasses import replace

from tried_unet import TriedUNet

from training.presets import PRESETS

_EDGE, _NANO, _LARGE = (TriedUNet.of(PRESETS[name].shape) for name in ("edge", "edge-nano", "edge-large"))
_NARROW = replace(_EDGE, widths=(16, 32, 64, 128, 256))
_TWO = replace(_NARROW, convolutions=2)
_FINE = {"convolutions": (1, 1, 2, 2, 2)}

CANDIDATES: dict[str, TriedUNet] = {
    "edge": _EDGE,
    "edge, 24-320": replace(_EDGE, widths=(24, 48, 96, 192, 320)),
    "edge, 16-256": _NARROW,
    "edge, 16-256, wider decoder": replace(_NARROW, decoder_widths=(32, 48, 64, 128)),
    "edge, 16-256, inverted": replace(_NARROW, block="inverted"),
    "2 per level": _TWO,
    "2 per level, bilinear head": replace(_TWO, head="bilinear"),
    "2 per level, bilinear decoder": replace(_TWO, upsampling="bilinear"),
    "2 per level, no context": replace(_TWO, context=False),
    "2 per level, reparameterised": replace(_TWO, block="reparameterised"),
    "2 per level, separable 24-256": replace(_TWO, block="separable", widths=(24, 48, 96, 192, 256)),
    "2 per level, 1 at the top": replace(_TWO, **_FINE),
    "2 per level, wider decoder": replace(_TWO, decoder_widths=(32, 48, 64, 128)),
    "2 per level, 8-256 at full size": replace(_TWO, widths=(8, 16, 32, 64, 128, 256), stem_stride=1),
    "2 per level, 32-256 from stride 4": replace(_TWO, widths=(32, 64, 128, 256), stem_stride=4),
    "nano": _NANO,
    "nano, bilinear head": replace(_NANO, head="bilinear"),
    "nano, plain": replace(_NANO, block="plain"),
    "nano, 16-128 with context": replace(_NANO, widths=(16, 32, 64, 128), context=True),
    "nano, 24-96, 1 at the top": replace(_NANO, widths=(24, 48, 96), convolutions=(1, 2, 2)),
    "nano, 8-128 from stride 2": replace(_NANO, widths=(8, 16, 32, 64, 128), stem_stride=2, convolutions=1),
    "nano, separable 16-128 from stride 2": replace(
        _NANO, widths=(16, 32, 64, 128, 128), stem_stride=2, block="separable", convolutions=1
    ),
    "large": _LARGE,
    "large, 1 at the top": replace(_LARGE, **_FINE),
    "large, 24-320, 2 per level": replace(_LARGE, widths=(24, 48, 96, 192, 320), convolutions=2),
    "large, 64-384 from stride 4, 2 per level": replace(
        _LARGE, widths=(64, 128, 256, 384), stem_stride=4, convolutions=2
    ),
}
