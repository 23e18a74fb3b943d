"""Write ``report.html``: one self-contained page with parity, accuracy, speed and pictures of a package."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import read_pair
from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.dataset.pairs import Pair
from edge_runtime.dataset.sampling import spread
from edge_runtime.device.bench import Latency
from edge_runtime.effects import Overlay, marked_pixels, overlay_of_mask
from edge_runtime.image import read_image
from edge_runtime.model.package import Manifest
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.storage import read_bytes
from export.run_folder import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES = 6
COMPARED = 32
"""Number of validation images on which float and INT8 are compared; those that differ most are shown."""
WORST = 4
PICTURE_WIDTH_PX = 360
_COLOR, _OVER, _INT8 = "#0b6e99", "#c0392b", "#d08a1d"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """Contents of the page.

    Attributes:
        manifest: Manifest of the package.
        latency: Latency on the exporting machine.
        history: Figures of each epoch of training.
        validation: Image and mask pairs of the validation split, from which samples are chosen.
        accuracies: Pixel accuracy of the float variant on each pair.
        key: Meaning of the values in the masks.
        segmenters: The variants of the package by name.
    """

    manifest: Manifest
    latency: Latency
    history: Sequence[Epoch]
    validation: Sequence[Pair]
    accuracies: Sequence[float]
    key: LabelKey
    segmenters: Mapping[str, Segmenter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Row of pictures of one image: data URIs, each with its caption."""

    name: str
    figures: Sequence[tuple[str, str]]


def render_report(inputs: ReportInputs) -> str:
    """Return the page as HTML with all pictures inside."""
    manifest = inputs.manifest
    parity = manifest.parity
    budget = parity["budget"]
    gate = [
        ("largest difference of a probability", f"{parity['max_abs_diff']:.2e}", f"≤ {budget['max_abs_diff']:g}"),
        ("pixels with the same class", f"{parity['class_agreement']:.4%}", f"≥ {budget['class_agreement']:.2%}"),
        (
            "change of the mean IoU on the validation split",
            f"{parity['mean_iou_change']:+.6f}",
            f"± {budget['mean_iou_change']:g}",
        ),
        (
            "largest difference inside a layer, relative to the layer's largest value",
            f"{max(parity['layers'].values()):.1e}" if parity["layers"] else "none compared",
            f"≤ {budget['layer_diff']:g}",
        ),
    ]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            manifest=manifest,
            gate=gate,
            latency=inputs.latency,
            names={"fp32": "float", "int8": "INT8"},
            fastest="int8" if "int8" in manifest.variants else "fp32",
            stages_chart=_stages_chart(parity["stages"], budget["max_abs_diff"]),
            layers_chart=_layers_chart(parity["layers"], budget["layer_diff"]),
            sensitivity_chart=_sensitivity_chart(manifest.quantization["sensitivity"]),
            curve=_curve(inputs.history),
            samples=_samples(inputs),
            disagreements=_disagreements(inputs),
        )
    )


