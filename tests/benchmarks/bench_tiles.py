"""Compare masks from tiles with masks from the whole image, by the same weights in a network with a larger input.

    python tests/benchmarks/bench_tiles.py RUN PICTURES [--overlaps 0 0.25 0.5 0.75]

RUN is a training run of the `edge` preset; its network is built again for 512×512 and 768×768 pixels and exported with
the same weights. PICTURES is a folder of photographs, which are enlarged, or shrunk and joined to mosaics. The table
has the share of pixels with the same class in tiles of the trained size and in the whole image, per overlap of tiles.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Segmenter
from edge_runtime.image import image_files, read_image
from edge_runtime.model.session import Session
from edge_runtime.segment.tiled import TiledSegmenter
from export.convert import convolution_layers, trace
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.optimise import optimise
from export.run_folder import read_run
from training.presets import PRESETS

OPSET = 17
SIZES = (512, 768)
PICTURES = 5
MOSAIC_CELLS = (200, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75])
    args = parser.parse_args()
    run = read_run(args.run)
    c = run.contract
    trained = with_precise_means(read_model(run.checkpoint))
    segmenters = {}
    for size in ((c.height_px, c.width_px), *((size, size) for size in SIZES)):
        model = PRESETS["edge"].shape.build(
            height_px=size[0],
            width_px=size[1],
            channels=c.channels,
            logit_channels=c.logit_channels,
        )
        model.set_weights(trained.get_weights())
        contract = replace(c, height_px=size[0], width_px=size[1])
        graph = optimise(trace(model, OPSET), contract, convolution_layers(model))[-1].model
        segmenters[size] = Segmenter(Session(graph.SerializeToString(), f"{size}", contract), "fp32")
    sets = picture_sets(image_files(args.pictures))
    names = "".join(f"{name:>14}" for name in sets)
    print(f"{'overlap':>8}{names}{'mean':>9}")
    for overlap in args.overlaps:
        tiled = TiledSegmenter(segmenters[c.height_px, c.width_px], overlap=overlap)
        shares = [
            np.mean([(tiled(image).mask == segmenters[image.shape[:2]](image).mask).mean() for image in images])
            for images in sets.values()
        ]
        print(f"{overlap:>8}" + "".join(f"{share:>14.2%}" for share in shares) + f"{np.mean(shares):>9.2%}", flush=True)


def picture_sets(files: list[Path]) -> dict[str, list[NDArray[np.uint8]]]:
    """Return images of each size, (size, size, 3) uint8 BGR: enlarged photographs, and mosaics of small ones."""
    chosen = np.random.default_rng(0)
    sets = {}
    for size in SIZES:
        step = max(1, len(files) // PICTURES)
        sets[f"{size} enlarged"] = [
            np.asarray(cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
            for path in files[::step][:PICTURES]
        ]
        for cell in MOSAIC_CELLS:
            sets[f"{size} of {cell}"] = [mosaic(size, cell, files, chosen) for _ in range(PICTURES)]
    return sets


def mosaic(size: int, cell: int, files: list[Path], chosen: np.random.Generator) -> NDArray[np.uint8]:
    picture = np.empty((size, size, 3), np.uint8)
    for top in range(0, size, cell):
        for left in range(0, size, cell):
            part = read_image(files[chosen.integers(len(files))])
            part = cv2.resize(part, (cell, cell), interpolation=cv2.INTER_AREA)
            picture[top : top + cell, left : left + cell] = part[: size - top, : size - left]
    return picture


if __name__ == "__main__":
    main()
