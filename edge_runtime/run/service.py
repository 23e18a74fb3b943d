"""A run that nobody watches: what it is doing as JSON, systemd's watchdog, and a way out when native code hangs."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_runtime.errors import StorageError, WedgedError
from edge_runtime.run.runner import Runner
from edge_runtime.storage import write_json

WEDGED_S = 30.0
"""The work on one frame takes milliseconds; after so long it will not end."""


class Notifier:
    """Tells systemd how the service is; does nothing where systemd did not start it.

    Attributes:
        interval_s: How often the watchdog is to be fed; infinite where there is none.

    Reference: sd_notify(3), https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take the variables that systemd sets: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading "@" stands for the zero byte of the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit_us = int(environment.get("WATCHDOG_USEC", "0")) if mine else 0
        # Twice as often as the limit asks, as systemd recommends.
        fed = bool(limit_us and self._address)
        self.interval_s = limit_us / 2e6 if fed else float("inf")
        self._next_at = time.monotonic() if fed else float("inf")

    def send(self, text: str) -> None:
        """Send a message such as ``READY=1``; a supervisor that has gone is none of our business."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            try:
                connection.sendto(text.encode(), self._address)
            except OSError:
                return

    def alive(self) -> None:
        """Feed the watchdog, as often as it asks."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + self.interval_s
            self.send("WATCHDOG=1")


class Supervisor:
    """Looks after a run from the thread that started it; call ``tick`` every ``period_s``."""

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
        """Prepare.

        Args:
            runner: The run.
            model: What the status says of the model: its name, variant …
            notifier: Towards systemd.
            status: File for the status; "-" writes it to stderr, a line each time; None to nowhere.
            interval_s: Time between two of them.
            wedged_s: The work on a frame that takes longer than this hangs; infinite where it may take any time.
        """
        self._runner = runner
        self._model = dict(model)
        self._notifier = notifier
        self._target = status
        self._interval_s = interval_s
        self._wedged_s = wedged_s
        self._started_at = self._since = time.monotonic()
        self._next_at = self._started_at + min(interval_s, 1.0)
        self._processed = 0
        self._problem: str | None = None

    @property
    def period_s(self) -> float:
        """How often ``tick`` is to be called at least."""
        return min(1.0, self._interval_s, self._notifier.interval_s)

    def start(self) -> None:
        """Tell systemd that the service is up: the model is loaded; the camera may be hours away."""
        self._notifier.send("READY=1")

    def tick(self) -> None:
        """Feed the watchdog, and write the status when it is time.

        Raises:
            WedgedError: The work on a frame hangs; the stacks of all threads have been written to stderr.
        """
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
        """Write the last status and tell systemd that the service is going down."""
        self._notifier.send("STOPPING=1")
        self.write()

    def write(self) -> None:
        """Write the status now; a full disk is remembered in the next one and ends nothing."""
        value = self.status()
        self._notifier.send(f"STATUS={value['state']}, {value['fps_now']:g} fps, {value['processed']} frames")
        if self._target is None:
            return
        if self._target == "-":
            sys.stderr.write(json.dumps(value, allow_nan=False) + "\n")
            return
        try:
            write_json(Path(self._target), value)
        except StorageError as error:
            self._problem = str(error)

    def status(self) -> dict[str, Any]:
        """Return what the run is doing as a JSON object; times in seconds or milliseconds as the names say."""
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


def _process() -> dict[str, int | float | None]:
    """Return resident memory, threads and open files of this process; null where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "open_files": len(list(Path("/proc/self/fd").iterdir())),
        }
    except OSError:
        return {"memory_mb": None, "threads": None, "open_files": None}
