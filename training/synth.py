"""Synthetic segmentation dataset: coins, leaves and bolts lying on a workbench.

The pictures are shaded from height maps under one light per scene, in linear light at twice the
final size, so that edges, highlights and shadows behave like those of a photograph. The mask is
the majority class of each final pixel; a shadow belongs to whatever it falls on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.storage import printable, replace_file, temporary_name, translated, write_bytes
from training.errors import DataError

CLASS_NAMES = ("background", "coin", "leaf", "bolt")
CLASS_COLORS_RGB = ((0, 0, 0), (255, 176, 0), (0, 158, 115), (86, 120, 233))
IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX = 192, 256
VIDEO_HEIGHT_PX, VIDEO_WIDTH_PX, VIDEO_FPS = 240, 320, 25.0

# The pip wheel has no H.264 encoder; VP8 plays in browsers and VLC, MPEG-4 Part 2 is the fallback.
_VIDEO_CODECS = (("VP80", ".webm"), ("mp4v", ".mp4"))
_SUPERSAMPLE = 2
_EMPTY_EVERY = 12
_VIDEO_STREAM = 3

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_Tint = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthSize:
    """Number of pictures in each part of the dataset.

    Attributes:
        train: image and mask pairs in ``train/``.
        val: image and mask pairs in ``val/``.
        test: image and mask pairs in ``test/``.
        video_frames: frames of the video, each with a mask.
    """

    train: int = 240
    val: int = 40
    test: int = 60
    video_frames: int = 125

    def __post_init__(self) -> None:
        for name in ("train", "val", "test", "video_frames"):
            count = getattr(self, name)
            if count < 1:
                raise DataError(f"SynthSize.{name} — found {count} — expected at least 1 — ask for more pictures")

    @property
    def image_count(self) -> int:
        """Stills and video frames together: how often ``on_image`` is called."""
        return self.train + self.val + self.test + self.video_frames


DEFAULT_SIZE = SynthSize()
TOTAL_IMAGES = DEFAULT_SIZE.image_count


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthSummary:
    """What ``write_synthetic_dataset`` wrote.

    Attributes:
        root: the dataset folder.
        config_path: ``root/dataset.yaml``.
        video_path: the encoded video.
        video_masks_path: folder with one index mask per video frame.
        size: counts per part.
    """

    root: Path
    config_path: Path
    video_path: Path
    video_masks_path: Path
    size: SynthSize


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """One lamp: unit direction towards it (x right, y down, z to the camera), colour, ambient."""

    direction: tuple[float, float, float]
    color_bgr: Floats
    ambient: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sprite:
    """One object in its own frame, square, centred, in supersampled pixels.

    Attributes:
        class_id: index into ``CLASS_NAMES``.
        shape: (S, S, 2) coverage 0-1 and height above the bench in pixels.
        albedo_bgr: (S, S, 3) linear reflectance 0-1.
        metallic: 0 for a leaf, 1 for bare metal.
        thickness_px: how far it stands off the bench, which sets the shadow's length.
    """

    class_id: int
    shape: Floats
    albedo_bgr: Floats
    metallic: float
    thickness_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pose:
    """Where a sprite's centre lies (supersampled pixels) and how it is turned (radians)."""

    x_px: float
    y_px: float
    angle_rad: float


