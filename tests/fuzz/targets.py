"""Every parser of bytes that come from outside: how it is called, and good inputs to begin with.

A target takes any bytes and returns, or raises an ``EdgeUnetError``; everything else is a fault.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import exif
import foreign_datasets
import numpy as np
from colors import color_contract, write_color_package

from edge_runtime.image import decode
from edge_runtime.model.contract import Contract, parse_json
from edge_runtime.model.device_profile import DeviceProfile
from edge_runtime.model.package import Manifest
from edge_runtime.sources.containers import read_container
from edge_runtime.sources.jpegs import JpegSplitter
from edge_runtime.sources.stdin import StdinSource
from export.run_folder import read_run
from training.data.settings import read_info
from training.importers import import_dataset

MOST_PIXELS = 1 << 18
_PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8), (0, 0), 2)
_PROFILE = {
    "format_version": 1,
    "machine": {"cpu": "x", "architecture": "x86_64", "cores": 2, "onnxruntime": "1.30.1"},
    "models": {"fp32": "0" * 64},
    "variant": "fp32",
    "options": {"threads": 1, "spinning": False, "provider": "CPUExecutionProvider"},
}
_RUN = {
    "format_version": 2,
    "config": {},
    "data": {"root": "data", "fingerprint": "x", "labels": {"encoding": "index", "values": [[0, 0], [1, 1]]}},
    "contract": color_contract().to_dict(),
    "checkpoints": {"best": [{"epoch": 1, "file": "best.keras", "sha256": "0" * 64}]},
    "epochs": [{"epoch": 1, "loss": 1.0, "val_mean_iou": 0.5}],
}
_YAML = """\
classes: [background, a, b]
colors: [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
ids: {0: background, 7: a, 255: ignore}
ignore_colors: [[1, 2, 3]]
groups: '^(.+)_'
empty_without_mask: true
"""


@dataclass(frozen=True)
class Target:
    """A parser: what calls it, good inputs, and whether these are JSON."""

    call: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    json: bool = False


def _encoded(suffix: str, options: tuple[int, ...] = (), picture: np.ndarray = _PICTURE) -> bytes:
    done, data = cv2.imencode(suffix, picture, options)
    assert done
    return data.tobytes()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _picture(data: bytes) -> None:
    decode(data, "x", max_pixels=MOST_PIXELS)


def _mask(data: bytes) -> None:
    decode(data, "x", mode="raw", max_pixels=MOST_PIXELS)


def _split(data: bytes) -> None:
    splitter = JpegSplitter()
    for start in range(0, len(data), 100):
        for _ in splitter.feed(data[start : start + 100]):
            pass
    splitter.finish()


def _stdin(data: bytes) -> None:
    for raw_size in (None, (4, 4)):
        with StdinSource(io.BytesIO(data), raw_size=raw_size) as source:
            for _ in source:
                pass


class _File:
    """Caller that writes the bytes to a file, and hands its folder or path over."""

    def __init__(self, name: str, call: Callable[[Path], object], *, folder: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._path, self._call, self._is_folder = self._folder / name, call, folder

    def __call__(self, data: bytes) -> None:
        self._path.write_bytes(data)
        self._call(self._folder if self._is_folder else self._path)


class _Import:
    """Caller that imports a good dataset in which one document is replaced by the bytes."""

    def __init__(self, kind: str, draw: Callable[[Path], object], document: str) -> None:
        self._kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._source = self._folder / "source"
        draw(self._source)
        self._document = min(self._source.rglob(document))
        self.seeds = tuple(path.read_bytes() for path in sorted(self._source.rglob(document)))

    def __call__(self, data: bytes) -> None:
        self._document.write_bytes(data)
        out = self._folder / "out"
        try:
            import_dataset(self._kind, self._source, out, skip_bad=len(data) % 2 == 0)
        finally:
            shutil.rmtree(out, ignore_errors=True)


def _of_import(kind: str, draw: Callable[[Path], object], document: str, *, is_json: bool) -> Callable[[], Target]:
    def make() -> Target:
        call = _Import(kind, draw, document)
        return Target(call, call.seeds, is_json)

    return make


def _keras_model(suffix: str) -> Target:
    """Return the target of a Keras model's file; TensorFlow is loaded for it alone."""
    import keras

    from export.keras_model.archive import read_model

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(image))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        model.save(path)
        return Target(_File(path.name, read_model, folder=False), (path.read_bytes(),))


