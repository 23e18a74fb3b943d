"""Run the golden self-test: compare this machine's masks of the golden frames with those of the exporting machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.errors import ModelError
from edge_runtime.model.package import Package
from edge_runtime.storage import printable

if TYPE_CHECKING:
    from edge_runtime.segment.segmenter import Segmenter

MIN_AGREEMENT = 0.999
"""Smallest share of the golden frames' pixels whose class must equal that on the exporting machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Result of the self-test: share of the golden frames' pixels with the same class as on the exporting machine, 0–1.

    Each variant is compared with its own masks, because integer arithmetic can fail on a CPU on which float works.
    ``pixel_agreement`` is the lowest share of all variants; it decides whether the test passes.
    """

    ok: bool
    pixel_agreement: float
    frames: int
    variants: dict[str, float]

    @property
    def worst(self) -> str:
        """Name of the variant with the lowest agreement."""
        return min(self.variants, key=lambda name: self.variants[name])


def golden_test(package: Package) -> Golden | None:
    """Run every variant on the golden frames and compare the results with the stored masks.

    Returns:
        The result; None if the package has no golden frames.

    Raises:
        ModelError: A variant does not load, or a golden frame and its mask do not fit together.
    """
    from edge_runtime.segment.segmenter import Segmenter

    manifest, agreement = package.manifest, {}
    for variant in manifest.variants:
        share = golden_agreement(Segmenter.load(package.root, variant=variant), package)
        if share is None:
            return None
        agreement[variant] = share
    lowest = min(agreement.values())
    return Golden(ok=lowest >= MIN_AGREEMENT, pixel_agreement=lowest, frames=len(manifest.golden), variants=agreement)


def golden_agreement(segmenter: Segmenter, package: Package) -> float | None:
    """Compare the masks of a loaded variant on the golden frames with the stored masks.

    Returns:
        Share of the pixels with the same class, 0–1; None if the package has no golden frames.

    Raises:
        ModelError: A golden frame and its mask do not fit together.
    """
    from edge_runtime.dataset.mask_files import read_mask
    from edge_runtime.image import read_image

    equal, total = 0, 0
    for frame in package.manifest.golden:
        path = package.root / frame.masks[segmenter.variant]
        expected = read_mask(path).values
        found = segmenter(read_image(package.root / frame.image)).mask
        if found.shape != expected.shape:
            raise ModelError(
                f"{printable(path)} — shape {expected.shape} — expected {found.shape}, as its "
                "frame — export the package again"
            )
        equal += int((found == expected).sum())
        total += expected.size
    return equal / total if total else None
