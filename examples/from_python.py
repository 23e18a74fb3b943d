"""Draw a small dataset, train on it, export the model and segment a picture: the whole way from Python.

python examples/from_python.py WORK [EPOCHS]

WORK is a new folder for the dataset, the run, the package and the results. The default of 100 epochs takes about two
minutes on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_runtime import OutputOptions, RunConfig, Segmenter, evaluate_dataset, execute
from export import ExportConfig, export_package
from training import SynthSize, TrainConfig, train, write_synthetic_dataset

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
work = Path(sys.argv[1])
epochs = int(sys.argv[2]) if len(sys.argv) == 3 else 100
data, run, package = work / "data", work / "run", work / "package"

write_synthetic_dataset(data, seed=1, size=SynthSize(train=64, val=8, test=4, video_frames=1))
train(data, run, TrainConfig.from_preset("edge-nano", input_size=(64, 96), epochs=epochs, batch_size=8))
export_package(ExportConfig(run=run, out=package, int8="off"))

evaluation = evaluate_dataset(Segmenter.load(package), data, "test")
print(f"mean IoU {evaluation.mean_iou:.3f} on {evaluation.images} test images")

picture = sorted((data / "test" / "images").iterdir())[0]
summary = execute(RunConfig(package=package, source=picture, output=OutputOptions(save=work / "results")))
print(f"{summary['processed']} picture segmented: see {work / 'results'}")