def write_synthetic_dataset(
    root: Path,
    *,
    seed: int = 0,
    size: SynthSize = DEFAULT_SIZE,
    on_image: Callable[[], None] | None = None,
) -> SynthSummary:
    """Write the dataset and its video into a new or empty folder.

    The same seed, size and library versions give the same PNG bytes; the video is encoded lossily.

    Args:
        root: folder to fill; created when it does not exist.
        seed: non-negative; picture i of split s is drawn from ``default_rng([seed, s, i])``.
        size: number of pictures in each part.
        on_image: called after each still and each video frame, ``size.image_count`` times.

    Returns:
        The paths and counts written.

    Raises:
        DataError: root is a file or is not empty, or the video cannot be encoded.
        StorageError: a folder or file cannot be written.
    """
    _require_empty(root)
    done = on_image if on_image is not None else _nothing
    splits = (("train", size.train), ("val", size.val), ("test", size.test))
    for split_index, (split, count) in enumerate(splits):
        _write_split(root / split, [seed, split_index], count, done)
    video_masks_path = root / "video" / "masks"
    video_path = _write_video(root / "video", video_masks_path, seed, size.video_frames, done)
    # Written last: a folder with a dataset.yaml is a complete dataset.
    config_path = root / "dataset.yaml"
    write_bytes(config_path, _config_text().encode())
    return SynthSummary(
        root=root,
        config_path=config_path,
        video_path=video_path,
        video_masks_path=video_masks_path,
        size=size,
    )


def _write_split(folder: Path, stream: list[int], count: int, done: Callable[[], None]) -> None:
    """Write the image and mask pairs of one split; one in ``_EMPTY_EVERY`` is empty, first objects take turns."""
    images_path, masks_path = folder / "images", folder / "masks"
    _make_folder(images_path)
    _make_folder(masks_path)
    for index in range(count):
        image_bgr, mask = render_scene(
            np.random.default_rng([*stream, index]),
            IMAGE_HEIGHT_PX,
            IMAGE_WIDTH_PX,
            object_count=0 if index % _EMPTY_EVERY == _EMPTY_EVERY // 2 else None,
            first_class=1 + index % (len(CLASS_NAMES) - 1),
        )
        _write_png(images_path / f"{index:06d}.png", image_bgr)
        _write_png(masks_path / f"{index:06d}.png", mask)
        done()


def render_scene(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    *,
    object_count: int | None = None,
    first_class: int = 1,
) -> tuple[Bytes, Bytes]:
    """Draw one picture and its mask.

    Args:
        rng: the only source of randomness.
        height_px: height of the picture; objects scale with it.
        width_px: width of the picture.
        object_count: objects to try to place; None draws 2 to 6.
        first_class: class of the first object, so that a caller can balance the classes.

    Returns:
        image_bgr: (H, W, 3) uint8, BGR, 0-255.
        mask: (H, W) uint8, index into ``CLASS_NAMES``; where objects overlap the upper one wins.
    """
    height, width = height_px * _SUPERSAMPLE, width_px * _SUPERSAMPLE
    light = _draw_light(rng)
    canvas = _draw_background(rng, height, width, light)
    labels = np.zeros((height, width), np.uint8)
    count = int(rng.integers(2, 7)) if object_count is None else object_count
    placed: list[tuple[float, float, float]] = []
    for number in range(count):
        class_id = first_class if number == 0 else int(rng.integers(1, len(CLASS_NAMES)))
        sprite = _draw_sprite(rng, class_id, height / 384)
        reach = sprite.shape.shape[0] / 2
        for _ in range(10):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            # Objects may overlap, but none may hide another almost entirely.
            if all(np.hypot(x - px, y - py) > 0.5 * (reach + r) for px, py, r in placed):
                pose = _Pose(x_px=x, y_px=y, angle_rad=rng.uniform(0, 2 * np.pi))
                _composite(canvas, labels, sprite, pose, light)
                placed.append((x, y, reach))
                break
    return _expose(rng, canvas, _draw_camera(rng, height, width)), _majority(labels)


def _draw_light(rng: np.random.Generator) -> _Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.95)
    warmth = rng.uniform(-0.12, 0.16)
    return _Light(
        direction=(
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        ),
        color_bgr=np.array([1 - warmth, 1, 1 + warmth], np.float32),
        ambient=rng.uniform(0.2, 0.42),
    )


def _noise(rng: np.random.Generator, height: int, width: int, cells_y: int, cells_x: int, octaves: int) -> Floats:
    """Sum of smooth random grids, each twice as fine and 0.6 as strong; (H, W), std about 1."""
    total = np.zeros((height, width), np.float32)
    power = 0.0
    for octave in range(octaves):
        rows, columns = (min(c << octave, s) for c, s in ((cells_y, height), (cells_x, width)))
        grid = rng.standard_normal((rows, columns), np.float32)
        weight = 0.6**octave
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        power += weight**2
    return total / np.float32(0.75 * np.sqrt(power))


