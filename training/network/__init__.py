"""Networks: a frozen shape that needs no Keras, and the layers that are built from it.

Reading order: ``shape`` (what every shape can do), one file per architecture, and what those are built with: ``blocks``,
``encoders`` (backbones of ``keras.applications``), ``deploy`` (from the trained network to the saved one), ``frame`` (input
and output).
"""

from __future__ import annotations

from training.network.shape import Shape
from training.network.unet import UNetShape

ARCHITECTURES: dict[str, type[Shape]] = {"unet": UNetShape}
"""Every kind of network by name; each has at least one preset."""
