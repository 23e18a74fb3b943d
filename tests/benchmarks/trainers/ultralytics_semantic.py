"""Train Ultralytics' semantic segmentation, YOLO26n-sem from its yaml, with its defaults except the size of the images.

Its network answers at an eighth of the input, so small things need a large input; its default is 640. Ultralytics is
AGPL-3.0: nothing of ours imports it, and only this benchmark runs it.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import cv2
import given
import numpy as np
import yaml


def main() -> None:
    parser = given.arguments(__doc__)
    parser.add_argument("--imgsz", type=int, required=True, help="long side of the input in pixels")
    args = parser.parse_args()
    out = args.out.resolve()
    # Set before the import: its settings stay in the folder, and it neither downloads nor installs anything.
    os.environ |= {"YOLO_CONFIG_DIR": str(out), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(args.threads)
    start = time.monotonic()
    data = write_data(args.data, out / "data")
    model = YOLO("yolo26n-sem.yaml", task="semantic")
    model.train(
        data=str(data),
        time=args.minutes / 60,
        imgsz=args.imgsz,
        seed=args.seed,
        device="cpu",
        pretrained=False,
        plots=False,
        workers=args.threads,
        project=str(out),
        name="run",
    )
    train_s = time.monotonic() - start
    best = YOLO(out / "run/weights/best.pt")
    size = letterbox_size(args.data, args.imgsz)
    file = Path(best.export(format="onnx", imgsz=size, simplify=False, device="cpu"))
    given.write_card(
        args.out,
        model=str(file.relative_to(out)),
        output=None,
        size=size,
        color="rgb",
        layout="nchw",
        divisor=255,
        fit="letterbox",
        parameters=sum(weight.numel() for weight in best.model.parameters()),
        epochs=len((out / "run/results.csv").read_text().splitlines()) - 1,
        train_s=train_s,
    )


def write_data(data: Path, copy: Path) -> Path:
    """Copy the splits that train, because Ultralytics writes beside the images, and write its kind of data.yaml."""
    for split in ("train", "val"):
        shutil.copytree(data / split, copy / split)
    classes, ignore_id = given.read_config(data)
    config = {
        "path": str(copy),
        "train": "train/images",
        "val": "val/images",
        "masks_dir": "masks",
        "names": dict(enumerate(classes)),
    }
    if ignore_id is not None:
        config["label_mapping"] = {ignore_id: "ignore_label"}
    (copy / "data.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return copy / "data.yaml"


def letterbox_size(data: Path, imgsz: int) -> list[int]:
    """Return the height and width that hold the median training image at this long side, in multiples of 32."""
    shapes = [cv2.imread(str(path)).shape[:2] for path in sorted((data / "train/images").iterdir())]
    sides = np.median(shapes, axis=0)
    return [int(np.ceil(side * imgsz / sides.max() / 32)) * 32 for side in sides]


if __name__ == "__main__":
    main()