def _mix(low_bgr: Floats, high_bgr: Floats, amount: Floats) -> Floats:
    """Blend two (3,) colours by an (H, W) amount, clipped to 0-1."""
    return low_bgr + (high_bgr - low_bgr) * np.clip(amount, 0, 1)[..., None]


def _tint(rng: np.random.Generator, choices: tuple[_Tint, ...], spread: float = 0.15) -> Floats:
    """One of the linear BGR colours, each channel varied by up to ``spread`` of itself."""
    base = np.array(choices[int(rng.integers(len(choices)))], np.float32)
    common = rng.uniform(1 - spread, 1 + spread)
    return (base * common * rng.uniform(1 - spread / 2, 1 + spread / 2, 3)).astype(np.float32)


def _draw_background(rng: np.random.Generator, height: int, width: int, light: _Light) -> Floats:
    """A lit bench top with stains and crumbs; (H, W, 3) linear BGR."""
    kinds = (_wood, _concrete, _fabric, _steel)
    albedo, relief = kinds[int(rng.integers(len(kinds)))](rng, height, width)
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), 1.15), np.float64)
    albedo = _warp(albedo, turn, (width, height), cv2.BORDER_REFLECT_101)
    relief = _warp(relief, turn, (width, height), cv2.BORDER_REFLECT_101)
    crumbs = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 30))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(1, 5)), int(rng.integers(1, 3)))
        cv2.ellipse(crumbs, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
    crumb_bgr = _tint(rng, ((0.03, 0.08, 0.14), (0.03, 0.1, 0.06), (0.35, 0.4, 0.42)))
    albedo += (crumb_bgr - albedo) * cv2.GaussianBlur(crumbs, (0, 0), 0.8)[..., None]
    stains = np.clip(_noise(rng, height, width, 3, 4, 4) - rng.uniform(0.9, 2.0), 0, 0.6)
    relief += 1.5 * crumbs
    lx, ly, lz = light.direction
    slope = np.gradient(relief)
    shading = np.clip(1 - (lx * slope[1] + ly * slope[0]) / lz, 0.4, 1.8) * (1 - 0.7 * stains)
    lit: Floats = (albedo * shading[..., None] * light.color_bgr).astype(np.float32)
    return lit


def _wood(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    flow = _noise(rng, height, width, 3, 2, 2)
    fibre = _noise(rng, height, width, 96, 5, 3)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    rings = np.sin(2 * np.pi * (rng.uniform(5, 11) * y + 0.7 * flow)) ** 3
    dark = _tint(rng, ((0.03, 0.08, 0.17), (0.05, 0.12, 0.22), (0.03, 0.05, 0.09)))
    albedo = _mix(dark, dark * rng.uniform(1.7, 2.4), 0.5 + 0.2 * rings + 0.2 * fibre)
    plank = y * rng.uniform(1.5, 4) + rng.uniform()
    tone = rng.uniform(0.75, 1.2, 8).astype(np.float32)[np.floor(plank).astype(np.int64)]
    seam = np.clip(1 - np.abs(plank - np.round(plank)) * 60, 0, 1)
    albedo *= (tone * (1 - 0.75 * seam))[..., None]
    return albedo, (0.25 * fibre).astype(np.float32)


def _concrete(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    rough = _noise(rng, height, width, 6, 8, 7)
    cloud = _noise(rng, height, width, 2, 3, 3)
    pits = np.clip(_noise(rng, height, width, 60, 80, 2) - 1.9, 0, 1)
    dark = _tint(rng, ((0.1, 0.11, 0.12), (0.16, 0.19, 0.21), (0.08, 0.14, 0.18)))
    albedo = _mix(dark, dark * 2.4, 0.45 + 0.14 * rough + 0.12 * cloud)
    albedo *= (1 - 0.7 * pits)[..., None]
    return albedo, 0.35 * rough - 3 * pits


def _fabric(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    wobble = 1.5 * _noise(rng, height, width, 5, 6, 3)
    pitch = 2 * np.pi / rng.uniform(6, 10)
    skew = int(rng.integers(2))
    weave = np.sin(pitch * (x + skew * y + wobble)) * np.sin(pitch * (y - wobble))
    yarn = _noise(rng, height, width, 60, 12, 2) + _noise(rng, height, width, 9, 80, 2)
    cloth = ((0.2, 0.12, 0.06), (0.06, 0.13, 0.08), (0.04, 0.05, 0.2), (0.22, 0.32, 0.38))
    dark = _tint(rng, cloth, 0.25)
    albedo = _mix(dark * 0.6, dark * 1.6, 0.5 + 0.22 * weave + 0.09 * yarn)
    folds = _noise(rng, height, width, 2, 2, 2)
    return albedo, (0.5 * weave + 0.15 * yarn + 7 * folds).astype(np.float32)


def _steel(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, Floats]:
    brushed = _noise(rng, height, width, 192, 2, 2)
    cloud = _noise(rng, height, width, 2, 3, 4)
    rust = np.clip(_noise(rng, height, width, 4, 5, 6) - rng.uniform(0.6, 2.0), 0, 1)
    dark = _tint(rng, ((0.13, 0.13, 0.13), (0.2, 0.16, 0.12), (0.06, 0.12, 0.08)))
    albedo = _mix(dark, dark * 2.2, 0.45 + 0.12 * brushed + 0.16 * cloud)
    rust_bgr = np.array([0.03, 0.08, 0.2], np.float32)
    albedo += (rust_bgr - albedo) * (0.8 * rust)[..., None]
    return albedo, (0.12 * brushed).astype(np.float32)


def _draw_sprite(rng: np.random.Generator, class_id: int, scale: float) -> _Sprite:
    return (_coin, _leaf, _bolt)[class_id - 1](rng, scale)


def _local_grid(reach: float) -> tuple[Floats, Floats]:
    """Coordinates (x, y) of a square sprite that holds a circle of that radius."""
    half = int(np.ceil(reach)) + 2
    axis = np.arange(-half, half + 1, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _coin(rng: np.random.Generator, scale: float) -> _Sprite:
    radius = scale * rng.uniform(42, 70)
    x, y = _local_grid(radius)
    side = x.size
    distance = np.hypot(x, y)
    rim = np.clip(1 - np.abs(distance - 0.91 * radius) / (0.07 * radius), 0, 1)
    beads = (np.cos(np.arctan2(y, x) * int(rng.integers(24, 44))) > 0) & (
        np.abs(distance - 0.77 * radius) < 0.045 * radius
    )
    stamp = beads.astype(np.uint8) * 255
    text = str(rng.choice(["1", "2", "5", "10", "20", "50"]))
    font, size, pen = cv2.FONT_HERSHEY_DUPLEX, radius / (15 + 6 * len(text)), int(radius / 9)
    (text_width, text_height), _ = cv2.getTextSize(text, font, size, pen)
    corner = ((side - text_width) // 2, (side + text_height) // 2)
    cv2.putText(stamp, text, corner, font, size, (255,), pen, cv2.LINE_AA)  # bytes only since OpenCV 5
    relief = stamp.astype(np.float32) / 255
    wear = _noise(rng, side, side, 3, 3, 5)
    height = 1.6 * rim + 1.4 * cv2.GaussianBlur(relief, (0, 0), 1.1) + 0.35 * wear
    height -= 1.5 * np.clip((distance - 0.96 * radius) / (0.04 * radius), 0, 1)
    metal = ((0.18, 0.42, 0.6), (0.1, 0.24, 0.48), (0.32, 0.47, 0.56), (0.06, 0.12, 0.22))
    bright = _tint(rng, metal)
    # Dirt collects in the recesses, which is what makes a worn coin legible.
    grime = np.clip(0.75 + 0.3 * cv2.GaussianBlur(relief + rim, (0, 0), 1.5) - 0.13 * wear, 0.3, 1)
    return _Sprite(
        class_id=1,
        shape=np.dstack([np.clip(radius - distance + 0.5, 0, 1), height]).astype(np.float32),
        albedo_bgr=bright * grime[..., None],
        metallic=rng.uniform(0.7, 1.0),
        thickness_px=0.11 * radius + 2 * scale,
    )


def _leaf(rng: np.random.Generator, scale: float) -> _Sprite:
    half = scale * rng.uniform(68, 100)
    width = half * rng.uniform(0.45, 0.62)
    x, y = _local_grid(half)
    side = x.size
    along = np.clip(0.5 + 0.5 * x / half, 0, 1)
    y = y - rng.uniform(-0.25, 0.25) * half * (1 - (x / half) ** 2)
    profile = np.abs(np.sin(np.pi * along ** rng.uniform(0.65, 0.95))) ** rng.uniform(0.7, 0.95)
    teeth = np.abs(np.sin(np.pi * int(rng.integers(8, 14)) * along))
    border = width * profile * (1 + rng.uniform(0, 0.09) * (teeth - 0.5))
    across = np.abs(y)
    alpha = np.clip(border - across + 0.5, 0, 1)
    spacing = half / rng.uniform(4, 6)
    phase = (x - 0.75 * across) / spacing
    veins = np.exp(-(((phase - np.round(phase)) * spacing / 1.7) ** 2)) * (across < 0.93 * border)
    veins = np.maximum(0.6 * veins, np.exp(-((across / 2.2) ** 2)))
    blotch = _noise(rng, side, side, 3, 3, 5)
    quilt = np.cos(2 * np.pi * phase) * np.clip(across / (width + 1), 0, 1)
    curl = rng.uniform(-0.35, 0.5) * across**2 / width
    height = 0.35 * across + curl - 1.6 * veins + 1.1 * blotch - 1.4 * quilt
    greens = ((0.03, 0.2, 0.06), (0.05, 0.3, 0.17), (0.03, 0.22, 0.3))
    browns = ((0.03, 0.11, 0.25), (0.03, 0.05, 0.3), (0.05, 0.3, 0.5))
    fresh, faded = _tint(rng, greens, 0.25), _tint(rng, greens + browns, 0.25)
    edge = np.clip(across / (border + 1), 0, 1)
    albedo = _mix(fresh, faded, 0.2 + 0.35 * blotch + 0.5 * edge**2)
    albedo *= (1 + 0.5 * veins)[..., None]
    albedo *= (1 - 0.6 * np.clip(_noise(rng, side, side, 8, 8, 3) - 1.7, 0, 1))[..., None]
    return _Sprite(
        class_id=2,
        shape=np.dstack([alpha, height]).astype(np.float32),
        albedo_bgr=albedo.astype(np.float32),
        metallic=0.0,
        thickness_px=scale * rng.uniform(5, 11),
    )


def _bolt(rng: np.random.Generator, scale: float) -> _Sprite:
    shaft = scale * rng.uniform(17, 24)
    head = shaft * rng.uniform(1.55, 1.8)
    half = shaft * rng.uniform(3.1, 4.2)
    x, y = _local_grid(float(np.hypot(half, head)))
    side = x.size
    neck = -half + shaft * rng.uniform(1.2, 1.5)
    across = np.abs(y)
    # A turn is slanted because the far side of the helix is half a pitch ahead.
    pitch = shaft * rng.uniform(0.42, 0.55)
    thread = 0.5 + 0.5 * np.cos(2 * np.pi * (x / pitch + 0.25 * y / shaft))
    threaded = np.clip((x - neck - shaft * rng.uniform(0.3, 2.5)) / 3, 0, 1)
    tip = np.clip((half - x) / (0.35 * shaft), 0.7, 1)
    shaft_border = tip * shaft * (1 - 0.07 * threaded * (1 - thread))
    chamfer = np.clip((x + half) / (0.3 * shaft), 0, 1) * 0.12 + 0.88
    in_head = np.clip(neck - x + 0.5, 0, 1)
    border = np.where(in_head > 0.5, head * chamfer, shaft_border)
    alpha = np.clip(border - across + 0.5, 0, 1) * np.clip(half - np.abs(x) + 0.5, 0, 1)
    round_shaft = np.sqrt(np.clip(shaft**2 - y**2, 0.02 * shaft**2, None))
    facets = 1.1 * shaft - np.clip(across - 0.5 * head, 0, None) * 1.2
    height = np.where(in_head > 0.5, facets + 0.5 * shaft, round_shaft)
    height = height + 0.16 * pitch * threaded * (1 - in_head) * thread
    wear = _noise(rng, side, side, 4, 4, 5)
    metal = ((0.42, 0.43, 0.43), (0.36, 0.42, 0.45), (0.48, 0.44, 0.4), (0.2, 0.2, 0.2))
    rust = 0.7 * np.clip(wear - rng.uniform(0.8, 3.0), 0, 1)
    albedo = _tint(rng, metal) * (1 - 0.4 * threaded * (1 - in_head) * (1 - thread))[..., None]
    albedo += (np.array([0.03, 0.08, 0.22], np.float32) - albedo) * rust[..., None]
    return _Sprite(
        class_id=3,
        shape=np.dstack([alpha, cv2.GaussianBlur(height + 0.25 * wear, (0, 0), 0.7)]).astype(np.float32),
        albedo_bgr=albedo.astype(np.float32),
        metallic=rng.uniform(0.75, 1.0),
        thickness_px=shaft,
    )


def _composite(canvas: Floats, labels: Bytes, sprite: _Sprite, pose: _Pose, light: _Light) -> None:
    """Lay one sprite and its shadow over the canvas and the labels, in place."""
    half = sprite.shape.shape[0] // 2
    lx, ly, lz = light.direction
    reach = half + int(3 * sprite.thickness_px) + 4
    left, top = max(int(pose.x_px) - reach, 0), max(int(pose.y_px) - reach, 0)
    right = min(int(pose.x_px) + reach, canvas.shape[1])
    bottom = min(int(pose.y_px) + reach, canvas.shape[0])
    if right - left < 2 or bottom - top < 2:
        return
    cos, sin = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
    move = np.array(
        [
            [cos, -sin, pose.x_px - left - (cos - sin) * half],
            [sin, cos, pose.y_px - top - (sin + cos) * half],
        ]
    )
    size = (right - left, bottom - top)
    shape = _warp(sprite.shape, move, size, cv2.BORDER_CONSTANT)
    alpha = np.ascontiguousarray(shape[..., 0])
    albedo = _warp(sprite.albedo_bgr, move, size, cv2.BORDER_REPLICATE)
    window = canvas[top:bottom, left:right]
    cast = np.array([[1, 0, -lx / lz], [0, 1, -ly / lz]]) * [1, 1, sprite.thickness_px]
    contact = cv2.GaussianBlur(alpha, (0, 0), 2.0 + 0.15 * sprite.thickness_px)
    umbra = _warp(alpha, cast, size, cv2.BORDER_CONSTANT)
    shadow = cv2.GaussianBlur(umbra, (0, 0), 1.5 + 0.35 * sprite.thickness_px)
    window *= ((1 - (1 - light.ambient) * shadow) * (1 - 0.35 * contact))[..., None]
    x, y, across, down = cv2.boundingRect((alpha > 0).view(np.uint8))
    if across > 1 and down > 1:
        seen = np.s_[y : y + down, x : x + across]
        lit = _shade(shape[seen][..., 1], albedo[seen], sprite.metallic, light)
        window[seen] += (lit - window[seen]) * alpha[seen][..., None]
    labels[top:bottom, left:right][alpha >= 0.5] = sprite.class_id


def _warp(image: Floats, move: NDArray[np.float64], size: tuple[int, int], border: int) -> Floats:
    """Move an image by a 2 × 3 matrix into a window of (width, height); typed, for cv2 forgets the dtype."""
    return np.asarray(cv2.warpAffine(image, move, size, borderMode=border), np.float32)


def _shade(height: Floats, albedo: Floats, metallic: float, light: _Light) -> Floats:
    """Light a height map: Lambert, Blinn-Phong, and a soft room mirrored in the metal."""
    slope_y, slope_x = (np.clip(s, -2, 2) for s in np.gradient(height))
    nz = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    nx, ny = -slope_x * nz, -slope_y * nz
    lx, ly, lz = light.direction
    lambert = np.clip(nx * lx + ny * ly + nz * lz, 0, None) / lz
    halfway = float(np.sqrt(2 + 2 * lz))
    facing = np.clip((nx * lx + ny * ly + nz * (lz + 1)) / halfway, 0, 1)
    mirror = np.clip(2 * nz * (nx * lx + ny * ly + nz * lz) - lz, 0, 1)
    room = 0.2 + 1.2 * mirror**3 + 0.16 * np.sin(7 * nx * nz + 4 * ny * nz)
    diffuse = light.ambient + (1 - light.ambient) * lambert
    tone = (1 - metallic) * diffuse + metallic * (0.3 * diffuse + 0.9 * room)
    gleam = (0.06 + 0.5 * metallic) * facing ** (14 + 46 * metallic)
    lit: Floats = (albedo * tone[..., None] + gleam[..., None] * 0.6) * light.color_bgr
    return lit


def _majority(labels: Bytes) -> Bytes:
    """Most frequent class of each supersampled block; the lower class wins a tie."""
    height, width = (side // _SUPERSAMPLE for side in labels.shape)
    blocks = labels.reshape(height, _SUPERSAMPLE, width, _SUPERSAMPLE)
    votes = np.stack([(blocks == class_id).sum(axis=(1, 3)) for class_id in range(len(CLASS_NAMES))])
    return np.asarray(votes.argmax(axis=0), np.uint8)


def _draw_camera(rng: np.random.Generator, height: int, width: int) -> tuple[Floats, float, float]:
    """Exposure over the final picture (H, W), blur sigma in pixels, and noise strength."""
    shape = (height // _SUPERSAMPLE, width // _SUPERSAMPLE)
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    gradient = 1 + slope * (x * np.cos(angle) + y * np.sin(angle))
    vignette = 1 / (1 + rng.uniform(0.1, 0.3) * (x**2 + y**2)) ** 2
    gain = rng.uniform(0.95, 1.7)
    exposure: Floats = (gain * gradient * vignette).astype(np.float32)
    return exposure, float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.006, 0.02))


def _expose(rng: np.random.Generator, canvas: Floats, camera: tuple[Floats, float, float]) -> Bytes:
    """Take the photograph: shrink, expose, blur, add shot and read noise, encode as sRGB-like."""
    exposure, blur_px, noise = camera
    size = (exposure.shape[1], exposure.shape[0])
    linear = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA) * exposure[..., None]
    linear = np.maximum(cv2.GaussianBlur(linear, (0, 0), blur_px), 0)
    # A film-like shoulder: highlights on metal roll off instead of clipping to flat white.
    linear = 1.25 * linear * (1 + linear / 2.5) / (1 + 0.9 * linear) - 0.006
    grain = rng.standard_normal(linear.shape, np.float32)
    linear += noise * np.sqrt(0.6 * np.maximum(linear, 0) + 0.008) * grain
    encoded: Floats = np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2))
    return encoded.astype(np.uint8)


def _write_video(folder: Path, masks_path: Path, seed: int, frame_count: int, done: Callable[[], None]) -> Path:
    """Encode the moving scene and write its masks; returns the path of the video."""
    _make_folder(masks_path)
    writer, draft_path = _open_video(folder)
    path = folder / f"moving{draft_path.suffix}"
    rng = np.random.default_rng([seed, _VIDEO_STREAM, 0])
    height, width = VIDEO_HEIGHT_PX * _SUPERSAMPLE, VIDEO_WIDTH_PX * _SUPERSAMPLE
    light = _draw_light(rng)
    bench = _draw_background(rng, height, width, light)
    camera = _draw_camera(rng, height, width)
    order = rng.permutation(np.arange(6) % (len(CLASS_NAMES) - 1)) + 1
    actors = [_draw_actor(rng, int(class_id), height, width) for class_id in order]
    try:
        for frame in range(frame_count):
            canvas, labels = bench.copy(), np.zeros((height, width), np.uint8)
            for sprite, start, end in actors:
                pose = _between(start, end, frame / max(frame_count - 1, 1))
                _composite(canvas, labels, sprite, pose, light)
            grain = np.random.default_rng([seed, _VIDEO_STREAM, 1 + frame])
            writer.write(_expose(grain, canvas, camera))
            _write_png(masks_path / f"{frame:06d}.png", _majority(labels))
            done()
        writer.release()
        replace_file(draft_path, path)
    finally:
        writer.release()
        draft_path.unlink(missing_ok=True)
    return path


def _draw_actor(rng: np.random.Generator, class_id: int, height: int, width: int) -> tuple[_Sprite, _Pose, _Pose]:
    """An object and the two ends of its way; either end may lie beyond the border."""
    x, y = rng.uniform(-0.2, 1.2, 2) * width, rng.uniform(-0.1, 1.1, 2) * height
    # Ways from one side to the other, in either direction, so that objects enter, meet and leave.
    x.sort()
    if rng.uniform() < 0.5:
        x = x[::-1]
    angle = rng.uniform(0, 2 * np.pi)
    start = _Pose(x_px=x[0], y_px=y[0], angle_rad=angle)
    end = _Pose(x_px=x[1], y_px=y[1], angle_rad=angle + rng.uniform(-3, 3))
    return _draw_sprite(rng, class_id, height / 384), start, end


def _between(start: _Pose, end: _Pose, part: float) -> _Pose:
    return _Pose(
        x_px=start.x_px + part * (end.x_px - start.x_px),
        y_px=start.y_px + part * (end.y_px - start.y_px),
        angle_rad=start.angle_rad + part * (end.angle_rad - start.angle_rad),
    )


def _open_video(folder: Path) -> tuple[cv2.VideoWriter, Path]:
    """Open the first codec that this OpenCV build can encode, on a temporary name."""
    for codec, suffix in _VIDEO_CODECS:
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
    names = ", ".join(codec for codec, _ in _VIDEO_CODECS)
    raise DataError(
        f"{printable(folder)} — OpenCV {cv2.__version__} opened no video encoder — expected one of {names} — "
        "install the opencv-python wheel, which carries them"
    )


def _write_png(path: Path, pixels: Bytes) -> None:
    encoded, data = cv2.imencode(".png", pixels)
    if not encoded:
        raise DataError(
            f"{printable(path)} — OpenCV could not encode {pixels.shape} {pixels.dtype} as PNG — "
            "expected (H, W) or (H, W, 3) uint8 — reinstall opencv-python"
        )
    write_bytes(path, data.tobytes())


def _require_empty(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{printable(root)} — found a file — expected a new or empty folder — pass another path")
    if root.is_dir() and (entry := next(root.iterdir(), None)) is not None:
        raise DataError(
            f"{printable(root)} — folder is not empty, it holds {printable(entry.name)} — "
            "expected a new or empty folder — pass another path or remove the old dataset"
        )


def _make_folder(path: Path) -> None:
    with translated("create", path):
        path.mkdir(parents=True, exist_ok=True)


def _config_text() -> str:
    colors = ", ".join(str(list(color)) for color in CLASS_COLORS_RGB)
    return (
        "# Written by `edge-unet data synth`; masks hold the index into classes, colors are RGB.\n"
        f"classes: [{', '.join(CLASS_NAMES)}]\n"
        f"colors: [{colors}]\n"
    )


def _nothing() -> None:
    """Stand in for an absent progress callback."""
