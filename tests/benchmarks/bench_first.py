"""Measure the first mask of a picture: `edge-unet run` beside a ten-line script, from the start of the process to its end.

    python tests/benchmarks/bench_first.py models/person photo.jpg [--rounds 15]

Both read one picture, segment it with the same ONNX file, and write the mask and the picture under a coloured mask. The
two take turns. The table has the median of wall time, of processor time and of peak memory, and the ratio to the script.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from edge_runtime import Segmenter
from edge_runtime.model.package import Package

SCRIPT = """\
import sys
import cv2, numpy as np, onnxruntime
model, picture, out = sys.argv[1:]
image = cv2.imread(picture)
session = onnxruntime.InferenceSession(model)
_, height, width, channels = session.get_inputs()[0].shape
small = cv2.resize(image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (width, height))
mask = session.run(["mask"], {"image": small.reshape(1, height, width, channels)})[0][0]
mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
colors = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
cv2.imwrite(out + "/mask.png", mask)
cv2.imwrite(out + "/overlay.jpg", cv2.addWeighted(image, 0.5, colors[mask], 0.5, 0))
"""


class Used(NamedTuple):
    """What a process used.

    Attributes:
        wall_s: Wall time in seconds.
        processor_s: Processor time in seconds.
        peak_mib: Largest resident memory in MiB.
    """

    wall_s: float
    processor_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        commands = {
            "script": [sys.executable, "-c", SCRIPT, str(model_file(args.package)), str(args.picture), temporary],
            "edge-unet run": [
                *(str(Path(sys.executable).with_name("edge-unet")), "run", str(args.package)),
                *("--source", str(args.picture), "--save", f"{temporary}/saved"),
            ],
        }
        found: dict[str, list[Used]] = {name: [] for name in commands}
        for number in range(args.rounds + 1):
            for name, command in commands.items():
                used = measured(command)
                if number:  # the first round fills the page cache
                    found[name].append(used)
    medians = {name: Used(*map(statistics.median, zip(*each, strict=True))) for name, each in found.items()}
    script = medians["script"]
    print(f"median of {args.rounds} rounds   {'wall':>16} {'processor':>17} {'peak memory':>20}")
    for name, used in medians.items():
        wall, processor, peak = (each / base for each, base in zip(used, script, strict=True))
        print(
            f"{name:<20} {used.wall_s:>9.3f} s {wall:>6.2f} {used.processor_s:>8.3f} s {processor:>6.2f} "
            f"{used.peak_mib:>9.1f} MiB {peak:>6.2f}"
        )


def model_file(folder: Path) -> Path:
    """Return the ONNX file that the runtime chooses."""
    return folder / Package.open(folder).manifest.variants[Segmenter.load(folder).variant].file


def measured(command: list[str]) -> Used:
    """Run a command to its end."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        _, status, used = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{command} exited with {child.returncode}"
    return Used(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
