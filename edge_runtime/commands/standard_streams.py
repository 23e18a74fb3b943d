"""Make standard input, output and error safe to use, whatever the parent process has done with them."""

from __future__ import annotations

import errno
import io
import os
import sys

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Errors of a stream that will never come back: its reader ended, its terminal was closed."""


class _Log(io.TextIOWrapper):
    """Text for people, whose loss is no reason to end: errors while writing are ignored.

    After the reader or terminal has gone, everything is discarded, also what native code writes. After other errors,
    such as a full disk, the next line is tried again.
    """

    def write(self, text: str) -> int:
        """Write text if that is possible."""
        try:
            return super().write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered if that is possible."""
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if error.errno in _GONE:
            _discard(2)


def repair_standard_streams() -> None:
    """Prepare the streams of a program: closed ones are opened on the null device, and stderr never fails.

    A descriptor that was closed would otherwise be given to the next file that is opened, into which every message
    would then be written. ``sys.__stdout__`` stays None if stdout was closed, which ``ByteStream`` refuses to write to.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # A class name that the terminal's encoding cannot represent is escaped, because it must not end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    file = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = _Log(file, encoding, "backslashreplace", line_buffering=True)


def discard_stdout() -> None:
    """Discard what is still written to stdout, after it has failed."""
    _discard(1 if sys.stdout is None else sys.stdout.fileno())


def _discard(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
