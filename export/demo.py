"""Run the whole chain on built-in data, each step by its own ``edge-unet`` command, and write a page of results."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli import quiet_native_logs
from edge_runtime.dataset.evaluate import dataset_pairs, evaluate
from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.dataset.metrics import confusion_matrix, mean_iou
from edge_runtime.dataset.sampling import spread
from edge_runtime.errors import EdgeUnetError, UsageError
from edge_runtime.image import read_image
from edge_runtime.model.package import Package
from edge_runtime.storage import printable, write_bytes
from export.report import data_uri, environment, video_uri
from export.run_folder import BEST_MODEL, read_run

INPUT_SIZE = "192x256"
SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Figures of one demo.

    Attributes:
        keras_mean_iou: Mean IoU of the Keras model on the test split.
        evaluations: Metrics per variant of the package on the test split, keys as in ``eval --json``.
        video_mean_iou: Mean IoU of the package over the frames of the video.
        video: Summary of the run over the video, keys as in ``run --json``.
        parity: Parity figures, as in the package's manifest.
        package_bytes: Size in bytes of each variant's ONNX file, by file name.
        bench: Latencies, keys as in ``bench --json``.
        golden: Result of the self-test, keys as in ``doctor --json``.
        seconds: Duration of the demo.
    """

    keras_mean_iou: float
    evaluations: dict[str, dict[str, Any]]
    video_mean_iou: float
    video: dict[str, Any]
    parity: dict[str, Any]
    package_bytes: dict[str, int]
    bench: dict[str, Any]
    golden: dict[str, Any]
    seconds: float


class CommandFailedError(EdgeUnetError):
    """A command of the chain failed and printed why; the demo ends with its exit code."""

    def __init__(self, command: str, code: int) -> None:
        """Keep the exit code of the command."""
        super().__init__(f"demo — `{command}` ended with exit code {code} — see its message above")
        self.exit_code = code


def run_demo(out: Path, *, max_minutes: float) -> str:
    """Draw data, train, export, evaluate, segment images and a video, and write a report.

    Args:
        out: A folder that does not exist yet.
        max_minutes: Longest training time in minutes.

    Returns:
        The figures as a table, and the paths of the results.

    Raises:
        UsageError: ``out`` exists.
        CommandFailedError: A command of the chain failed.
    """
    if out.exists():
        raise UsageError(f"--out {printable(out)} — exists — choose another folder or remove it")
    start_s = time.monotonic()
    data, run, package = out / "data", out / "run", out / "model"
    images, video = out / "images", out / "video"
    _command("data", "synth", data)
    # A small batch, because an epoch of so few images has few steps.
    _command("train", data, "--out", run, "--input-size", INPUT_SIZE, "--batch-size", 4, "--max-minutes", max_minutes)
    _command("export", run, "--out", package)
    variants = Package.open(package).manifest.variants
    evaluations = {
        name: json.loads(_command("eval", package, data, "--split", "test", "--variant", name, "--json"))
        for name in variants
    }
    _command("run", package, "--source", data / "test" / "images", "--save", images)
    film = next((data / "video").glob("moving.*"))
    lines = _command("run", package, "--source", film, "--save", video, "--json", "-").splitlines()
    bench = json.loads(_command("bench", package, "--json"))
    golden = json.loads(_command("doctor", package, "--json"))["golden"]
    manifest = Package.open(package).manifest
    result = DemoResult(
        keras_mean_iou=_keras_mean_iou(run, package, data),
        evaluations=evaluations,
        video_mean_iou=_video_mean_iou(video / "masks", data / "video" / "masks", len(manifest.contract.classes)),
        video=json.loads(lines[-1])["summary"],
        parity=manifest.parity,
        package_bytes={variant.file: variant.bytes for variant in manifest.variants.values()},
        bench=bench,
        golden=golden,
        seconds=time.monotonic() - start_s,
    )
    film_out = next(path for path in sorted(video.iterdir()) if path.is_file())
    _write_report(out / "report.html", result, package, data, images, film_out)
    places = [
        (out / "report.html", "these figures, with pictures and the video, on one page"),
        (images / "overlays", "test images with their predicted masks drawn over them"),
        (film_out, "the video with its predicted masks drawn over it"),
        (run / "pictures", "validation images with true and predicted masks"),
        (package / "report.html", "parity, accuracy and speed of the package"),
    ]
    rows = "\n".join(f"{name:<42} {value:>28}" for name, value in _rows(result))
    return f"\n{rows}\n\nlook at:\n" + "\n".join(f"  {printable(path)}  ({what})" for path, what in places)


