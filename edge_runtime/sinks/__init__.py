"""Where results go: mask files, pictures, one video, a window, JSON Lines. Every write is checked."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.effects import Effect
from edge_runtime.errors import StorageError, UsageError
from edge_runtime.pipeline import FrameResult
from edge_runtime.sinks.files import MaskFiles, PictureFiles, PictureSink
from edge_runtime.sinks.video import DEFAULT_FPS, VIDEO_SUFFIX, VideoFile
from edge_runtime.sinks.window import Window
from edge_runtime.sources import Kind
from edge_runtime.storage import printable, temporary_name, translated

__all__ = [
    "MaskFiles",
    "Outputs",
    "PictureFiles",
    "PictureSink",
    "VideoFile",
    "Window",
    "open_outputs",
    "prepare_folder",
]


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
