"""``report.html``: one self-contained page with parity, accuracy, speed and pictures of a package."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bench import Latency
from edge_runtime.effects import Overlay
from edge_runtime.evaluate import read_pair
from edge_runtime.labels import IGNORE, MaskEncoding
from edge_runtime.package import Manifest
from edge_runtime.pairs import Pair
from edge_runtime.segmenter import Segmentation, Segmenter
from edge_runtime.storage import read_bytes

SAMPLES = 6
PICTURE_WIDTH_PX = 360


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """What the page is made from.

    Attributes:
        manifest: Of the package.
        latency: As measured on the exporting machine.
        history: Rows of the training history.
        validation: Pairs to draw samples from.
        accuracies: Pixel accuracy of the model as it ships on each of them.
        encoding: How their masks are stored.
        segmenter: The model as it ships.
    """

    manifest: Manifest
    latency: Latency
    history: Sequence[dict[str, Any]]
    validation: Sequence[Pair]
    accuracies: Sequence[float]
    encoding: MaskEncoding
    segmenter: Segmenter


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row of pictures, as data URIs, and how well it went."""

    name: str
    accuracy: float
    image: str
    truth: str
    prediction: str
    errors: str


def render_report(inputs: ReportInputs) -> str:
    """Return the page as HTML with all pictures inside."""
    manifest = inputs.manifest
    parity = manifest.parity
    budget = parity["budget"]
    gate = [
        ("max |Δ probability|", f"{parity['max_abs_diff']:.2e}", f"≤ {budget['max_abs_diff']:g}"),
        ("pixels of the same class", f"{parity['class_agreement']:.4%}", f"≥ {budget['class_agreement']:.2%}"),
        ("Δ mean IoU on validation", f"{parity['mean_iou_change']:+.6f}", f"± {budget['mean_iou_change']:g}"),
    ]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            manifest=manifest,
            gate=gate,
            latency=inputs.latency,
            size_mb=manifest.variants["fp32"].bytes / 1e6,
            curve=_curve(inputs.history),
            samples=_samples(inputs),
        )
    )


def environment() -> jinja2.Environment:
    """Return the template environment of this package; everything that is filled in is escaped."""
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
    """Return a video as a WebM data URI, which browsers play; the MP4s that OpenCV writes they do not.

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
    """Return the worst, the median and the best of the validation images, by pixel accuracy."""
    scored = sorted((accuracy, index) for index, accuracy in enumerate(inputs.accuracies))
    chosen = np.unique(np.linspace(0, len(scored) - 1, min(SAMPLES, len(scored))).round().astype(int))
    return [_sample(inputs, inputs.validation[scored[i][1]], scored[i][0]) for i in chosen]


def _sample(inputs: ReportInputs, pair: Pair, accuracy: float) -> Sample:
    contract, overlay = inputs.manifest.contract, Overlay()
    image_bgr, truth = read_pair(pair, inputs.encoding, len(contract.classes), contract.ignore_id)
    result = inputs.segmenter(image_bgr)
    wrong = (result.mask != truth) & (truth != IGNORE)
    errors = (image_bgr // 3).astype(np.uint8)
    errors[wrong] = (60, 60, 255)
    true_result = Segmentation(mask=truth, classes=contract.classes, latency_ms=0.0)
    return Sample(
        name=pair.stem,
        accuracy=accuracy,
        image=data_uri(image_bgr),
        truth=data_uri(overlay(image_bgr, true_result)),
        prediction=data_uri(overlay(image_bgr, result)),
        errors=data_uri(errors),
    )


def _curve(history: Sequence[dict[str, Any]]) -> str:
    """Return the training curve as an inline SVG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for ax, key, title in ((axes[0], "loss", "training loss"), (axes[1], "val_mean_iou", "validation mean IoU")):
        ax.plot(epochs, [row[key] for row in history], color="#0b6e99", linewidth=1.5)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("epoch", fontsize=9)
        ax.grid(visible=True, alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
