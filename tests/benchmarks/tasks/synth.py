"""The dataset of `edge-unet data synth`: coins, leaves and bolts on a workbench."""

from __future__ import annotations

from pathlib import Path

from training import SynthSize, write_synthetic_dataset


def write(folder: Path, seed: int) -> None:
    write_synthetic_dataset(folder, seed=seed, size=SynthSize(video_frames=1))
