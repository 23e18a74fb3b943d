"""Name the tasks of the accuracy benchmark.

A task is a module of this folder with ``write(folder, seed)``, which writes train/, val/ and test/ with images/ and
masks/ in each, and dataset.yaml. The same seed writes the same files; ``write`` raises ``AbsentError`` where the data
it needs are not on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tasks import camvid, cells, cracks, few, persons, synth, textures, tiles, tiny, twenty


class Task(NamedTuple):
    """One task: the function that writes its dataset, what it is in one line, and the minutes of training per engine."""

    write: Callable[[Path, int], None]
    description: str
    minutes: float


TASKS = {
    "synth": Task(synth.write, "coins, leaves and bolts of `edge-unet data synth`", 8),
    "camvid": Task(camvid.write, "CamVid, 11 classes, tested on a drive that training never saw", 10),
    "persons": Task(persons.write, "persons, tested on photographs of another source", 10),
    "tiles": Task(tiles.write, "grey tiles at four exposures, 71 % without a defect", 10),
    "cracks": Task(cracks.write, "cracks of 1–2 pixels on concrete, 0.5 % of the pixels", 8),
    "tiny": Task(tiny.write, "buoys of 3–6 pixels on the sea, 0.1 % of the pixels", 8),
    "few": Task(few.write, "leaves and stones, 30 images to learn from", 5),
    "twenty": Task(twenty.write, "20 classes: five shapes, each with four surfaces", 10),
    "cells": Task(cells.write, "grey cells with gaps of 1–2 pixels", 6),
    "textures": Task(textures.write, "four textures of equal brightness that fade into each other", 6),
}
"""The tasks by name, in the order in which they run."""
