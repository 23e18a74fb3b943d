"""Read from a package what it says about the data that its model was trained on: how masks are read, and which images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.dataset.mask_files import unpack_color
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.package import Package
from edge_runtime.storage import printable, read_bytes

TRAINING_IMAGES = "training-images.bin"
"""File of a package that holds a digest of each training image."""
LABELS = "labels"
"""Key of ``provenance`` that holds the label key of the training masks."""
EMPTY_WITHOUT_MASK = "empty_without_mask"
"""Key of ``provenance`` that is true if training took images without a mask as all background."""
DIGEST_BYTES = 8
"""Bytes that are kept of a file's SHA-256: enough to tell millions of images apart."""
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Data that a model was trained on, as far as its package says.

    Attributes:
        labels: Label key of the training masks; None if the package does not say.
        images: Beginning of the SHA-256 of each training image's file; None if the package does not say.
        empty_without_mask: Images without a mask were all background in training.
    """

    labels: LabelKey | None = None
    images: frozenset[bytes] | None = None
    empty_without_mask: bool = False

    @classmethod
    def of(cls, package: Package | None) -> TrainingData:
        """Read the data of a package, or nothing without one.

        Raises:
            ModelError: The label key or the file of digests is not what the package format says.
        """
        if package is None:
            return cls()
        where, provenance = printable(package.root), package.manifest.provenance
        labels, are_empty = provenance.get(LABELS), provenance.get(EMPTY_WITHOUT_MASK, False) is True
        key = None if labels is None else LabelKey.from_dict(labels, f"{where}: provenance.{LABELS}")
        if key is not None and key.classes != len(package.manifest.contract.classes):
            raise ModelError(
                f"{where}: provenance.{LABELS} is of {key.classes} classes — expected "
                f"{len(package.manifest.contract.classes)} as in the contract — export the model again"
            )
        if TRAINING_IMAGES not in package.manifest.files:
            return cls(labels=key, empty_without_mask=are_empty)
        data = read_bytes(package.root / TRAINING_IMAGES, ModelError)
        if len(data) % DIGEST_BYTES:
            raise ModelError(
                f"{printable(package.root / TRAINING_IMAGES)} — {len(data)} bytes — expected a multiple of {DIGEST_BYTES} — "
                "export the model again"
            )
        digests = (data[i : i + DIGEST_BYTES] for i in range(0, len(data), DIGEST_BYTES))
        return cls(labels=key, images=frozenset(digests), empty_without_mask=are_empty)

    def has(self, image: Path) -> bool:
        """Tell whether the model was trained on a file, byte for byte; False if that is not known."""
        if self.images is None:
            return False
        try:
            data = read_bytes(image, InputError)
        except InputError:  # the evaluation names the file
            return False
        return hashlib.sha256(data).digest()[:DIGEST_BYTES] in self.images


def described(key: LabelKey, names: list[str]) -> str:
    """Return the values of masks with the class of each, as text for a message: "0 background, 127 cell"."""
    named = {IGNORE: "ignored", **dict(enumerate(names))}
    shown = [
        f"{unpack_color(value) if key.encoding == 'color' else value} {printable(named[class_id])}"
        for value, class_id in key.meanings[:_SHOWN]
    ]
    more = f" and {len(key.meanings) - _SHOWN} more" if len(key.meanings) > _SHOWN else ""
    return ", ".join(shown) + more