def _manifest() -> Target:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    manifest = (write_color_package(folder / "p", color_contract()) / "manifest.json").read_bytes()
    return Target(lambda data: Manifest.from_dict(parse_json(data, "x"), "x"), (manifest,), json=True)


def _video() -> Target:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    seeds = []
    for name, code in (("v.mp4", "mp4v"), ("v.mkv", "mp4v"), ("v.avi", "MJPG")):
        writer = cv2.VideoWriter(str(folder / name), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, (16, 16))
        for _ in range(2):
            writer.write(np.zeros((16, 16, 3), np.uint8))
        writer.release()
        seeds.append((folder / name).read_bytes())
    return Target(_File("v", read_container, folder=False), tuple(seeds))


_JPEGS = (
    _encoded(".jpg"),
    _encoded(".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    _encoded(".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    exif.jpeg(_PICTURE, exif.block(6)),
)
_PNGS = (_encoded(".png"), _encoded(".png", (), _PICTURE[..., 0]), exif.png(_PICTURE, exif.block(3)))
_TIFFS = (_encoded(".tif"), _encoded(".tif", (cv2.IMWRITE_TIFF_COMPRESSION, 1)))
_OTHERS = tuple(
    _encoded(suffix, (), cv2.resize(_PICTURE, (64, 64)))
    for suffix in (".bmp", ".webp", ".gif", ".ppm", ".jp2", ".avif")
)

TARGETS: dict[str, Callable[[], Target]] = {
    "jpeg": lambda: Target(_picture, _JPEGS),
    "png": lambda: Target(_mask, _PNGS),
    "tiff": lambda: Target(_mask, _TIFFS),
    "other-pictures": lambda: Target(_picture, _OTHERS),
    "contract": lambda: Target(
        lambda data: Contract.from_json(data.decode("utf-8", "surrogateescape"), "x"),
        (color_contract().to_json().encode(),),
        json=True,
    ),
    "manifest": _manifest,
    "device-profile": lambda: Target(
        lambda data: DeviceProfile.from_dict(parse_json(data, "x"), "x"), (_json(_PROFILE),), json=True
    ),
    "run-json": lambda: Target(_File("run.json", read_run), (_json(_RUN),), json=True),
    "keras": lambda: _keras_model(".keras"),
    "keras-hdf5": lambda: _keras_model(".h5"),
    "dataset-yaml": lambda: Target(_File("dataset.yaml", read_info), (_YAML.encode(),)),
    "jpeg-stream": lambda: Target(_split, (b"".join(_JPEGS), _JPEGS[0] + b"noise" + _JPEGS[1])),
    "stdin": lambda: Target(_stdin, (b"".join(_JPEGS), bytes(96))),
    "video": _video,
    "coco": _of_import("coco", foreign_datasets.coco, "instances*.json", is_json=True),
    "labelme": _of_import("labelme", foreign_datasets.labelme, "*.json", is_json=True),
    "label-studio": _of_import("label-studio", foreign_datasets.label_studio, "*.json", is_json=True),
    "via": _of_import("via", foreign_datasets.via, "*.json", is_json=True),
    "supervisely": _of_import("supervisely", foreign_datasets.supervisely, "*.jpg.json", is_json=True),
    "yolo": _of_import("yolo", foreign_datasets.yolo, "*.txt", is_json=False),
    "cvat": _of_import("cvat", foreign_datasets.cvat, "*.xml", is_json=False),
    "voc": _of_import("voc", foreign_datasets.voc, "*.png", is_json=False),
}
