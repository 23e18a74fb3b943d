"""Train a Keras U-Net on images and masks; the result is a run folder.

    from training import TrainConfig, train

    result = train(data, "runs/first", TrainConfig.from_preset("edge", max_minutes=30))

Each name is imported on first use. TensorFlow is loaded only to build a network or to train.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.data.arrays import write_dataset
    from training.data.check import DatasetReport, check_dataset
    from training.data.synth import SynthSize, write_synthetic_dataset
    from training.errors import DataError, DivergedError, LoaderError, ResumeError, TrainingStopped
    from training.fit.train import train
    from training.importers import ImportProblemsError, import_dataset
    from training.losses.make import make_loss
    from training.monitor.progress import Progress, Silent
    from training.monitor.records import EpochRecord
    from training.network.deeplab import DeepLabShape
    from training.network.fcn import FCNShape
    from training.network.segnet import SegNetShape
    from training.network.shape import Shape
    from training.network.unet import UNetShape
    from training.presets import PRESETS, Preset, Recipe, build

_HOME = {
    "PRESETS": "presets",
    "DataError": "errors",
    "DatasetReport": "data.check",
    "DeepLabShape": "network.deeplab",
    "DivergedError": "errors",
    "EpochRecord": "monitor.records",
    "FCNShape": "network.fcn",
    "ImportProblemsError": "importers",
    "LoaderError": "errors",
    "Preset": "presets",
    "Progress": "monitor.progress",
    "Recipe": "presets",
    "ResumeError": "errors",
    "SegNetShape": "network.segnet",
    "Shape": "network.shape",
    "Silent": "monitor.progress",
    "SynthSize": "data.synth",
    "TrainConfig": "config",
    "TrainingStopped": "errors",
    "UNetShape": "network.unet",
    "build": "presets",
    "check_dataset": "data.check",
    "import_dataset": "importers",
    "make_loss": "losses.make",
    "train": "fit.train",
    "write_dataset": "data.arrays",
    "write_synthetic_dataset": "data.synth",
}

__all__ = [
    "PRESETS",
    "DataError",
    "DatasetReport",
    "DeepLabShape",
    "DivergedError",
    "EpochRecord",
    "FCNShape",
    "ImportProblemsError",
    "LoaderError",
    "Preset",
    "Progress",
    "Recipe",
    "ResumeError",
    "SegNetShape",
    "Shape",
    "Silent",
    "SynthSize",
    "TrainConfig",
    "TrainingStopped",
    "UNetShape",
    "build",
    "check_dataset",
    "import_dataset",
    "make_loss",
    "train",
    "write_dataset",
    "write_synthetic_dataset",
]


# Keras reads it when it is loaded: of its backends, only TensorFlow is used here.
os.environ["KERAS_BACKEND"] = "tensorflow"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'training' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"training.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
