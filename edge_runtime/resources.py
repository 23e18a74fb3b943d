"""Find out how many cores and how much memory this process may use, within the limits of its cgroups."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.storage import system_text

_UNKNOWN_MEMORY = 4 * 10**9
"""Bytes assumed to be available on systems other than Linux, which do not report it."""


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use by its CPU affinity and cgroup quotas, which os.cpu_count ignores.

    Args:
        root: Root of the file system.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *map(_cpu_quota, _cgroup_folders("cpu", root))])))


def available_memory(root: Path = Path("/")) -> int:
    """Return how many bytes this process may allocate before the system swaps or kills it.

    Args:
        root: Root of the file system.

    Returns:
        Linux's available memory, or what the cgroups leave if that is less.
    """
    system = system_memory(root)
    return math.floor(min(_UNKNOWN_MEMORY if system is None else system, cgroup_memory(root)))


def system_memory(root: Path = Path("/")) -> int | None:
    """Return Linux's available memory in bytes; None on a system that does not report it.

    Reference: https://docs.kernel.org/filesystems/proc.html (MemAvailable).
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", system_text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def cgroup_memory(root: Path = Path("/")) -> float:
    """Return the bytes that the cgroups of this process leave it; infinite without a limit.

    Reference: https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """
    return max(0.0, min(map(_memory_left, _cgroup_folders("memory", root)), default=math.inf))


def _cgroup_folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folder of each cgroup that may limit this process: its own and all parents, of version 1 or 2."""
    for membership in system_text(root / "proc/self/cgroup").splitlines():  # empty on other systems than Linux
        _, controllers, group = membership.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree, whose line names no controllers; version 1 has one tree per set of controllers.
        top = root / "sys/fs/cgroup" / controllers
        own = top / group.lstrip("/")
        # Inside a container the path may be that of the host, while only the root is visible: the container's group.
        for folder in (own, *own.parents):
            yield folder
            if folder == top:
                break


def _cpu_quota(folder: Path) -> float:
    """Return the number of cores that one cgroup allows; infinite without a limit.

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
    return cores if cores > 0 else math.inf  # version 1 writes -1 for no limit


def _memory_left(folder: Path) -> float:
    """Return the bytes that one cgroup leaves; infinite without a limit.

    Cached file pages are counted as left because the kernel frees them when memory runs short.
    """
    version_1 = (folder / "memory.limit_in_bytes").is_file()
    limit, used = ("limit_in_bytes", "usage_in_bytes") if version_1 else ("max", "current")
    try:
        left = int(system_text(folder / f"memory.{limit}")) - int(system_text(folder / f"memory.{used}"))
    except ValueError:  # no such file, or "max"
        return math.inf
    prefix = "total_" if version_1 else ""  # includes the child groups
    pages = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", system_text(folder / "memory.stat"), re.MULTILINE)
    return left + sum(map(int, pages))
