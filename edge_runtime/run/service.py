"""Supervise an unattended run: JSON status, systemd's watchdog, and an error when native code hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from edge_runtime.errors import StorageError, WedgedError
from edge_runtime.run.runner import Runner
from edge_runtime.storage import write_json

_log = logging.getLogger("edge_runtime")
WEDGED_S = 30.0
"""Seconds after which the work on one frame counts as hanging; it usually takes milliseconds."""

_STOOD_STILL_S = 5.0
"""Delay of a tick from which on the whole process stood still, as after Ctrl-Z and fg, or in a paused container."""


class Notifier:
    """Sender of state messages to systemd; does nothing if systemd did not start the process.

    Attributes:
        interval_s: Seconds between two watchdog messages; infinite without a watchdog.

    Reference: sd_notify(3), https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read the environment variables that systemd sets: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading "@" stands for the zero byte of an abstract socket name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = environment.get("WATCHDOG_USEC", "")
        limit_us = int(limit) if mine and limit.isascii() and limit.isdecimal() else 0
        # Twice per limit, as systemd recommends.
        fed = bool(limit_us and self._address)
        self.interval_s = limit_us / 2e6 if fed else float("inf")
        self._next_at = time.monotonic() if fed else float("inf")

    def send(self, text: str) -> None:
        """Send a message such as ``READY=1``; errors are ignored, because the run does not depend on systemd."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            try:
                connection.sendto(text.encode(), self._address)
            except OSError:
                return

    def alive(self) -> None:
        """Send a watchdog message if one is due."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + self.interval_s
            self.send("WATCHDOG=1")


class Supervisor:
    """Supervisor of a run, in the thread that started it; call ``tick`` at least every ``period_s``."""

    def __init__(
        self,
        runner: Runner,
        *,
        model: Mapping[str, str],
        notifier: Notifier,
        status: str | None,
        interval_s: float,
        wedged_s: float,
    ) -> None:
        """Prepare the supervision of a run.

        Args:
            runner: The run.
            model: Entries of the status that describe the model, such as its name and variant.
            notifier: Sender of messages to systemd.
            status: File for the status; "-" writes one line per update to stderr; None writes no status.
            interval_s: Seconds between two updates of the status.
            wedged_s: Seconds after which the work on a frame counts as hanging; infinite for no limit.
        """
        self._runner = runner
        self._model = dict(model)
        self._notifier = notifier
        self._stream = None if status is None else _stream_of(status)
        self._path = None if status in (None, "-") or self._stream else Path(status or "")
        if self._path is not None and self._path.is_symlink():
            self._path = Path(os.path.realpath(self._path))  # what the link leads to is replaced, and the link stays
        self._interval_s = interval_s
        self._wedged_s = wedged_s
        self._started_at = self._since = self._ticked_at = time.monotonic()
        self._next_at = self._started_at + min(interval_s, 1.0)
        self._processed = 0
        self._problem: str | None = None

    @property
    def period_s(self) -> float:
        """Longest allowed time between two calls of ``tick``, in seconds."""
        return min(1.0, self._interval_s, self._notifier.interval_s)

    def start(self) -> None:
        """Write the first status, and tell systemd that the service is ready, even if the camera is not available yet.

        Raises:
            StorageError: The status cannot be written; later, this is only logged.
        """
        self._write_status(self.status())
        self._notifier.send("READY=1")
        self._ticked_at = time.monotonic()

    def tick(self) -> None:
        """Send a watchdog message and write the status, if they are due.

        Raises:
            WedgedError: The work on a frame hangs; the stacks of all threads were written to stderr.
        """
        now = time.monotonic()
        if now - self._ticked_at > self.period_s + _STOOD_STILL_S:
            self._runner.restart_clock()
        self._ticked_at = now
        busy_s = self._runner.busy_s
        if busy_s > self._wedged_s:
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            raise WedgedError(
                f"{self._runner.source.name} — the work on a frame has taken {busy_s:.0f} s and hangs in native code — "
                "the stacks above say where; start the service again (systemd does: Restart=always)"
            )
        self._notifier.alive()
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._interval_s
            self.write()

    def stop(self) -> None:
        """Write the last status and tell systemd that the service is stopping."""
        self._notifier.send("STOPPING=1")
        self.write()

    def write(self) -> None:
        """Write the status now; if that fails, the next status has the error and the run continues."""
        value = self.status()
        self._notifier.send(f"STATUS={value['state']}, {value['fps_now']:g} fps, {value['processed']} frames")
        try:
            self._write_status(value)
        except StorageError as error:
            if self._problem is None:
                _log.warning("%s — the run goes on, and tries it again", error)
            self._problem = str(error)
        else:
            self._problem = None

    def _write_status(self, value: dict[str, Any]) -> None:
        if self._stream is not None:
            # A terminal or reader that has gone is no reason to end.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(json.dumps(value, allow_nan=False) + "\n")
        elif self._path is not None:
            write_json(self._path, value)

    def status(self) -> dict[str, Any]:
        """Return the status of the run as a JSON object; the keys name the units of times."""
        runner, now = self._runner, time.monotonic()
        summary = runner.statistics.summary(runner.source)
        fps_now = (summary["processed"] - self._processed) / max(now - self._since, 1e-6)
        self._processed, self._since = summary["processed"], now
        age_s = runner.source.frame_age_s
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "uptime_s": round(now - self._started_at, 1),
            **self._model,
            "source": runner.source.name,
            "state": runner.source.state,
            "frame_age_s": None if age_s is None else round(age_s, 3),
            "fps_now": round(fps_now, 2),
            **summary,
            "process": _process(),
            "problem": runner.last_error or self._problem,
        }


def _stream_of(target: str) -> TextIO | None:
    """Return the standard stream that a name means, such as "-", /dev/stderr, or the file into which stderr goes."""
    if target == "-":
        return sys.stderr
    for descriptor, stream in ((2, sys.stderr), (1, sys.stdout)):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(target), os.fstat(descriptor)):  # noqa: PTH116 - beside fstat
                return stream
    return None


def _process() -> dict[str, int | float | None]:
    """Return resident memory, threads and open files of this process; None if the system does not report them."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "open_files": len(list(Path("/proc/self/fd").iterdir())),
        }
    except OSError:
        return {"memory_mb": None, "threads": None, "open_files": None}
