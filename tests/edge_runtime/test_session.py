import subprocess
import sys

import pytest
from colors import color_contract, color_model

from edge_runtime.resources import usable_cores


def cgroup(root, memberships, files):
    """Write what the kernel shows of cgroups below ``root``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(memberships)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ONE_CORE = "100000 100000\n"


@pytest.mark.parametrize(
    ("memberships", "files"),
    [
        pytest.param("0::/\n", {"cpu.max": ONE_CORE}, id="version 2, the top"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": ONE_CORE}, id="version 2, its own group"),
        pytest.param("0::/a/b\n", {"a/cpu.max": ONE_CORE, "a/b/cpu.max": "max 100000\n"}, id="version 2, one above"),
        pytest.param("0::/host/only\n", {"cpu.max": "50000 100000\n"}, id="version 2, the path is the host's"),
        pytest.param("0::/../up\n", {"cpu.max": ONE_CORE}, id="version 2, moved out of its namespace"),
        pytest.param(
            "4:cpu,cpuacct:/\n1:name=systemd:/x\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            id="version 1, the top",
        ),
        pytest.param(
            "4:cpu:/docker/1\n0::/\n",
            {
                "cpu/docker/1/cpu.cfs_quota_us": "100000\n",
                "cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            id="version 1, its own group",
        ),
    ],
)
def test_a_cgroup_of_one_core_is_one_core(tmp_path, memberships, files):
    assert usable_cores(cgroup(tmp_path, memberships, files)) == 1


@pytest.mark.parametrize(
    ("memberships", "files"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}),
        ("0::/\n", {"cpu.max": ""}),
        ("0::/a\n", {"b/cpu.max": ONE_CORE}),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000\n", "cpuset/cpu.cfs_period_us": "100000\n"}),
        ("", {}),
    ],
)
def test_without_a_quota_the_affinity_counts(tmp_path, memberships, files):
    assert usable_cores(cgroup(tmp_path, memberships, files)) == usable_cores(tmp_path / "no such system") >= 1


FORK = """
import os, sys
import numpy as np
from edge_runtime import Segmenter, SessionOptions, UsageError
segmenter = Segmenter.load(sys.argv[1], options=SessionOptions(threads=2))
frame = np.zeros((48, 64, 3), np.uint8)
child = os.fork()
if child == 0:
    try:
        segmenter(frame)
    except UsageError as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, segmenter(frame).mask.shape)
"""


def test_a_fork_is_told_so_and_its_parent_goes_on(tmp_path):
    (tmp_path / "model.onnx").write_bytes(color_model(color_contract()))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "model 'colors' — was loaded before this process was forked, without the threads that it waits for — load it in "
        "the process that uses it",
        "7 (48, 64)",
    ]
