"""Where results go: mask files, pictures, one video, a window, JSON Lines. Every write is checked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects import Effect
from edge_runtime.errors import InputError, StorageError, UsageError
from edge_runtime.frames import Frame, Kind
from edge_runtime.image import encode_png
from edge_runtime.pipeline import FrameResult
from edge_runtime.storage import printable, replace_file, temporary_name, translated, write_bytes
from edge_runtime.window import Window

VIDEO_CODEC, VIDEO_SUFFIX = "mp4v", ".mp4"
"""The one codec that the OpenCV wheels write at speed and common players play: 1 ms a 640x480 frame. The wheels have no
H.264 encoder, VP8 takes 19 ms and VP9 110 ms."""
DEFAULT_FPS = 25.0
_MEASURED_FRAMES = 12
_MIN_FREE_BYTES = 1_000_000
_JPEG_QUALITY = 95


class PictureSink(Protocol):
    """Takes the pictures that an effect draws."""

    wants_more: bool

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Take the picture of a frame, (H, W, 3) uint8 BGR."""

    def close(self) -> list[str]:
        """Finish; returns what was written, one line each, for people."""


class MaskFiles:
    """Class ids as PNG files, ``FOLDER/NAME.png``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = 0

    def write(self, frame: Frame, mask: NDArray[np.uint8]) -> Path:
        """Write (H, W) uint8 class ids and return the file's path.

        Raises:
            StorageError: It could not be written.
        """
        path = self._folder / f"{frame.name}.png"
        write_bytes(path, encode_png(mask, printable(path)))
        self.written += 1
        return path

    def close(self) -> list[str]:
        """Return what was written."""
        return [f"{printable(self._folder)} ({self.written} masks)"] if self.written else []


class PictureFiles:
    """Pictures as files, ``FOLDER/NAME.jpg`` or ``.png``."""

    wants_more = True

    def __init__(self, folder: Path, suffix: str) -> None:
        """``suffix`` is ".jpg" for photographs or ".png" for what must stay exact."""
        self._folder = folder
        self._suffix = suffix
        self.written = 0

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Write a picture, (H, W, 3) uint8 BGR.

        Raises:
            StorageError: It could not be written.
        """
        path = self._folder / f"{frame.name}{self._suffix}"
        done, data = cv2.imencode(self._suffix, picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not done:
            raise InputError(f"{printable(path)} — cannot be encoded — found a picture of shape {picture_bgr.shape}")
        write_bytes(path, data.tobytes())
        self.written += 1

    def close(self) -> list[str]:
        """Return what was written."""
        return [f"{printable(self._folder)} ({self.written} pictures)"] if self.written else []


class VideoFile:
    """Pictures as one video, under a temporary name until ``close`` has finished and checked it.

    Without a known rate the first frames are held back to measure one, so that a recorded camera plays at its own speed
    however fast the model is.
    """

    wants_more = True

    def __init__(self, path: Path, fps: float | None) -> None:
        """Prepare a video; ``fps`` None measures the rate, from capture times."""
        self._path = path
        self._fps = fps
        self._temporary = temporary_name(path)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._held: list[tuple[float, NDArray[np.uint8]]] = []
        self.written = 0

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Append a picture, (H, W, 3) uint8 BGR; one of another size than the first is scaled to it.

        Raises:
            StorageError: The video cannot be opened, or the disk is full.
        """
        if self._writer is None:
            self._held.append((frame.captured_at, picture_bgr))
            if self._fps is None and len(self._held) < _MEASURED_FRAMES:
                return
            self._open()
        else:
            self._append(picture_bgr)

    def close(self) -> list[str]:
        """Finish the file, check that it can be read, and give it its name.

        Raises:
            StorageError: It is not all there; OpenCV writes videos without saying when the disk is full.
        """
        try:
            if self._writer is None and self._held:
                self._open()
            if self._writer is None:
                return []
            self._writer.release()
            check = cv2.VideoCapture(str(self._temporary.absolute()), cv2.CAP_FFMPEG)
            found = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if found < self.written:
                raise self._failed(f"only {found} of {self.written} frames arrived")
            replace_file(self._temporary, self._path)
            return [f"{printable(self._path)} ({self.written} frames)"]
        finally:
            self._held.clear()
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> None:
        height, width = self._held[0][1].shape[:2]
        self._size = width, height
        code = cv2.VideoWriter.fourcc(*VIDEO_CODEC)
        name = str(self._temporary.absolute())
        try:
            writer = cv2.VideoWriter(
                name, cv2.CAP_FFMPEG, code, _writable_fps(self._fps or self._measured_fps()), self._size
            )
        except (cv2.error, UnicodeError, TypeError) as cause:
            raise self._failed("OpenCV cannot take this name") from cause
        if not writer.isOpened():
            self._held.clear()
            raise self._failed("the video writer does not open")
        self._writer = writer
        for _, picture in self._held:
            self._append(picture)
        self._held.clear()

    def _append(self, picture_bgr: NDArray[np.uint8]) -> None:
        if self._writer is None:
            return
        if picture_bgr.shape[1::-1] != self._size:  # VideoWriter would leave it out without a word
            picture_bgr = np.asarray(cv2.resize(picture_bgr, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(picture_bgr)
        self.written += 1
        if self.written % 50 == 0:  # a full disk is noticed now, not after hours
            with translated("write", self._path):
                free = shutil.disk_usage(self._temporary.parent).free
            if free < _MIN_FREE_BYTES:
                raise self._failed("no space left on device")

    def _measured_fps(self) -> float:
        seconds = self._held[-1][0] - self._held[0][0]
        return min(max((len(self._held) - 1) / seconds, 1.0), 120.0) if seconds > 0 else DEFAULT_FPS

    def _failed(self, found: str) -> StorageError:
        return StorageError(
            f"cannot write {printable(self._path)} — {found} — free some space or choose another folder"
        )


def _writable_fps(fps: float) -> float:
    """Round a rate until the codec takes it: OpenCV makes 66.667 into 66667 / 1000, and MPEG-4 counts to 65535."""
    return round(fps, 3 if fps <= 65 else 2)


class Outputs:
    """Everything that a frame's result becomes besides JSON; leaving the ``with`` block finishes all of it."""

    def __init__(self, effect: Effect, masks: MaskFiles | None, pictures: list[PictureSink]) -> None:
        """Draw ``effect`` once a frame for all of ``pictures``."""
        self._effect = effect
        self._masks = masks
        self._pictures = pictures
        self.finished: list[str] = []

    @property
    def wants_more(self) -> bool:
        """False once the window was closed."""
        return all(sink.wants_more for sink in self._pictures)

    def write(self, result: FrameResult) -> Path | None:
        """Write what the result becomes; returns the path of the mask file, if one was written."""
        path = self._masks.write(result.frame, result.segmentation.mask) if self._masks else None
        if self._pictures:
            picture_bgr = self._effect(result.frame.image_bgr, result.segmentation)
            for sink in self._pictures:
                sink.write(result.frame, picture_bgr)
        return path

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        sinks: list[MaskFiles | PictureSink] = [*([self._masks] if self._masks else []), *self._pictures]
        failure: StorageError | None = None
        for sink in sinks:
            try:
                self.finished += sink.close()
            except StorageError as error:  # the others are finished all the same
                failure = error
        # A disk that filled up while writing fails again while finishing; the first error says more.
        if failure is not None and not (kind is not None and issubclass(kind, StorageError)):
            raise failure


def open_outputs(
    kind: Kind, fps: float | None, effect: Effect, *, save: Path | None, show: bool, exact: bool = False
) -> Outputs:
    """Return the outputs for an open source.

    Args:
        kind: Images become pictures, a video or live source one video.
        fps: The source's nominal rate.
        effect: What is drawn.
        save: Folder that ``prepare_folder`` has made, or None to save nothing.
        show: Open a window.
        exact: Pictures as PNG rather than JPEG.
    """
    pictures: list[PictureSink] = []
    if save is not None and kind == "images":
        pictures.append(PictureFiles(save / "overlays", ".png" if exact else ".jpg"))
    elif save is not None:
        # A live source's nominal rate says nothing about how many of its frames the model has time for.
        pictures.append(VideoFile(save / f"overlay{VIDEO_SUFFIX}", None if kind == "live" else fps or DEFAULT_FPS))
    if show:
        pictures.append(Window(wait_for_key=kind == "images"))
    return Outputs(effect, MaskFiles(save / "masks") if save is not None else None, pictures)


def prepare_folder(folder: Path, kind: Kind) -> None:
    """Make the folders that results go to and prove that they can be written, before the first frame.

    Raises:
        StorageError: A file is in the way, or the folder is read-only or full.
        UsageError: The folder is a dataset, whose masks would be overwritten.
    """
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        raise UsageError(
            f"--save {printable(folder)} — is a dataset — its masks would be overwritten: choose another folder"
        )
    for part in (folder / "masks", folder / "overlays") if kind == "images" else (folder / "masks",):
        with translated("make", part):
            part.mkdir(parents=True, exist_ok=True)
        with translated("write", part):
            probe = temporary_name(part / "probe")
            try:
                probe.write_bytes(b"\0" * 4096)
            finally:
                probe.unlink(missing_ok=True)
