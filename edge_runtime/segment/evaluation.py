"""Measure a segmenter on a labelled dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edge_runtime.dataset.detect import dataset_key
from edge_runtime.dataset.evaluate import Evaluation, dataset_pairs, evaluate, usual_split
from edge_runtime.dataset.mask_files import RGB
from edge_runtime.dataset.pairs import Pair, Split
from edge_runtime.dataset.provenance import TrainingData, described
from edge_runtime.errors import InputError
from edge_runtime.model.package import Package
from edge_runtime.progress import OnProgress, silent
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.tiled import TiledSegmenter
from edge_runtime.storage import printable


def evaluate_dataset(
    segmenter: Segmenter | TiledSegmenter,
    data: str | Path,
    split: Split | Literal["all"] | None = None,
    *,
    ignore_colors: Sequence[RGB] = (),
    skip_bad: bool = False,
    allow_unpaired: bool = False,
    empty_without_mask: bool = False,
    allow_lossy_mask: bool = False,
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Segment the images of a dataset and compare the results with its masks, at the images' own sizes.

    Masks are read as training read them, if the package says how and they fit; else by the classes of the model.
    ``dataset.yaml`` is not read. A dataset without test and val holds images that the model was trained on: they are
    left out unless all are such images.

    Args:
        segmenter: Segmenter to measure.
        data: Dataset folder: ``images`` and ``masks``, or these inside ``train``, ``val`` and ``test``.
        split: "train", "val", "test", or "all" for every image; None: test if there is one, else val, else all images
            that the model was not trained on.
        ignore_colors: RGB colours of colour-coded masks whose pixels are not counted.
        skip_bad: Leave out pairs whose files are damaged, or whose masks do not fit the image or the dataset.
        allow_unpaired: Leave out images without a mask and masks without an image.
        empty_without_mask: Take images that have no mask as all background (class 0), as is done if training did.
        allow_lossy_mask: Accept JPEG masks.
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
    root, contract = Path(data), segmenter.contract
    trained = TrainingData.of(segmenter.package)
    left_out: dict[str, list[str]] = defaultdict(list)
    bad: set[Pair] = set()

    def leave_out(pair: Pair, error: InputError) -> None:
        bad.add(pair)
        left_out["bad"].append(str(error))

    pairs = dataset_pairs(
        root,
        split,
        empty_without_mask=empty_without_mask or trained.empty_without_mask,
        on_unpaired=(lambda p: left_out["unpaired"].append(p.message)) if allow_unpaired else None,
    )
    seen = {pair for pair in pairs if trained.has(pair.image)}
    if split is None and usual_split(root) is None and len(seen) < len(pairs):
        left_out["trained_on"] = [printable(pair.image) for pair in pairs if pair in seen]
        pairs = tuple(pair for pair in pairs if pair not in seen)
    names = [c.name for c in contract.classes]
    key = dataset_key(
        pairs,
        contract.classes,
        ignore_id=contract.ignore_id,
        ignore_colors=ignore_colors,
        trained=trained.labels,
        lossy=allow_lossy_mask,
        remedy=_remedy(trained, names, segmenter.package),
        on_bad=leave_out if skip_bad else None,
    )
    evaluation = evaluate(
        lambda image_bgr: segmenter(image_bgr).mask,
        [pair for pair in pairs if pair not in bad],
        key=key,
        classes=names,
        on_bad=leave_out if skip_bad else None,
        on_progress=on_progress,
    )
    return replace(
        evaluation,
        trained_on=None if trained.images is None else len(seen.intersection(pairs) - bad),
        without_mask=sum(pair.mask is None for pair in pairs if pair not in bad),
        white_class=names[1] if contract.ignore_id == 255 and key.encoding == "binary" else None,
        left_out={why: tuple(of) for why, of in left_out.items() if of},
    )


def _remedy(trained: TrainingData, names: list[str], package: Package | None) -> str:
    """Return what to do with a mask whose values stand for no class."""
    if trained.labels is not None:
        values = f"the model was trained on masks of {described(trained.labels, names)}: store the masks so"
        return f"{values}, or pass --ignore-color" if trained.labels.encoding == "color" else values
    way = "evaluate its package" if package is None else "export it again"
    return (
        f"correct the mask (--ignore-color for colours that count nowhere), or {way}: a package that says how training "
        "read the masks is needed for stored values other than class ids"
    )
