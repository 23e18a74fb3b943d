"""Frames and results made by hand, what was written read back, and a disk that is full without one."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager

import cv2
import numpy as np
from colors import COLOR_CLASSES

from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sources.frame import Frame


def frame(index=0, *, name=None, size=(48, 64), at=None, flags=()):
    """Return a grey frame whose brightness is told by its index, ten a second."""
    image = np.full((*size, 3), (index * 7) % 256, np.uint8)
    return Frame(
        index=index,
        name=name or f"{index:06d}",
        source="x",
        image_bgr=image,
        captured_at=index / 10 if at is None else at,
        flags=flags,
    )


def result(number=0, **options):
    """Return the result for such a frame: blue on the left, background on the right."""
    of = frame(number, **options)
    mask = np.zeros(of.image_bgr.shape[:2], np.uint8)
    mask[:, : mask.shape[1] // 2] = 2
    segmentation = Segmentation(mask=mask, classes=COLOR_CLASSES)
    return FrameResult(frame=of, segmentation=segmentation, age_ms=2.5, latency_ms=1.23456)


def frames_of(path):
    """Return the pictures of a video file and its rate."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened(), path
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, fps


@contextmanager
def full_disk(limit):
    """No file may grow beyond the limit: what a full disk does, without one."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
