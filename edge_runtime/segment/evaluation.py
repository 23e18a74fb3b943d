"""Measure a segmenter on a labelled dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.dataset.detect import dataset_key
from edge_runtime.dataset.evaluate import Evaluation, dataset_pairs, evaluate
from edge_runtime.dataset.mask_files import RGB
from edge_runtime.dataset.pairs import Split
from edge_runtime.progress import OnProgress, silent
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.tiled import TiledSegmenter


def evaluate_dataset(
    segmenter: Segmenter | TiledSegmenter,
    data: str | Path,
    split: Split | None = None,
    *,
    ignore_colors: Sequence[RGB] = (),
    empty_without_mask: bool = False,
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Segment the images of a dataset and compare the results with its masks, at the images' own sizes.

    The classes of the model say what the masks mean; ``dataset.yaml`` is not read.

    Args:
        segmenter: Segmenter to measure.
        data: Dataset folder: ``images`` and ``masks``, or these inside ``train``, ``val`` and ``test``.
        split: "train", "val" or "test"; None: test if there is one, else val, else all images.
        ignore_colors: RGB colours of colour-coded masks whose pixels are not counted.
        empty_without_mask: Take images that have no mask as all background (class 0).
        on_progress: Called with "measuring" and the number of images done and of all, at the start and after each.

    Returns:
        Metrics of the segmenter on the dataset.

    Raises:
        InputError: No such dataset or split, files that cannot be read or do not pair, or masks with values that stand
            for no class of the model.
        ModelError, UsageError: As for a call of the segmenter.

    Example:
        >>> from edge_runtime import Segmenter, evaluate_dataset
        >>> evaluation = evaluate_dataset(Segmenter.load(package), data)
        >>> print(f"{evaluation.images} images, pixel accuracy {evaluation.pixel_accuracy:.2f}")
        3 images, pixel accuracy ...
    """
    contract = segmenter.contract
    pairs = dataset_pairs(Path(data), split, empty_without_mask=empty_without_mask)
    key = dataset_key(pairs, contract.classes, ignore_id=contract.ignore_id, ignore_colors=ignore_colors)
    return evaluate(
        lambda image_bgr: segmenter(image_bgr).mask,
        pairs,
        key=key,
        classes=[c.name for c in contract.classes],
        on_progress=on_progress,
    )
