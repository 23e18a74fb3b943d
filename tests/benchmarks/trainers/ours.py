"""Train with `edge-unet train` as it comes, and export with `edge-unet export`."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import given


def main() -> None:
    args = given.arguments(__doc__).parse_args()
    run, package = args.out / "run", args.out / "package"
    start = time.monotonic()
    edge_unet("train", args.data, "--out", run, "--max-minutes", args.minutes, "--seed", args.seed)
    train_s = time.monotonic() - start
    edge_unet("export", run, "--out", package, "--int8", "off")
    manifest = json.loads((package / "manifest.json").read_bytes())
    contract = manifest["contract"]
    given.write_card(
        args.out,
        model=f"package/{manifest['variants']['fp32']['file']}",
        output="logits",
        size=[contract["height_px"], contract["width_px"]],
        color="grey" if contract["channels"] == 1 else "bgr",
        layout="nhwc",
        divisor=1,
        fit="stretch",
        parameters=manifest["parameters"],
        epochs=len((run / "history.csv").read_text().splitlines()) - 1,
        train_s=train_s,
    )


def edge_unet(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "edge_runtime", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
