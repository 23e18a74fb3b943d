"""Export a trained person model, and make of the package one that may be passed on.

    python examples/person/make_package.py runs/person build/person/LICENSE my-data edge_runtime/models/person

The golden frames become pictures that anybody may ship, instead of those that the model was validated on. The report,
which shows validation pictures, and the list of training images are left out; the licence of the weights that the
training started from, and a notice, come in. The manifest has the SHA-256 of all of it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime import Segmenter
from edge_runtime.image import encode_png, read_image
from edge_runtime.model.package import MANIFEST, GoldenFrame, Manifest, Package
from edge_runtime.storage import new_folder, sha256, write_bytes, write_json
from export import ExportConfig, export_package

GOLDEN = (
    "gsa_18f/grace-hopper.jpg",
    "gsa_18f/ada-lovelace.jpg",
    "empty_clothing/216f2433-a511-4834-9b8c-d01bc926d5d4.jpg",
)
"""Pictures below ``person_pool`` for the self-test: a work of the US government, a painting of 1836, and a CC0 picture."""
NOTICE = """\
edge-unet person: a person segmentation model

This model is derived from MediaPipe Selfie Segmentation (https://developers.google.com/mediapipe), Copyright The
MediaPipe Authors, licensed under the Apache License, Version 2.0; see the file LICENSE. Its authors do not endorse this
project.

Changes: the network was rebuilt in Keras with an input of another size and shape, trained further on other pictures,
mixed with the original weights, and converted to ONNX. docs/models/person.md of the Edge U-Net project names the
pictures and says how it was done.
"""


def main() -> None:
    """Export, replace, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "licence", type=Path, metavar="LICENSE", help="licence of the weights that the run started from"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the photographs")
    parser.add_argument("out", type=Path, metavar="PACKAGE", help="model package folder to write or to replace")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / args.out.name
        export_package(ExportConfig(run=args.run, out=exported))
        manifest = shippable(exported, args.out, args.licence, args.data / "person_pool")
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {', '.join(manifest.variants)}; {size / 1e6:.2f} MB")


def shippable(exported: Path, out: Path, licence: Path, pictures: Path) -> Manifest:
    """Write the package that may be passed on, and return its manifest."""
    package = Package.open(exported)
    segmenters = {name: Segmenter.load(exported, variant=name) for name in package.manifest.variants}
    with new_folder(out, overwrite=True, is_ours=lambda there: (there / MANIFEST).is_file()) as folder:
        for file in (*(variant.file for variant in package.manifest.variants.values()), "model.app.onnx"):
            shutil.copyfile(exported / file, folder / file)
        write_bytes(folder / "LICENSE", licence.read_bytes())
        write_bytes(folder / "NOTICE", NOTICE.encode())
        (folder / "golden").mkdir()
        golden = tuple(golden_frame(folder, number, pictures / name, segmenters) for number, name in enumerate(GOLDEN))
        models = {variant.file for variant in package.manifest.variants.values()}
        paths = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
        files = {name: sha256(folder / name) for name in paths if name not in models}
        manifest = replace(package.manifest, golden=golden, files=files)
        write_json(folder / MANIFEST, manifest.to_dict())
    Package.open(out)
    return manifest


def golden_frame(folder: Path, number: int, picture: Path, segmenters: dict[str, Segmenter]) -> GoldenFrame:
    """Write a picture and the mask that each variant computes for it."""
    image_bgr = np.ascontiguousarray(read_image(picture))
    image = f"golden/{number}.png"
    write_bytes(folder / image, encode_png(image_bgr, image))
    masks = {}
    for name, segmenter in segmenters.items():
        masks[name] = f"golden/{number}{'' if name == 'fp32' else f'.{name}'}.mask.png"
        write_bytes(folder / masks[name], encode_png(segmenter(image_bgr).mask, masks[name]))
    return GoldenFrame(image=image, masks=masks)


if __name__ == "__main__":
    main()
