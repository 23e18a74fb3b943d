"""Draw a video of objects that move over a bench, with one mask per frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.image import encode_png
from edge_runtime.storage import printable, replace_file, temporary_name, translated, write_bytes
from training.data.synth.backgrounds import draw_background
from training.data.synth.light import draw_light
from training.data.synth.objects import CLASS_NAMES, Sprite, draw_sprite
from training.data.synth.scene import REFERENCE_HEIGHT_PX, SUPERSAMPLE, Pose, composite, draw_camera, expose, majority
from training.errors import DataError

VIDEO_HEIGHT_PX, VIDEO_WIDTH_PX, VIDEO_FPS = 240, 320, 25.0
# The pip wheel has no H.264 encoder; VP8 is small, MPEG-4 Part 2 is the fallback. VP8 goes into Matroska and not into
# WebM, because OpenCV has no VP8 tag for WebM: it would write the same file, and a line to stderr at any log level.
_CODECS = (("VP80", ".mkv"), ("mp4v", ".mp4"))
_STREAM = 3


def write_video(folder: Path, masks_path: Path, seed: int, frame_count: int, done: Callable[[], None]) -> Path:
    """Encode a moving scene and write its masks.

    Args:
        folder: folder for the video.
        masks_path: folder for one index mask per frame; created with its parents.
        seed: random seed, 0 or more.
        frame_count: number of frames.
        done: called after each frame.

    Returns:
        The path of the video, whose ending depends on the codec.

    Raises:
        DataError: this OpenCV can encode no video.
        StorageError: a file cannot be written.
    """
    with translated("create", masks_path):
        masks_path.mkdir(parents=True, exist_ok=True)
    writer, draft_path = _open_video(folder)
    path = folder / f"moving{draft_path.suffix}"
    rng = np.random.default_rng([seed, _STREAM, 0])
    height, width = VIDEO_HEIGHT_PX * SUPERSAMPLE, VIDEO_WIDTH_PX * SUPERSAMPLE
    light = draw_light(rng)
    bench = draw_background(rng, height, width, light)
    camera = draw_camera(rng, height, width)
    order = rng.permutation(np.arange(6) % (len(CLASS_NAMES) - 1)) + 1
    actors = [_draw_actor(rng, int(class_id), height, width) for class_id in order]
    try:
        for frame in range(frame_count):
            canvas, labels = bench.copy(), np.zeros((height, width), np.uint8)
            for sprite, start, end in actors:
                pose = _between(start, end, frame / max(frame_count - 1, 1))
                composite(canvas, labels, sprite, pose, light)
            grain = np.random.default_rng([seed, _STREAM, 1 + frame])
            writer.write(expose(grain, canvas, camera))
            mask_path = masks_path / f"{frame:06d}.png"
            write_bytes(mask_path, encode_png(majority(labels), printable(mask_path)))
            done()
        writer.release()
        replace_file(draft_path, path)
    finally:
        writer.release()
        draft_path.unlink(missing_ok=True)
    return path


def _draw_actor(rng: np.random.Generator, class_id: int, height: int, width: int) -> tuple[Sprite, Pose, Pose]:
    """Draw an object and the two ends of its path; either end may lie outside the picture."""
    x, y = rng.uniform(-0.2, 1.2, 2) * width, rng.uniform(-0.1, 1.1, 2) * height
    # Paths from one side to the other, in either direction, so that objects enter, meet and leave.
    x.sort()
    if rng.uniform() < 0.5:
        x = x[::-1]
    angle = rng.uniform(0, 2 * np.pi)
    start = Pose(x_px=x[0], y_px=y[0], angle_rad=angle)
    end = Pose(x_px=x[1], y_px=y[1], angle_rad=angle + rng.uniform(-3, 3))
    return draw_sprite(rng, class_id, height / REFERENCE_HEIGHT_PX), start, end


def _between(start: Pose, end: Pose, part: float) -> Pose:
    return Pose(
        x_px=start.x_px + part * (end.x_px - start.x_px),
        y_px=start.y_px + part * (end.y_px - start.y_px),
        angle_rad=start.angle_rad + part * (end.angle_rad - start.angle_rad),
    )


def _open_video(folder: Path) -> tuple[cv2.VideoWriter, Path]:
    """Open the first codec that this OpenCV build can encode, on a temporary name."""
    for codec, suffix in _CODECS:
        draft_path = temporary_name(folder / f"moving{suffix}")
        writer = cv2.VideoWriter(
            str(draft_path),
            cv2.VideoWriter.fourcc(*codec),
            VIDEO_FPS,
            (VIDEO_WIDTH_PX, VIDEO_HEIGHT_PX),
        )
        if writer.isOpened():
            return writer, draft_path
        writer.release()
        draft_path.unlink(missing_ok=True)
    names = ", ".join(codec for codec, _ in _CODECS)
    raise DataError(
        f"{printable(folder)} — OpenCV {cv2.__version__} opened no video encoder — expected one of {names} — "
        "install the opencv-python wheel, which carries them"
    )
