"""Synthetic segmentation dataset: coins, leaves and bolts lying on a workbench.

The pictures are shaded from height maps under one light per scene, in linear light at twice the final size, so that
edges, highlights and shadows behave like those of a photograph. The mask is the majority class of each final pixel; a
shadow has the class of the surface it falls on. Reading order: texture, light, backgrounds, objects, scene, video,
dataset.
"""

from training.data.synth.dataset import (
    DEFAULT_SIZE,
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    SynthSize,
    SynthSummary,
    write_synthetic_dataset,
)
from training.data.synth.objects import CLASS_COLORS_RGB, CLASS_NAMES
from training.data.synth.scene import render_scene
from training.data.synth.video import VIDEO_FPS, VIDEO_HEIGHT_PX, VIDEO_WIDTH_PX

__all__ = [
    "CLASS_COLORS_RGB",
    "CLASS_NAMES",
    "DEFAULT_SIZE",
    "IMAGE_HEIGHT_PX",
    "IMAGE_WIDTH_PX",
    "VIDEO_FPS",
    "VIDEO_HEIGHT_PX",
    "VIDEO_WIDTH_PX",
    "SynthSize",
    "SynthSummary",
    "render_scene",
    "write_synthetic_dataset",
]
