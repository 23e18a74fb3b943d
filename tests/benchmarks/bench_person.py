"""Compare the shipped person models with MediaPipe's selfie segmentation: accuracy, empty pictures, video, latency.

    python tests/benchmarks/bench_person.py --data my-data --peers build/person [--package PACKAGE]

DATA holds ``person_vs_val``, ``person_pool`` and ``video``; PEERS the two .tflite files. Accuracy: mean over the
pictures of the IoU of the person, threshold 0.5, at 256x256, as they are and cut to 16:9. Empty pictures: share of the
pixels that are called person, on pictures of clothes that nobody trained on, and on frames of a room with nobody in it.
Video: of 1,000 pixels that stand still, those whose class changes from frame to frame, see ``flicker``, without and
with each side's own smoothing. Latency: the model alone, 2 threads, one process per engine, taking turns, median.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_smoothing import frames_of
from flicker import FlickerCounts, FlickerMeter
from numpy.typing import NDArray
from turns import onnx_runner, serve, take_turns

from edge_runtime import RefinedSegmenter, Segmenter
from edge_runtime.dataset.metrics import BoundaryCounts, boundary_counts
from edge_runtime.image import image_files, read_image
from edge_runtime.models import SHIPPED

Finder = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Function from (H, W, 3) BGR uint8 to the probability of a person, (h, w) float32."""
Picture = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]
"""Name, (H, W, 3) BGR uint8, and (H, W) uint8 with more than 127 where a person is."""
SCORED_PX = 256
HELD_OUT = 4
"""Every so many of the pictures of clothes is not trained on; see examples/person/make_dataset.py."""
EMPTY = frozenset((*range(0, 55, 5), *range(460, 500, 5)))
"""Numbers of frames of the video of a room with nobody in it."""
PEER_RATIO = 0.9
"""MediaPipe's combine_with_previous_ratio."""
ROUNDS, THREADS = 60, 2
PEERS = {"MediaPipe 256x256": "selfie_segmentation.tflite", "MediaPipe 144x256": "selfie_segmentation_landscape.tflite"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument(
        "--package", type=Path, action="append", help="default: those that come with the runtime; may be repeated"
    )
    parser.add_argument("--only", choices=("accuracy", "empty", "video", "latency"), action="append")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--time", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.time:
        serve(runner(args.time[0], Path(args.time[1])))
        return
    packages = args.package or list(SHIPPED.values())
    engines = {name: ("peer", args.peers / file) for name, file in PEERS.items() if (args.peers / file).exists()}
    engines |= {f"ours {'/'.join(package.parts[-2:])}": ("ours", package) for package in packages}
    found: dict[str, dict[str, float]] = {name: {} for name in engines}
    ious: dict[str, dict[str, float]] = {}
    parts = args.only or ["accuracy", "empty", "video", "latency"]
    pictures = list(scored(args.data / "person_vs_val")) if "accuracy" in parts else []
    cut = [wide(*picture) for picture in pictures]
    for name, (kind, path) in engines.items() if parts != ["latency"] else ():
        find = finder(kind, path)
        if "accuracy" in parts:
            ious[name], found[name]["edge F"] = accuracy(find, pictures)
            found[name]["IoU"] = statistics.mean(ious[name].values())
            found[name]["IoU 16:9"] = statistics.mean(accuracy(find, cut)[0].values())
        if "empty" in parts:
            clothes = image_files(args.data / "person_pool" / "empty_clothing")[::HELD_OUT]
            found[name]["clothes"] = called_person(find, [read_image(file) for file in clothes])
            found[name]["room"] = called_person(find, empty_frames(args.data / "video"))
        if "video" in parts:
            found[name]["flicker"], found[name]["smoothed"] = flicker(kind, path, args.data / "video")
    if "latency" in parts:
        command = [__file__, "--data", ".", "--peers", ".", "--time"]
        times = take_turns({name: [*command, kind, path] for name, (kind, path) in engines.items()}, ROUNDS)
        for name, row in found.items():
            row["ms"], row["min ms"] = statistics.median(times[name]), min(times[name])
    columns = list(next(iter(found.values())))
    print(f"{'':<24}" + "".join(f"{column:>10}" for column in columns))
    for name, row in found.items():
        print(f"{name:<24}" + "".join(f"{row[column]:>10.4f}" for column in columns))
    if ious:
        print(f"\n{'IoU by condition':<36}{'pictures':>8}" + "".join(f"{name:>20}" for name in ious))
        for condition, names in conditions(pictures).items():
            means = [statistics.mean(of[name] for name in names) for of in ious.values()]
            print(f"{condition:<36}{len(names):>8}" + "".join(f"{mean:>20.4f}" for mean in means))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def finder(kind: str, path: Path) -> Finder:
    """Return a function that finds persons with the model of a file or package."""
    if kind == "ours":
        segmenter = Segmenter.load(path)
        return lambda image_bgr: segmenter.probabilities(image_bgr)[..., -1]
    interpreter, entry, result = opened(path)
    height, width = entry["shape"][1:3]

    def find(image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen = cv2.resize(image_bgr, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(entry["index"], seen[np.newaxis, ..., ::-1].astype(np.float32) / np.float32(255))
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result["index"])[0, ..., 0])

    return find


def opened(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return LiteRT's interpreter of a file, and the details of its input and output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    return interpreter, interpreter.get_input_details()[0], interpreter.get_output_details()[0]


def accuracy(find: Finder, pictures: list[Picture]) -> tuple[dict[str, float], float]:
    """Return the IoU of the person in each picture, by its name, and the boundary F over all pictures."""
    ious, borders = {}, BoundaryCounts()
    for name, image_bgr, mask in pictures:
        truth = truth_of(mask)
        said = cv2.resize(find(image_bgr), (SCORED_PX, SCORED_PX)) > 0.5
        ious[name] = float((said & truth).sum() / max(1, (said | truth).sum()))
        borders += boundary_counts(truth.astype(np.uint8), said.astype(np.uint8), 2)
    return ious, borders.f_score


def truth_of(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where the person is, (256, 256)."""
    return np.asarray(cv2.resize(mask, (SCORED_PX, SCORED_PX), interpolation=cv2.INTER_AREA) > 127)


def scored(folder: Path) -> Iterator[Picture]:
    """Yield the pictures with their masks."""
    for image in image_files(folder / "images"):
        mask = cv2.imread(str(folder / "masks" / f"{image.stem}.png"), cv2.IMREAD_GRAYSCALE)
        yield image.name, read_image(image), np.asarray(mask, np.uint8)


def wide(name: str, image_bgr: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Picture:
    """Return the part of a picture of 16:9 that has the most of the person."""
    height, width = mask.shape
    rows, columns = min(height, width * 9 // 16), min(width, height * 16 // 9)
    person = mask > 127
    top, left = (most(person.sum(axis), size) for axis, size in ((1, rows), (0, columns)))
    part = np.s_[top : top + rows, left : left + columns]
    return name, np.ascontiguousarray(image_bgr[part]), np.ascontiguousarray(mask[part])


def most(counts: NDArray[np.int64], size: int) -> int:
    """Return where the part of a length begins that has the largest sum."""
    return int(np.convolve(counts, np.ones(size), "valid").argmax())


def conditions(pictures: list[Picture]) -> dict[str, set[str]]:
    """Return the names of the pictures of each condition: distance, number of persons, light."""
    found: dict[str, set[str]] = {}
    for picture, image_bgr, mask in pictures:
        truth = truth_of(mask)
        grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        share = truth.mean()
        _, _, stats, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8))
        several = (stats[1:, cv2.CC_STAT_AREA] > 0.01 * truth.size).sum() > 1
        inside = cv2.resize(grey, (SCORED_PX, SCORED_PX), interpolation=cv2.INTER_AREA)
        person, around = (float(inside[part].mean()) if part.any() else 0.0 for part in (truth, ~truth))
        met = {
            "far (person on less than 10 %)": share < 0.1,
            "middle (10 to 30 %)": 0.1 <= share < 0.3,
            "near (30 % and more)": share >= 0.3,
            "several persons apart": several,
            "dark (mean grey below 80)": grey.mean() < 80,
            "backlit (person darker by 60)": person < around - 60,
        }
        for name, is_met in met.items():
            found.setdefault(name, set()).update({picture} if is_met else ())
    return found


def called_person(find: Finder, images: list[NDArray[np.uint8]]) -> float:
    """Return the share of the pixels that are called person, in percent."""
    return 100 * statistics.mean(float((find(image) > 0.5).mean()) for image in images)


def empty_frames(folder: Path) -> list[NDArray[np.uint8]]:
    """Return frames of the room with nobody in it."""
    frames = frames_of(folder / "intel_one-by-one-person-detection.mp4")
    return [frame for number, frame in enumerate(frames) if number in EMPTY]


def flicker(kind: str, path: Path, folder: Path) -> tuple[float, float]:
    """Return how many of 1,000 still pixels change their class from frame to frame, without and with smoothing."""
    plain, smooth = FlickerCounts(), FlickerCounts()
    find = finder(kind, path)
    segmenter = Segmenter.load(path) if kind == "ours" else None
    for video in sorted(folder.glob("intel_asl_*.mkv")):
        before, after, average = FlickerMeter(), FlickerMeter(), None
        smoother = None if segmenter is None else RefinedSegmenter(segmenter, smooth=True)
        for frame in frames_of(video):
            found = find(frame)
            before.add(mask_of(found, frame), frame)
            if smoother is not None:
                after.add(smoother(frame).mask, frame)
            else:
                average = found if average is None else mediapipe_smoothed(found, average)
                after.add(mask_of(average, frame), frame)
        plain, smooth = plain + before.counts, smooth + after.counts
    return plain.changed_per_mille, smooth.changed_per_mille


def mask_of(probability: NDArray[np.float32], frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mask of a frame at its size."""
    height, width = frame.shape[:2]
    return (cv2.resize(probability, (width, height)) > 0.5).astype(np.uint8)


def mediapipe_smoothed(new: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what MediaPipe's SegmentationSmoothingCalculator makes of a frame: the less certain, the more of before."""
    x = (new - 0.5) ** 2
    certain = x * (5.68842 + x * (-0.748699 + x * (-57.8051 + x * (291.309 + x * -624.717))))
    return new + (before - new) * (1 - np.minimum(1, certain)) * PEER_RATIO


def runner(kind: str, path: Path) -> Callable[[], object]:
    """Return a function that runs a model alone."""
    if kind == "peer":
        interpreter, entry, result = opened(path)
        image = np.random.default_rng(0).random(entry["shape"], np.float32)

        def once() -> object:
            interpreter.set_tensor(entry["index"], image)
            interpreter.invoke()
            return interpreter.get_tensor(result["index"])

        return once
    return onnx_runner(path / "model.onnx", THREADS, ["logits"])


if __name__ == "__main__":
    main()
