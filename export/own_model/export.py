"""Export a Keras model that was trained elsewhere as a model package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Split
from edge_runtime.errors import UsageError
from edge_runtime.model.package import Manifest
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable
from export.config import ExportConfig, Output, PixelRange
from export.errors import ParityError
from export.keras_model.archive import read_model
from export.keras_model.standard import Size
from export.own_model.reading import Examples, Note, Stated, find_reading
from export.package import write_package
from export.run_folder import TrainedRun
from training import check_dataset, write_dataset


def export_model(
    model: keras.Model | str | Path,
    images: NDArray[Any] | None = None,
    masks: NDArray[Any] | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    classes: Sequence[str] | None = None,
    pixels: PixelRange | None = None,
    bgr: bool | None = None,
    input_size: Size | None = None,
    output: Output | None = None,
    on_progress: OnProgress = silent,
    note: Note = lambda line: None,
    **settings: Any,
) -> Manifest:
    """Export a Keras model that was trained elsewhere as a model package, as ``edge-unet export MODEL`` does.

    On the images with masks, Keras and the package are compared, INT8 is calibrated, and the accuracy is measured; best
    are images that the model was not trained on. What is not stated of the model is found out on them.

    Args:
        model: A model with one image in and one map of classes out, or the path of a ``.keras`` or ``.h5`` file. A file
            may hold only layers of Keras' own; a live model also others.
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3) grey or RGB, uint8 or floats in 0–1; None with ``data``.
        masks: (N, H, W) or (N, H, W, 1) class ids, or (N, H, W, classes) with a one for the class of each pixel.
        out: Package folder to write.
        data: Dataset folder in place of arrays: its ``val`` is used, else its ``test``, else all of it.
        classes: Names of the classes of the arrays, in the order of the model.
        pixels: Values that the model expects of pixels.
        bgr: Whether the model expects blue first, because it was trained on images as OpenCV reads them.
        input_size: (height, width) in pixels, for a model that takes images of any size.
        output: What the model gives for each pixel.
        on_progress: Called with the name of each step and how much of it is done.
        note: Called with a line for each thing that was found out or looks wrong.
        settings: Attributes of ``ExportConfig``, such as ``int8`` and ``overwrite``.

    Returns:
        The manifest of the package at ``out``.

    Raises:
        ConvertError: The model is refused: not one image in and one map out, code inside, or what ONNX lacks.
        InputError: The images or masks cannot be used.
        ParityError: Keras and onnxruntime differ by more than the budget.
        UsageError: Options contradict each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> from export import export_model
        >>> rng = np.random.default_rng(0)
        >>> images, masks = rng.random((4, 32, 32, 3)), rng.integers(0, 2, (4, 32, 32))
        >>> image = keras.Input((32, 32, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(image))
        >>> manifest = export_model(model, images, masks, classes=["sky", "tree"], out=tmp_path / "own", int8="off")
        >>> manifest.parity["max_abs_diff"] < 1e-4, manifest.contract.classes[1].name
        (True, 'tree')
    """
    source = Path(model) if isinstance(model, str | Path) else None
    name = f"keras.Model '{model.name}'" if isinstance(model, keras.Model) else printable(model)
    config = ExportConfig(run=name, out=out, data=data, **settings)
    loaded = read_model(source) if source is not None else model
    with _dataset(images, masks, data, classes) as folder:
        report = check_dataset(folder, on_progress=on_progress, allow_copies=True)
        report.require_ok()
        on_progress("reading the model", 0, 1)
        preferred: tuple[Split, ...] = ("val", "test", "train")
        split = next(name for name in preferred if report.dataset.splits.get(name))
        examples = Examples(
            pairs=report.dataset.splits[split],
            key=report.key,
            classes=report.info.classes,
            ignore_id=report.info.ignore_id,
        )
        stated = Stated(pixels=pixels, bgr=bgr, size=input_size, output=output)
        reading = find_reading(loaded, examples, stated, note)
        on_progress("reading the model", 1, 1)
        run = TrainedRun(
            checkpoint=source,
            contract=examples.contract(reading.foreign),
            key=report.key,
            validation=tuple(examples.pairs),
            split=split,
            config={
                "preset": "a Keras model of your own",
                "file": None if source is None else source.name,
                "pixels": reading.pixels.range,
                "bgr": reading.pixels.bgr,
                "output": reading.foreign.output,
                "border": reading.foreign.border,
            },
            data_fingerprint=report.fingerprint,
            images={name: len(pairs) for name, pairs in report.dataset.splits.items()},
            empty_without_mask=any(pair.mask is None for pair in report.dataset.pairs()),
        )
        try:
            return write_package(run, reading.foreign.standard(reading.pixels), config, on_progress)
        except ParityError as cause:
            if reading.doubt is None:
                raise
            # In place of the remedy for a right model, which is to report the fault.
            raise ParityError(f"{str(cause).rpartition(' — ')[0]} — {reading.doubt}") from cause


@contextmanager
def _dataset(
    images: NDArray[Any] | None, masks: NDArray[Any] | None, data: str | Path | None, classes: Sequence[str] | None
) -> Iterator[Path]:
    """Yield the dataset's folder: a temporary one for arrays."""
    if data is not None:
        if images is not None or masks is not None or classes is not None:
            raise UsageError(
                "data — arrays or classes are given, too — pass a dataset folder, or images, masks and classes"
            )
        yield Path(data)
        return
    if images is None or masks is None:
        raise UsageError("no images with masks — expected a dataset folder (--data), or arrays — pass one of them")
    with tempfile.TemporaryDirectory() as folder:
        yield write_dataset(images, masks, Path(folder) / "data", classes=classes)
