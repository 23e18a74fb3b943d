"""Choose the directions in which augmentation flips images, from the images."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.dataset.sampling import spread
from edge_runtime.image import read_image
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import read_class_ids
from training.data.orientation import up_and_down
from training.loop.run_record import RunSetup

SAMPLE = 100
"""Number of training images that are measured."""
FEWEST = 40
"""Number of images below which nothing can be told: images without an up may look as if they had one."""
NO_UP = 0.2
"""Agreement on above and below up to which images count as having no up, see ``training.data.orientation``. On tasks
without an up 0.02 to 0.12 was measured; 0.78 on persons, 0.97 on streets."""


def with_flip(
    config: TrainConfig, report: DatasetReport, before: RunSetup | None = None
) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return a configuration with ``flip`` chosen if it was open, and a line with the reason if the classes show no up.

    Args:
        config: Configuration of the run.
        report: The checked dataset.
        before: Setup of an earlier part of the run, whose choice is kept.

    Raises:
        InputError: An image cannot be read any more.
    """
    if config.flip is not None or not config.augment:
        return config, ()
    if before is not None:
        return replace(config, flip=before.config.get("flip")), ()
    pairs = spread(report.dataset.splits.get("train", ()), SAMPLE)
    if len(pairs) < FEWEST:
        return replace(config, flip="horizontal"), ()
    read = ((read_image(pair.image), read_class_ids(pair, report.key)) for pair in pairs)
    found = up_and_down(read, len(report.info.classes))
    if found.classes > NO_UP:
        return replace(config, flip="horizontal"), ()
    if found.brightness > NO_UP:
        return replace(config, flip="horizontal"), (
            "flips: left to right; the classes are alike above and below, but the brightness is not (--flip both if only "
            "the lamp is above, as over a surface)",
        )
    return replace(config, flip="both"), (
        "flips: left to right and upside down, because classes and brightness of the images are alike above and below "
        "(--flip horizontal if their objects have an up)",
    )
