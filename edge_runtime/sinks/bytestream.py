"""Write bytes to a file, a named pipe or standard output, without waiting for ever for a stalled reader."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
import time
from pathlib import Path

from edge_runtime.errors import StorageError
from edge_runtime.storage import hold, translated

_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of standard output, which would be truncated if it were opened by them."""
_STEP_S = 0.2
_GRACE_S = 1.0
"""Seconds that a write may continue after the run was told to end, for a slow reader."""


def is_stdout(target: str | Path | None) -> bool:
    """Tell whether a target is standard output by one of its names, such as "-" or /dev/stdout."""
    return str(target) in ("-", *_STDOUT)


class ByteStream:
    """Output to a file, a named pipe, or standard output for "-"; writes are unbuffered and whole, from any thread."""

    def __init__(self, target: str, stop: threading.Event, *, follow: bool = False) -> None:
        """Open a file, whose content the first write replaces; a named pipe waits for its reader until ``stop`` is set.

        Args:
            target: Path, or "-" for standard output.
            stop: Set when the run is to end; from then on, writes do not wait for a reader that has stalled.
            follow: Write to a new file once another program has renamed or deleted this one, as logrotate does.

        Raises:
            StorageError: The target cannot be opened.
        """
        self._stop = stop
        self._follows = follow
        target = "-" if is_stdout(target) else target
        self._named = target != "-"
        self._where = Path(target if self._named else "standard output")
        self._lock = threading.Lock()
        with translated("write", self._where):
            descriptor = self._stdout() if target == "-" else self._opened(Path(target))
            # No descriptor: ``stop`` was set before there was a reader, so the stream is closed from the start.
            self._gone = descriptor is None
            self._fd = os.open(os.devnull, os.O_WRONLY) if descriptor is None else descriptor
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._path = Path(target) if self._regular and self._named else None
        self._replaces = self._path is not None
        # A blocking pipe that is ready accepts this many bytes without blocking, but not always more.
        whole = sys.platform == "win32" or self._regular or not os.get_blocking(self._fd)
        self._most = sys.maxsize if whole else select.PIPE_BUF

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``; after ``stop``, data for a stalled reader is silently discarded.

        Raises:
            StorageError: The disk is full; a regular file is truncated before ``data``, so that it has whole writes. Or
                the file was deleted.
            BrokenPipeError: The reader has closed the pipe, whose path is ``filename``, None for standard output; later
                writes do nothing.
        """
        with self._lock:
            if self._gone:
                return
            rest = memoryview(data)
            try:
                with translated("write", self._where):
                    self._follow()
                    if self._replaces:  # not before, because a run that fails at its start leaves the earlier results
                        os.ftruncate(self._fd, 0)
                        self._replaces = False
                    self._write(rest)
            except StorageError as error:
                if isinstance(error.__cause__, BrokenPipeError):
                    self._gone = True
                    if self._named:
                        error.__cause__.filename = str(self._where)
                    raise error.__cause__ from None
                raise

    def close(self) -> None:
        """Close the stream; standard output itself stays open.

        Raises:
            StorageError: Not all data was stored, which a network file system may report only now.
        """
        with translated("write", self._where):
            os.close(self._fd)

    def _follow(self) -> None:
        """Open a log again that was renamed or deleted; one that is truncated is appended to.

        Raises:
            FileNotFoundError: A file that is no log was deleted.
        """
        if self._path is None:
            return
        mine = os.fstat(self._fd)
        if not self._follows:
            if not mine.st_nlink:
                raise FileNotFoundError(errno.ENOENT, "it was deleted while it was written")
            return
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is not None and not stat.S_ISREG(there.st_mode):  # such as a pipe, which might never be opened
            return
        if there is not None and there.st_size and (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise OSError(errno.EEXIST, "another program has put a file in its place")
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            os.close(self._fd)
            self._fd = fresh

    def _write(self, rest: memoryview) -> None:
        total, give_up_at = len(rest), float("inf")
        try:
            while rest:
                ready = self._regular or self._ready()
                if self._stop.is_set() and not self._regular:
                    give_up_at = min(give_up_at, time.monotonic() + _GRACE_S)
                    if not ready or time.monotonic() > give_up_at:
                        self._gone = True
                        return
                if ready:
                    rest = rest[self._write_some(rest[: self._most]) :]
        except OSError:
            if self._regular and total > len(rest):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - (total - len(rest)))
                os.lseek(self._fd, 0, os.SEEK_END)
            raise

    def _write_some(self, part: memoryview) -> int:
        try:
            return os.write(self._fd, part)
        except BlockingIOError:  # another process has filled the pipe in the meantime
            return 0

    def _ready(self) -> bool:
        """Wait a step for the reader; a closed pipe counts as ready, because writing reports it."""
        if sys.platform == "win32":
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(_STEP_S * 1e3))

    def _opened(self, path: Path) -> int | None:
        while True:
            pipe = path.is_fifo()
            # Appending continues at the end also after another program has truncated the file.
            how = os.O_NONBLOCK if pipe else os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            try:
                descriptor = os.open(path, os.O_WRONLY | how, 0o666)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    hold(descriptor, path)
                return descriptor
            except OSError as error:
                if not (pipe and error.errno == errno.ENXIO):  # ENXIO: a named pipe without a reader
                    raise
            if self._stop.wait(_STEP_S):
                return None

    def _stdout(self) -> int:
        """Return a descriptor for standard output that we may close, and if it is a pipe, make non-blocking.

        All processes that inherited the pipe share its blocking mode, so it is opened again. If that is not possible,
        the pipe is written in small pieces, which takes three times as long.
        """
        if sys.stdout is None or sys.__stdout__ is None:  # closed when the process started
            raise OSError(errno.EBADF, "it is closed")
        fd = sys.stdout.fileno()
        if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(fd).st_mode):
            with contextlib.suppress(OSError):
                return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
        return os.dup(fd)
