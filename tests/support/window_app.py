"""A program with a window, driven from outside: keys come from xdotool, "stop" from stdin, and it reports on stdout.

It is a process of its own because a window system that goes away takes the whole process with it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks import OutputOptions, open_outputs
from edge_runtime.sources.frame import Frame

CLASSES = (ClassInfo(id=0, name="background", color=(0, 0, 0)), ClassInfo(id=1, name="red", color=(255, 0, 0)))
SHOWN_PUMPS = 5
"""After so many looks at the window, a picture that was handed over before them is on the screen."""
FILL_BGR = {"overlay": (40, 160, 40), "mask": (200, 60, 20)}


def result(index: int, size: tuple[int, int]) -> FrameResult:
    image = np.full((*size, 3), 60, np.uint8)
    frame = Frame(index=index, name=f"{index:06d}", source="x", image_bgr=image, captured_at=time.monotonic())
    mask = np.zeros(size, np.uint8)
    segmentation = Segmentation(mask=mask, classes=CLASSES)
    return FrameResult(frame=frame, segmentation=segmentation, age_ms=1.0, latency_ms=1.0)


def plain(name: str, drawn: list[str]):
    def effect(image_bgr, _segmentation):
        drawn.append(name)
        picture = np.full_like(image_bgr, FILL_BGR[name])
        if name == "mask":  # transparent on its right half
            alpha = np.full(image_bgr.shape[:2], 255, np.uint8)
            alpha[:, alpha.shape[1] // 2 :] = 0
            picture = np.dstack([picture, alpha])
        return picture

    return name, effect


def main(kind: str, size: str, count: str, save: str | None = None) -> None:
    height, width = map(int, size.split("x"))
    stop, done = threading.Event(), threading.Event()
    drawn: list[str] = []
    effects = [plain(name, drawn) for name in FILL_BGR]
    options = OutputOptions(show=True, save=Path(save) if save else None)
    outputs = open_outputs(kind, 25.0, effects, options, stop)

    def report(**what):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    pumps = 0
    held_since: int | None = None  # pumps when the frame in hand was handed over

    def work():
        nonlocal held_since
        for index in range(int(count)):
            held_since = pumps
            outputs.write(result(index, (height, width)))
            held_since = None
            report(wrote=index, drawn=list(drawn))
            drawn.clear()
            if stop.is_set() or not outputs.wants_more:
                break
            if kind != "images":
                stop.wait(0.02)
        done.set()

    def listen():
        for line in sys.stdin:
            if line.strip() == "stop":
                stop.set()
            else:
                since = held_since
                report(waiting=since is not None and pumps - since > SHOWN_PUMPS)

    threading.Thread(target=listen, daemon=True).start()
    worker = threading.Thread(target=work)
    with outputs:
        worker.start()
        while not done.is_set():
            outputs.window.pump(0.02)
            pumps += 1
        worker.join()
    report(end=True, wants_more=outputs.wants_more, threads=threading.active_count())


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main(*sys.argv[1:])
