"""Read frames from standard input or a named pipe: raw pixels or JPEGs."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import select
import sys
import threading
import time
from pathlib import Path

import numpy as np

from edge_runtime.errors import InputError, UsageError
from edge_runtime.headers import kind_of
from edge_runtime.image import MAX_PIXELS, decode
from edge_runtime.sources.capture import is_address
from edge_runtime.sources.jpegs import JpegSplitter
from edge_runtime.sources.options import SourceOptions
from edge_runtime.sources.slot import POLL_S, SlotSource
from edge_runtime.storage import printable, translated

_HEAD_BYTES = 64
_CHUNK_BYTES = 1 << 16
_INHERITED = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")
"""Paths of descriptors that this process has inherited, as a shell writes them for ``<(…)``."""
_WRITER_S = 0.05
_NAMED = 5
"""Number of frames that cannot be used which the error at the end names."""
_PIPE_BYTES = 1 << 20  # largest size that Linux allows an ordinary user


def recognise(source: int | str | Path, options: SourceOptions) -> StdinSource | None:
    """Return the source for "-", a descriptor such as /dev/stdin, or a named pipe; None for anything else.

    Raises:
        InputError: The path cannot be accessed.
        UsageError: An option of another kind of source is set, or the size of raw frames is invalid.
    """
    file: int | Path = 0
    if str(source) != "-":
        if is_address(source) or isinstance(source, int):
            return None
        path = Path(source)
        inherited = _INHERITED.fullmatch(str(path))
        with translated("read", path, InputError):
            if path.is_file() or not (path.is_fifo() or inherited):
                return None
        file = path if inherited is None else int(inherited[1] or 0)
    options.refuse_all_but("raw_size", "live")
    return StdinSource(file, raw_size=options.raw_size, live=options.live)


class StdinSource(SlotSource):
    """Source of the frames on standard input until its end: all frames, or with ``live`` the newest ones."""

    def __init__(
        self,
        file: int | Path | io.RawIOBase | io.BufferedIOBase = 0,
        *,
        raw_size: tuple[int, int] | None = None,
        live: bool = False,
    ) -> None:
        """Describe the input.

        Args:
            file: Descriptor, or binary file, which stays open; or path of a named pipe, which is waited for. Bytes that
                a buffered file has already read are missed.
            raw_size: (height, width) in pixels of raw frames of (height, width, 3) bytes BGR; None: JPEGs.
            live: Drop frames for which there is no time, instead of blocking the writer.

        Raises:
            UsageError: The size is out of range.
        """
        if raw_size is not None and (min(raw_size) < 1 or math.prod(raw_size) > MAX_PIXELS):
            raise UsageError(
                f"raw size — found height {raw_size[0]}, width {raw_size[1]} — expected 1 to {MAX_PIXELS // 10**6} megapixels"
            )
        super().__init__(printable(file) if isinstance(file, Path) else "standard input", "live" if live else "video")
        self._file = file
        self._raw_size = raw_size
        self._input: io.RawIOBase | io.BufferedIOBase = io.BytesIO()
        self._poll: select.poll | None = None
        self._began = True  # False: a named pipe has no writer yet

    def open(self) -> None:
        """Start reading.

        Raises:
            UsageError: The input is a terminal.
            InputError: The input is closed or cannot be read.
        """
        if isinstance(self._file, Path):
            with translated("read", self._file, InputError):
                # Non-blocking, because opening would otherwise wait for the writer, and nobody could stop it.
                descriptor: int | None = os.open(self._file, os.O_RDONLY | os.O_NONBLOCK)
            self._began = False
        else:
            descriptor = _descriptor(self._file)
        if descriptor is None:
            self._input = self._file  # type: ignore[assignment] # a file in memory; an int is a descriptor
        elif os.isatty(descriptor):
            raise UsageError(
                f"{self.name} — is a terminal — pipe frames into it: ffmpeg … -f mjpeg - | edge-unet run …"
            )
        else:
            with translated("read", Path(self.name), InputError):
                self._input = io.FileIO(descriptor, closefd=isinstance(self._file, Path))
            if hasattr(select, "poll"):  # without it (Windows), a silent writer blocks the thread to the end
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLIN)
            _widen(descriptor)
        self._state = "reading"
        self._start(threading.Thread(target=self._run, name="edge-unet-stdin", daemon=True))

    def close(self) -> None:
        """Stop reading; see ``SlotSource``."""
        super().close()
        if isinstance(self._file, Path):
            self._input.close()

    def _run(self) -> None:
        self._run_to_end(self._read_jpegs if self._raw_size is None else self._read_raw)

    def _read_raw(self) -> None:
        shape = (*(self._raw_size or (0, 0)), 3)
        count, spare = 0, None
        while not self.stopped.is_set():
            image_bgr = np.empty(shape, np.uint8) if spare is None else spare
            view = image_bgr.data.cast("B")
            filled = 0
            while filled < len(view) and (got := self._receive(view[filled:])):
                filled += got
            if filled < len(view):
                if filled and not self.stopped.is_set():
                    self._cut_short(count, f"{filled} of {len(view)} bytes")
                self._require_frames(count)
                return
            spare = self._put(image_bgr, time.monotonic())
            count += 1

    def _read_jpegs(self) -> None:
        splitter = JpegSplitter()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        count = garbage = 0
        head = b""
        while got := self._receive(buffer):
            head = head or bytes(buffer[: min(got, _HEAD_BYTES)])
            for data in splitter.feed(buffer[:got]):
                self._put_jpeg(data, count)
                count += 1
            self._note_garbage(splitter.garbage - garbage, count)
            garbage = splitter.garbage
        if self.stopped.is_set():
            return
        left = splitter.finish()
        self._note_garbage(splitter.garbage - garbage, count)
        if left:
            self._cut_short(count, f"{left} bytes of a JPEG")
        if not count and (kind := kind_of(head)) not in ("unknown", "JPEG"):
            raise InputError(
                f"{self.name} — is {kind} — expected JPEGs one after another — convert it, or pass it as a file"
            )
        self._require_frames(count)
        self._require_usable(count, splitter.garbage)

    def _put_jpeg(self, data: bytes, count: int) -> None:
        started = time.monotonic()
        try:
            image_bgr = decode(data, f"{self.name}, frame {count}")
        except InputError as error:
            with self._changed:
                self._failed(str(error))
            return
        now = time.monotonic()
        self._put(image_bgr, now, decode_ms=(now - started) * 1e3)

    def _note_garbage(self, times: int, count: int) -> None:
        with self._changed:
            for _ in range(times):
                self._failed(
                    f"{self.name}, near frame {count} — bytes that are no JPEG were skipped — check the writer"
                )

    def _cut_short(self, count: int, found: str) -> None:
        """Count the unfinished frame at the end of the input; in a live source this is not an error.

        Raises:
            InputError: The input is not live.
        """
        problem = f"{self.name}, frame {count} — ended in the middle of it: {found} — check the writer and --raw-size"
        with self._changed:
            self._failed(problem)
        if not self.live:
            raise InputError(problem)

    def _require_frames(self, count: int) -> None:
        """Raise an error at the end of the input if there was no frame.

        Raises:
            InputError: No frame came, and nobody has stopped the source.
        """
        if not count and not self.stopped.is_set():
            raise InputError(f"{self.name} — ended before its first frame — check the writer: did it fail?")

    def _require_usable(self, count: int, garbage: int) -> None:
        """Raise an error at the end of the input if frames could not be used; of a live source, if none could be.

        Bytes between the frames, which lose none, are a note.

        Raises:
            InputError: As said; the message names them.
        """
        lost = self.failed - garbage
        if lost and (not self.live or lost == count):
            more = f"; and {self.failed - _NAMED} more" if self.failed > _NAMED else ""
            raise InputError(
                f"{self.name} — {lost} of {count} frames cannot be used: {'; '.join(self.problems[:_NAMED])}{more}"
            )
        if self.problems and not self.live:
            self._note(f"{self.problems[0]}{f'; {self.failed} such places' if self.failed > 1 else ''}")

    def _receive(self, view: memoryview) -> int:
        """Read the bytes that have arrived; return their number, 0 at the end or after ``stop``."""
        while not self.stopped.is_set():
            events = [] if self._poll is None else self._poll.poll(POLL_S * 1000)
            if self._poll is None or events:
                got: int | None = self._input.readinto(view)
                if got:
                    self._began = True
                elif not self._began and not any(event & select.POLLHUP for _, event in events):
                    self.stopped.wait(_WRITER_S)  # no writer has come yet
                    continue
                if got is not None:
                    return got
        return 0


def _descriptor(file: int | io.RawIOBase | io.BufferedIOBase) -> int | None:
    if isinstance(file, int):
        return file
    try:
        return file.fileno()
    except OSError:  # a file in memory
        return None


def _widen(descriptor: int) -> None:
    """Enlarge a pipe on Linux, so that a raw frame is written and read at once, not in 15 pieces."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # not a pipe, or above this user's limit
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