def _command(*arguments: object) -> str:
    """Run one ``edge-unet`` command as a user would and return its stdout; its stderr is passed through."""
    texts = [str(argument) for argument in arguments]
    shown = "edge-unet " + " ".join(texts)
    sys.stderr.write(f"\n$ {shown}\n")
    sys.stderr.flush()
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", *texts], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise CommandFailedError(shown, done.returncode)
    return done.stdout


def _keras_mean_iou(run: Path, package: Path, data: Path) -> float:
    """Return the mean IoU of the Keras model on the test split, measured as ``eval`` measures the package."""
    with quiet_native_logs():
        import tensorflow

        from export.keras_model.archive import read_model
        from export.keras_model.convertible import with_precise_means
        from export.parity.keras_reference import KerasReference

        tensorflow.config.list_physical_devices()

    folder = read_run(run)
    contract = Package.open(package).manifest.contract
    reference = KerasReference(with_precise_means(read_model(run / BEST_MODEL)), contract)
    return evaluate(
        reference.mask,
        dataset_pairs(data, "test"),
        key=folder.key,
        classes=[c.name for c in contract.classes],
    ).mean_iou


def _video_mean_iou(found: Path, truth: Path, classes: int) -> float:
    """Return the mean IoU of the masks of a video's frames, compared with the true masks in the same order."""
    matrix = np.zeros((classes, classes), np.int64)
    for mask, true_mask in zip(sorted(found.glob("*.png")), sorted(truth.glob("*.png")), strict=True):
        matrix += confusion_matrix(_ids(true_mask), _ids(mask), classes)
    return mean_iou(matrix)


def _ids(path: Path) -> NDArray[np.uint8]:
    return read_mask(path).values.astype(np.uint8)


def _rows(result: DemoResult) -> list[tuple[str, str]]:
    """Return name and text of each figure, for the printed table and the page."""
    frame_ms = {name: latency["frame_ms"]["p50"] for name, latency in result.bench["variants"].items()}
    evaluations = result.evaluations.items()
    return [
        ("mean IoU on the test split, Keras", f"{result.keras_mean_iou:.4f}"),
        *((f"mean IoU on the test split, runtime, {name}", f"{found['mean_iou']:.4f}") for name, found in evaluations),
        *((f"pixel accuracy, runtime, {name}", f"{found['pixel_accuracy']:.4f}") for name, found in evaluations),
        ("mean IoU over the video, runtime", f"{result.video_mean_iou:.4f}"),
        ("parity: largest probability difference", f"{result.parity['max_abs_diff']:.1e}"),
        ("parity: pixels with the same class", f"{result.parity['class_agreement']:.4%}"),
        ("self-test: pixels with the expected class", f"{result.golden['pixel_agreement']:.4%}"),
        *((f"package: {file}", f"{size / 1e6:.1f} MB") for file, size in result.package_bytes.items()),
        *(
            (f"640×480 frame to mask, {name}", f"{ms:.1f} ms ({1000 / ms:.0f} per second)")
            for name, ms in frame_ms.items()
        ),
        ("video, masks and overlay written", f"{result.video['fps']:.0f} frames per second"),
        ("duration of the demo", f"{result.seconds / 60:.1f} minutes"),
    ]


def _write_report(path: Path, result: DemoResult, package: Path, data: Path, images: Path, film: Path) -> None:
    """Write one self-contained page: figures, test images with their overlays, and the video."""
    overlays = sorted((images / "overlays").iterdir())
    sources = {p.stem: p for p in (data / "test" / "images").iterdir()}
    with quiet_native_logs():  # FFmpeg writes a line about every WebM
        film_uri = video_uri(film)
    page = (
        environment()
        .get_template("demo.html.j2")
        .render(
            rows=_rows(result),
            evaluations=result.evaluations,
            contract=Package.open(package).manifest.contract,
            samples=[
                {
                    "name": overlay.stem,
                    "image": data_uri(read_image(sources[overlay.stem])),
                    "overlay": data_uri(read_image(overlay)),
                }
                for overlay in spread(overlays, SAMPLES)
            ],
            video=film_uri,
        )
    )
    write_bytes(path, page.encode())
