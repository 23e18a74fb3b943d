from pathlib import Path

import pytest

from edge_runtime.resources import available_memory

MEMINFO = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n"
STAT = "anon 700\ninactive_file 30\nactive_file 40\ntotal_inactive_file 300\ntotal_active_file 400\n"


def system(root, memberships, files):
    """Write what the kernel shows of memory and cgroups below ``root``."""
    for name, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": memberships, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        pytest.param("", {}, 8_000_000 * 1024, id="no cgroups"),
        pytest.param("0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}, 8_000_000 * 1024, id="no limit"),
        pytest.param(
            "0::/a/b\n",
            {
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "1000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            4000,
            id="version 2, one above",
        ),
        pytest.param(
            "0::/a\n",
            {
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "1000\n",
                "sys/fs/cgroup/a/memory.stat": STAT,
            },
            4070,
            id="version 2, file pages can be given up",
        ),
        pytest.param(
            "7:memory:/docker/1\n3:cpu:/docker/1\n",
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "5000\n",
                "sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/docker/1/memory.stat": STAT,
            },
            4700,
            id="version 1, with the groups below",
        ),
        pytest.param(
            "0::/\n", {"sys/fs/cgroup/memory.max": "500\n", "sys/fs/cgroup/memory.current": "600\n"}, 0, id="over it"
        ),
    ],
)
def test_memory_is_what_system_and_cgroups_leave(tmp_path, memberships, files, expected):
    assert available_memory(system(tmp_path, memberships, files)) == expected


def test_memory_of_this_machine_and_of_one_that_does_not_say(tmp_path):
    assert available_memory() > 10**7
    assert available_memory(tmp_path) == 4 * 10**9


def test_nobody_else_reads_cgroups():
    project = Path(__file__).parents[2]
    readers = [
        path.relative_to(project)
        for package in ("edge_runtime", "training", "export")
        for path in (project / package).rglob("*.py")
        if "fs/cgroup" in path.read_text(encoding="utf-8")
    ]
    assert readers == [Path("edge_runtime/resources.py")]
