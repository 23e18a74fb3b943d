"""What this process may use of the machine: cores and memory, within what its cgroups allow."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.storage import system_text

_UNKNOWN_MEMORY = 4 * 10**9
"""Taken where the system does not say: Linux does."""


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: CPU affinity and its cgroups' quotas, which os.cpu_count ignores.

    Args:
        root: Where the file system begins.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *map(_cpu_quota, _cgroup_folders("cpu", root))])))


def available_memory(root: Path = Path("/")) -> int:
    """Return how many bytes this process may take before the system swaps or ends it.

    Args:
        root: Where the file system begins.

    Returns:
        What Linux calls available, or less where a cgroup leaves less.
    """
    system = system_memory(root)
    return math.floor(min(_UNKNOWN_MEMORY if system is None else system, cgroup_memory(root)))


def system_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that Linux calls available, None on a system that does not say.

    Reference: https://docs.kernel.org/filesystems/proc.html (MemAvailable).
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", system_text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def cgroup_memory(root: Path = Path("/")) -> float:
    """Return the bytes that the cgroups around this process leave it; infinite where none has a limit.

    Reference: https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """
    return max(0.0, min(map(_memory_left, _cgroup_folders("memory", root)), default=math.inf))


def _cgroup_folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folder of each cgroup around this process that may limit it: its own and those above, version 1 or 2."""
    for membership in system_text(root / "proc/self/cgroup").splitlines():  # no such file: not Linux
        _, controllers, group = membership.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Of version 2 there is one tree and its line names no controllers; version 1 has a tree for each set of them.
        top = root / "sys/fs/cgroup" / controllers
        own = top / group.lstrip("/")
        # Inside a container the path may be the host's, of which only the top is to be seen: the container's own group.
        for folder in (own, *own.parents):
            yield folder
            if folder == top:
                break


def _cpu_quota(folder: Path) -> float:
    """Return the cores that one cgroup allows; infinite where it has no limit.

    Reference: https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/scheduler/sched-bwc.html for version 1.
    """
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
    return cores if cores > 0 else math.inf  # version 1 writes -1 for none


def _memory_left(folder: Path) -> float:
    """Return the bytes that one cgroup leaves; infinite where it has no limit.

    File pages count as used but are given up under pressure.
    """
    version_1 = (folder / "memory.limit_in_bytes").is_file()
    limit, used = ("limit_in_bytes", "usage_in_bytes") if version_1 else ("max", "current")
    try:
        left = int(system_text(folder / f"memory.{limit}")) - int(system_text(folder / f"memory.{used}"))
    except ValueError:  # no such file, or "max"
        return math.inf
    prefix = "total_" if version_1 else ""  # with the groups below it
    pages = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", system_text(folder / "memory.stat"), re.MULTILINE)
    return left + sum(map(int, pages))
