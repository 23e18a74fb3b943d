"""Compare a network's latency with all graph passes and with some left out, for what each of them gains.

    python tests/benchmarks/bench_passes.py --preset selfie --input-size 240x320 --without gates
    python tests/benchmarks/bench_passes.py --preset edge --input-size 256x320 --encoder mobilenetv3small

The weights are random, which does not change the time. Each graph runs in its own process; they take turns.
Milliseconds are of this machine, so read the ratios.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from turns import onnx_runner, serve, table, take_turns

from edge_runtime.commands.arguments import parse_size
from edge_runtime.model.contract import ClassInfo, Contract
from export.passes import OPTIONAL_PASSES
from training.presets import PRESETS

NEW = ("hard-sigmoid", "means", "gates", "skips")
"""Passes that are left out one by one and together by default: those for gates and squeeze-and-excitation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="selfie")
    parser.add_argument("--encoder", help="keras.applications backbone, with random weights")
    parser.add_argument("--input-size", type=parse_size, default=(240, 320))
    parser.add_argument("--without", choices=OPTIONAL_PASSES, action="append", help="passes to try (may be repeated)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.time:
        serve(onnx_runner(args.time, args.threads))
        return
    tried = tuple(args.without or NEW)
    cases = {"all passes": (), **{f"without {name}": (name,) for name in tried}}
    if len(tried) > 1:
        cases[f"without {', '.join(tried)}"] = tried
    with tempfile.TemporaryDirectory() as folder:
        paths = write_graphs(args, cases, Path(folder))
        commands = {name: [__file__, "--time", path, "--threads", args.threads] for name, path in paths.items()}
        found = take_turns(commands, args.rounds)
    print(f"{args.preset} {args.encoder or ''} {args.input_size[0]}x{args.input_size[1]}, {args.threads} threads")
    print(table(found, list(cases)[-1]))


def write_graphs(args: argparse.Namespace, cases: dict[str, tuple[str, ...]], folder: Path) -> dict[str, Path]:
    """Write the graph of each case and return the paths."""
    from export.convert import convolution_layers, trace
    from export.keras_model.convertible import with_precise_means
    from export.optimise import optimise
    from training.network.deploy import deployable

    height, width = args.input_size
    shape = PRESETS[args.preset].shape
    if args.encoder:
        shape = replace(shape, encoder=args.encoder)
    trained = shape.build(height_px=height, width_px=width, channels=3, logit_channels=1, for_training=True)
    model = with_precise_means(deployable(trained, shape, (height, width)))
    classes = tuple(ClassInfo(id=i, name=name, color=(0, 0, 0)) for i, name in enumerate(("background", "person")))
    contract = Contract(
        name="bench", height_px=height, width_px=width, channels=3, binary=True, classes=classes, ignore_id=None
    )
    raw, layers = trace(model, 17), convolution_layers(model)
    paths = {}
    for number, (name, without) in enumerate(cases.items()):
        paths[name] = folder / f"{number}.onnx"
        paths[name].write_bytes(optimise(raw, contract, layers, without=without)[-1].model.SerializeToString())
    return paths


if __name__ == "__main__":
    main()