def environment() -> jinja2.Environment:
    """Return the template environment of this package, which escapes all values."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("export", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


def data_uri(image_bgr: NDArray[np.uint8], width_px: int = PICTURE_WIDTH_PX) -> str:
    """Return (H, W, 3) uint8 BGR as a JPEG data URI, no wider than ``width_px``."""
    height, width = image_bgr.shape[:2]
    if width > width_px:
        size = (width_px, max(1, round(height * width_px / width)))
        image_bgr = np.asarray(cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def video_uri(path: Path) -> str:
    """Return a video as a WebM data URI, because browsers do not play the MP4s that OpenCV writes.

    Raises:
        StorageError: The temporary file cannot be written.
    """
    source = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    size = int(source.get(cv2.CAP_PROP_FRAME_WIDTH)), int(source.get(cv2.CAP_PROP_FRAME_HEIGHT))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "video.webm"
        writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"VP80"), source.get(cv2.CAP_PROP_FPS), size)
        while (frame := source.read())[0]:
            writer.write(frame[1])
        writer.release()
        source.release()
        return "data:video/webm;base64," + base64.b64encode(read_bytes(target)).decode()


def _samples(inputs: ReportInputs) -> list[Sample]:
    """Return validation images spread evenly from the worst to the best, by pixel accuracy."""
    scored = sorted((accuracy, index) for index, accuracy in enumerate(inputs.accuracies))
    return [_sample(inputs, inputs.validation[index], accuracy) for accuracy, index in spread(scored, SAMPLES)]


def _sample(inputs: ReportInputs, pair: Pair, accuracy: float) -> Sample:
    image_bgr, truth = read_pair(pair, inputs.key)
    result = inputs.segmenters["fp32"](image_bgr)
    wrong = (result.mask != truth) & (truth != IGNORE)
    return Sample(
        name=pair.stem,
        figures=(
            (data_uri(image_bgr), f"{pair.stem}: {accuracy:.1%} of pixels right"),
            (data_uri(overlay_of_mask(image_bgr, truth, result.classes)), "true mask"),
            (data_uri(Overlay()(image_bgr, result)), "predicted mask"),
            (data_uri(marked_pixels(image_bgr, wrong)), "wrong pixels, in red"),
        ),
    )


def _disagreements(inputs: ReportInputs) -> list[Sample]:
    """Return the validation images on which INT8 and float differ most; an empty list without INT8."""
    if "int8" not in inputs.segmenters:
        return []
    overlay, rows = Overlay(), []
    for pair in spread(inputs.validation, COMPARED):
        image_bgr = read_image(pair.image)
        in_float, in_int8 = (inputs.segmenters[name](image_bgr) for name in ("fp32", "int8"))
        different = in_float.mask != in_int8.mask
        rows.append((float(different.mean()), pair.stem, image_bgr, in_float, in_int8, different))
    rows.sort(key=lambda row: -row[0])
    samples = []
    for share, stem, image_bgr, in_float, in_int8, different in rows[:WORST]:
        figures = (
            (data_uri(image_bgr), f"{stem}: {share:.2%} of pixels differ"),
            (data_uri(overlay(image_bgr, in_float)), "float"),
            (data_uri(overlay(image_bgr, in_int8)), "INT8"),
            (data_uri(marked_pixels(image_bgr, different)), "pixels that differ, in red"),
        )
        samples.append(Sample(name=stem, figures=figures))
    return samples


def _curve(history: Sequence[Epoch]) -> str:
    """Return the training curves as an inline SVG; empty if the epochs are not known."""
    if not history:
        return ""
    figure = _figure(3.0)
    axes = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    losses, ious = [row.loss for row in history], [row.val_mean_iou for row in history]
    for ax, values, title in ((axes[0], losses, "training loss"), (axes[1], ious, "validation mean IoU")):
        ax.plot(epochs, values, color=_COLOR, linewidth=1.5)
        _style(ax, title)
        ax.set_xlabel("epoch", fontsize=9)
    return _svg(figure)


def _stages_chart(stages: Sequence[dict[str, Any]], limit: float) -> str:
    """Return the difference and the latency of each stage, first stage at the top, as an inline SVG."""
    figure = _figure(0.9 + 0.28 * len(stages))
    differences, latencies = figure.subplots(1, 2, sharey=True)
    names = [stage["name"] for stage in stages]
    floor = 1e-9  # a logarithmic axis has no zero
    values = [max(stage["max_abs_diff"], floor) for stage in stages]
    colors = [
        _INT8 if name == "INT8" else _COLOR if v <= limit else _OVER for name, v in zip(names, values, strict=True)
    ]
    differences.barh(names, values, color=colors, left=floor)
    differences.axvline(limit, color=_OVER, linewidth=1, linestyle="--")
    differences.set_xscale("log")
    _style(differences, "largest difference of a probability; dashed: budget, not for INT8")
    bars = latencies.barh(names, [stage["latency_ms"] for stage in stages], color=colors)
    latencies.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    _style(latencies, "latency, ms")
    differences.invert_yaxis()
    return _svg(figure)


def _layers_chart(layers: Mapping[str, float], limit: float) -> str:
    """Return the difference inside each layer as an inline SVG; an empty string if none was compared."""
    if not layers:
        return ""
    figure = _figure(2.8)
    ax = figure.subplots()
    values = list(layers.values())
    ax.bar(list(layers), values, color=[_COLOR if v <= limit else _OVER for v in values])
    ax.axhline(limit, color=_OVER, linewidth=1, linestyle="--")
    ax.set_yscale("log")
    ax.tick_params(axis="x", rotation=60)
    _style(ax, "largest difference inside each layer, relative to the layer's largest value; dashed: budget")
    return _svg(figure)


def _sensitivity_chart(sensitivity: Mapping[str, float] | None) -> str:
    """Return each layer's share of the INT8 error as an inline SVG; an empty string if it was not measured."""
    if sensitivity is None:
        return ""
    figure = _figure(2.8)
    ax = figure.subplots()
    ax.bar(list(sensitivity), [100 * share for share in sensitivity.values()], color=_COLOR)
    ax.tick_params(axis="x", rotation=60)
    _style(ax, "share of the INT8 error that vanishes if this layer alone stays in float, %")
    return _svg(figure)


def _figure(height_inch: float) -> Figure:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    return Figure(figsize=(8.6, height_inch), layout="constrained")


def _style(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(visible=True, alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return "".join(text.getvalue().partition("<svg")[1:])
