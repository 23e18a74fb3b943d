import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from colors import color_scene
from onnx import numpy_helper

from edge_runtime.cli import main
from edge_runtime.device.doctor import Check, Report, check_profile, examine
from edge_runtime.device.doctor.cameras import check_cameras
from edge_runtime.device.doctor.machine import (
    check_clock,
    check_cores,
    check_disk,
    check_display,
    check_memory,
    check_temperature,
    check_throttling,
)
from edge_runtime.device.doctor.packages import (
    MIN_PYTHON,
    check_libc,
    check_module,
    check_python,
    check_twins,
    import_in_child,
)
from edge_runtime.device.golden import Golden, golden_test
from edge_runtime.errors import GateError, ModelError, UsageError
from edge_runtime.errors.installation import MIN_VERSIONS
from edge_runtime.model.device_profile import DeviceProfile, Machine, models_of, profile_path, write_profile
from edge_runtime.model.package import MANIFEST, Package
from edge_runtime.model.session import SessionOptions

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def sign_again(root: Path) -> None:
    """Write the digests of the files as they are now, as a wrong but undamaged export would have."""
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["files"] = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (root / MANIFEST).write_text(json.dumps(manifest))


def test_this_machine_is_fine(tmp_path):
    report = examine(None, tmp_path)
    assert report.ok, report
    assert {"python", "numpy", "onnxruntime", "cv2", "cores", "display", "disk", "cameras"} <= {
        c.name for c in report.checks
    }
    assert report.to_dict()["golden"] is None
    report.raise_if_bad()


def test_what_is_not_fine_comes_with_a_fix(tmp_path):
    for check in examine(None, tmp_path).checks:
        assert check.cause
        assert (check.fix is None) == (check.status == "ok")


def test_the_floors_are_those_of_the_project():
    project = tomllib.loads(PROJECT.read_text())["project"]
    floors = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", d).groups() for d in project["dependencies"])
    assert floors == {
        "numpy": MIN_VERSIONS["numpy"],
        "onnxruntime": MIN_VERSIONS["onnxruntime"],
        "opencv-python": MIN_VERSIONS["cv2"],
    }
    assert project["requires-python"] == ">=" + ".".join(map(str, MIN_PYTHON))


def write_tree(root: Path, **files: object) -> Path:
    """Write small files as sys and proc show them; a name's ``__`` is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("version", "status"), [((3, 11, 0), "ok"), ((3, 14, 2), "ok"), ((3, 10, 9), "error"), ((2, 7, 18), "error")]
)
def test_python_must_be_new(version, status):
    assert check_python(version, 64, "x86_64").status == status


@pytest.mark.parametrize(
    ("architecture", "cause", "fix"),
    [
        ("armv7l", "32-bit on a 32-bit kernel (armv7l)", "install a 64-bit operating system"),
        ("aarch64", "32-bit on a 64-bit kernel (aarch64)", "install the 64-bit image of the system"),
        ("AMD64", "32-bit on a 64-bit kernel (AMD64)", "install a 64-bit Python"),
    ],
)
def test_a_32_bit_python_is_an_error_that_knows_its_kernel(architecture, cause, fix):
    check = check_python((3, 11, 2), 32, architecture)
    assert (check.name, check.status) == ("python", "error")
    assert check.cause == f"Python 3.11.2, {cause}"
    assert check.fix.startswith(fix)
    assert check.fix.endswith("(onnxruntime has no 32-bit wheels)")


def module(name: str, version: str | None, error: str = "", *, arm: bool = False, **wheels: str) -> Check:
    names = {name.replace("_", "-"): version for name, version in wheels.items()}
    return check_module(name, version, error, wheels=names, architecture="aarch64" if arm else "x86_64")


@pytest.mark.parametrize(
    ("version", "status"), [("1.30.1", "ok"), ("1.31.0", "ok"), ("2.0", "ok"), ("1.30.0", "error"), ("1.9.9", "error")]
)
def test_an_old_version_is_an_error_with_the_upgrade(version, status):
    check = module("onnxruntime", version)
    assert check.status == status
    assert status == "ok" or check.fix == "pip install -U 'onnxruntime>=1.30.1'"


@pytest.mark.parametrize(
    ("version", "arm", "what"),
    [
        ("1.25.1", True, "leaks memory with every new frame"),
        ("1.27.0", True, "computes convolutions wrongly, and silently, on processors with SME"),
        ("1.25.1", False, "a damaged model file can corrupt its memory"),
        ("1.30.0", True, "a damaged model file can corrupt its memory"),
    ],
)
def test_a_version_that_is_known_to_fail_says_how(version, arm, what):
    assert what in module("onnxruntime", version, arm=arm).cause


def test_faults_of_arm_are_not_told_elsewhere():
    assert "leaks" not in module("onnxruntime", "1.25.1").cause
    assert "leaks" not in module("onnxruntime", "1.27.1", arm=True).cause
    assert "wrongly" not in module("onnxruntime", "1.27.1", arm=True).cause


def test_an_opencv_that_cannot_open_cameras_is_a_warning():
    check = module("cv2", "4.11.0", opencv_python_headless="4.11.0.86")
    assert (check.status, check.cause) == (
        "warning",
        "cv2 4.11.0 cannot open many RTSP cameras: it gives up after 30 s",
    )
    assert check.fix == "pip install -U 'opencv-python-headless>=4.12'"
    assert module("cv2", "4.12.0").status == module("cv2", "5.0.0").status == "ok"


def test_the_illegal_instruction_of_a_raspberry_pi_4_is_recognised():
    check = module("onnxruntime", None, "the import died of SIGILL", arm=True, onnxruntime="1.21.0")
    assert check.status == "error"
    assert check.cause.endswith(
        "onnxruntime 1.21.0 dies of an illegal instruction on the Cortex-A72 of a Raspberry Pi 4"
    )
    assert check.fix == "pip install -U 'onnxruntime>=1.30.1'"


def test_the_installed_wheel_is_the_one_to_repair():
    check = module("cv2", "4.10.0", opencv_contrib_python="4.10.0.84")
    assert (check.status, check.fix) == ("error", "pip install -U 'opencv-contrib-python>=4.11'")


def test_a_wheel_that_lags_behind_is_replaced():
    check = module("onnxruntime", "1.24.1", onnxruntime_openvino="1.24.1")
    assert check.fix == "pip uninstall -y onnxruntime-openvino && pip install 'onnxruntime>=1.30.1'"
    assert module("onnxruntime", "1.24.1", onnxruntime_gpu="1").fix == "pip install -U 'onnxruntime-gpu>=1.30.1'"


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "apt-get install libgl1 libglib2.0-0"),
        ("ImportError: libgthread-2.0.so.0: cannot open", "apt-get install libgl1 libglib2.0-0"),
        ("ModuleNotFoundError: No module named 'cv2'", "pip install 'opencv-python>=4.11'"),
        ("ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found", "this wheel is for a newer system"),
        ("ImportError: DLL load failed while importing cv2", "Visual C++ Redistributable"),
        ("the import died of SIGILL", "this wheel is for another processor"),
        ("AttributeError: _ARRAY_API not found", "pip install --force-reinstall 'opencv-python>=4.11'"),
    ],
)
def test_a_broken_import_comes_with_its_remedy(error, fix):
    check = module("cv2", None, error)
    assert (check.status, check.cause) == ("error", f"import cv2 fails — {error}")
    assert fix in check.fix


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (("linux", "glibc", "2.17"), "glibc 2.17, older than 2.28"),
        (("linux", "", ""), "no glibc (Alpine Linux?), for which onnxruntime has no wheels"),
        (("linux", "musl", "1.2"), "no glibc (Alpine Linux?), for which onnxruntime has no wheels"),
        (("linux", "glibc", "2.28"), None),
        (("linux", "glibc", "2.41"), None),
        (("darwin", "", ""), None),
    ],
)
def test_a_c_library_without_wheels_is_named(facts, cause):
    checks = check_libc(*facts)
    assert [(c.name, c.status, c.cause) for c in checks] == ([("libc", "error", cause)] if cause else [])
    assert all(c.fix for c in checks)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "ImportError: libGL.so.1: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the import died of SIGKILL"),
        ("raise SystemExit(3)", "the import ended with exit code 3"),
    ],
)
def test_a_broken_module_does_not_break_the_doctor(tmp_path, monkeypatch, body, error):
    (tmp_path / "broken_wheel.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    version, found = import_in_child("broken_wheel")
    assert version is None
    assert found.startswith(error)


def test_the_working_folder_cannot_shadow_a_module(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise ImportError('not the real one')")
    monkeypatch.chdir(tmp_path)
    assert import_in_child("numpy")[0] == np.__version__


def test_twin_wheels_are_named_with_the_way_out():
    (check,) = check_twins({"numpy": "2", "opencv-python": "5", "opencv-python-headless": "5", "onnxruntime": "1"})
    assert (check.name, check.status) == ("opencv-python twins", "warning")
    assert "opencv-python and opencv-python-headless are installed together" in check.cause
    assert check.fix == "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"
    assert check_twins({"onnxruntime": "1", "opencv-python-headless": "5"}) == []


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"])
def test_onnxruntime_has_twins_too(other):
    (check,) = check_twins({"onnxruntime": "1.31.0", other: "1.31.0", "opencv-python": "5"})
    assert check.name == "onnxruntime twins"
    assert check.fix == f"pip uninstall -y onnxruntime {other} && pip install onnxruntime"


def test_fewer_usable_cores_are_a_warning():
    assert check_cores(4, 4).status == "ok"
    assert check_cores(1, 4) == Check(
        name="cores",
        status="warning",
        cause="1 of 4 cores usable (CPU affinity or a container's quota)",
        fix="give the process more cores if it is meant to be faster (taskset, docker --cpus, CPUQuota=)",
    )


MEMORY = "MemTotal:  1000000 kB\nMemFree: 50000 kB\nMemAvailable:   {} kB"


class TestMemory:
    def test_enough(self, tmp_path):
        write_tree(tmp_path, proc__meminfo=MEMORY.format(900000))
        assert check_memory(tmp_path) == [Check(name="memory", status="ok", cause="921 MB of memory available")]

    def test_too_little(self, tmp_path):
        write_tree(tmp_path, proc__meminfo=MEMORY.format(150000), sys__fs__cgroup__memory__max="max")
        (check,) = check_memory(tmp_path)
        assert (check.status, check.cause) == ("warning", "153 MB of memory available, fewer than 200")
        assert check.fix == "end other programs, or add swap (zram)"

    @pytest.mark.parametrize(
        ("membership", "limit", "used"),
        [
            pytest.param("0::/", "memory.max", "memory.current", id="a container"),
            pytest.param(
                "0::/system.slice/edge.service",
                "system.slice/edge.service/memory.max",
                "system.slice/edge.service/memory.current",
                id="MemoryMax= of a systemd unit",
            ),
            pytest.param(
                "0::/system.slice/edge.service/workers",
                "system.slice/memory.max",
                "system.slice/memory.current",
                id="MemoryMax= of the slice around it",
            ),
            pytest.param(
                "5:memory:/docker/1",
                "memory/docker/1/memory.limit_in_bytes",
                "memory/docker/1/memory.usage_in_bytes",
                id="version 1",
            ),
        ],
    )
    def test_a_limit_of_the_container_or_service(self, tmp_path, membership, limit, used):
        write_tree(tmp_path, proc__meminfo=MEMORY.format(900000), proc__self__cgroup=membership)
        write_tree(tmp_path / "sys/fs/cgroup", **{limit: 300_000_000, used: 200_000_000})
        (check,) = check_memory(tmp_path)
        assert check.status == "warning"
        assert check.cause == "100 MB left of what the container or service may use, fewer than 200"
        assert check.fix == "raise the limit (docker --memory, MemoryMax=)"

    def test_a_limit_that_leaves_more_than_the_system_has(self, tmp_path):
        write_tree(tmp_path, proc__meminfo=MEMORY.format(900000), proc__self__cgroup="0::/a")
        write_tree(tmp_path / "sys/fs/cgroup/a", **{"memory.max": 3_000_000_000, "memory.current": 0})
        assert check_memory(tmp_path) == [Check(name="memory", status="ok", cause="921 MB of memory available")]

    def test_without_proc_nothing_is_said(self, tmp_path):
        assert check_memory(tmp_path) == []


class TestClock:
    POLICY = "sys__devices__system__cpu__cpufreq__policy{}__{}"

    def write(self, root, index=0, **values):
        write_tree(root, **{self.POLICY.format(index, name): value for name, value in values.items()})

    def test_a_processor_that_speeds_up_is_fine(self, tmp_path):
        self.write(tmp_path, scaling_governor="ondemand", scaling_cur_freq=600000, cpuinfo_max_freq=1800000)
        (check,) = check_clock(tmp_path, lambda: self.write(tmp_path, scaling_cur_freq=1800000))
        assert check == Check(name="clock", status="ok", cause="1800 of 1800 MHz under load")

    def test_one_that_does_not_is_a_warning(self, tmp_path):
        self.write(tmp_path, scaling_governor="ondemand", scaling_cur_freq=600000, cpuinfo_max_freq=1800000)
        (check,) = check_clock(tmp_path, lambda: None)
        assert (check.status, check.cause) == ("warning", "600 of 1800 MHz under load")
        assert check.fix == "look for heat, a weak power supply or a power saving mode"

    def test_the_busy_core_counts_and_not_an_idle_one(self, tmp_path):
        self.write(tmp_path, 0, scaling_cur_freq=400000, cpuinfo_max_freq=1800000)
        self.write(tmp_path, 4, scaling_cur_freq=2200000, cpuinfo_max_freq=2400000)
        assert check_clock(tmp_path, lambda: None)[0].cause == "2200 of 2400 MHz under load"

    def test_powersave_is_a_warning_with_the_command(self, tmp_path):
        self.write(tmp_path, scaling_governor="powersave", scaling_driver="cpufreq-dt")
        (check,) = check_clock(tmp_path, lambda: pytest.fail("loaded for nothing"))
        assert check.status == "warning"
        assert check.cause == "the governor 'powersave' keeps the processor at its lowest clock"
        assert check.fix == "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"

    @pytest.mark.parametrize("driver", ["intel_pstate", "amd-pstate-epp"])
    def test_powersave_of_drivers_that_mean_something_else_by_it_is_fine(self, tmp_path, driver):
        self.write(tmp_path, scaling_governor="powersave", scaling_driver=driver)
        self.write(tmp_path, scaling_cur_freq=3000000, cpuinfo_max_freq=3000000)
        assert check_clock(tmp_path, lambda: None)[0].status == "ok"

    def test_a_virtual_machine_says_nothing(self, tmp_path):
        assert check_clock(tmp_path, lambda: pytest.fail("loaded for nothing")) == []
        self.write(tmp_path, scaling_governor="performance")
        assert check_clock(tmp_path, lambda: None) == []


class TestTemperature:
    def write(self, root, **zones):
        for number, (kind, value) in enumerate(zones.items()):
            zone = f"sys__class__thermal__thermal_zone{number}__"
            write_tree(root, **{f"{zone}type": kind, f"{zone}temp": value})

    def test_the_hottest_zone_counts(self, tmp_path):
        self.write(tmp_path, wifi=41000, cpu=62400)
        assert check_temperature(tmp_path) == [Check(name="temperature", status="ok", cause="62 °C (cpu)")]

    def test_heat_is_a_warning(self, tmp_path):
        self.write(tmp_path, cpu=83400)
        (check,) = check_temperature(tmp_path)
        assert (check.status, check.cause) == ("warning", "83 °C (cpu)")
        assert check.fix.startswith("add a heat sink or a fan")

    def test_sensors_that_sleep_or_are_not_there_say_nothing(self, tmp_path):
        assert check_temperature(tmp_path) == []
        self.write(tmp_path, broken=-274000, asleep="", mad=999000000)
        assert check_temperature(tmp_path) == []


class TestThrottling:
    FILE = "sys__devices__platform__soc__soc:firmware__get_throttled"

    @pytest.mark.parametrize(
        ("bits", "power", "throttling"),
        [
            ("0", "the supply voltage never was too low", "the processor never was slowed down"),
            ("50005", "the supply voltage is too low (", "the processor is slowed down ("),
            ("50000", "the supply voltage was too low since the last start (", "the processor was slowed down since"),
            ("80008", "the supply voltage never was too low", "the processor is slowed down (get_throttled 0x80008)"),
            ("10000", "the supply voltage was too low since the last start", "the processor never was slowed down"),
        ],
    )
    def test_the_bits_of_the_firmware_are_said_in_words(self, tmp_path, bits, power, throttling):
        checks = check_throttling(write_tree(tmp_path, **{self.FILE: bits}))
        assert [c.name for c in checks] == ["power", "throttling"]
        for check, cause in zip(checks, (power, throttling), strict=True):
            assert check.cause.startswith(cause)
            assert (check.status == "ok") == ("never" in cause) == (check.fix is None)

    def test_power_and_heat_have_their_own_remedies(self, tmp_path):
        power, throttling = check_throttling(write_tree(tmp_path, **{self.FILE: "f000f"}))
        assert "power supply and a short cable" in power.fix
        assert "heat sink" in throttling.fix

    def test_other_boards_say_nothing(self, tmp_path):
        assert check_throttling(tmp_path) == []


def display(root: Path, wheels=(), platform="linux", plugins=("libqxcb.so",), **environment: str) -> Check:
    return check_display(environment, platform, wheels=wheels, qt_plugins=plugins, root=root)


class TestDisplay:
    @pytest.fixture
    def x_server(self, tmp_path):
        return write_tree(tmp_path, **{"tmp__.X11-unix__X0": ""})

    def test_a_server_that_listens_is_fine(self, x_server):
        assert display(x_server, DISPLAY=":0").status == "ok"
        assert display(x_server, DISPLAY=":0.1").status == "ok"
        assert display(x_server, DISPLAY="localhost:10.0").status == "ok"

    @pytest.mark.parametrize("environment", [{}, {"DISPLAY": ""}])
    def test_no_display(self, tmp_path, environment):
        check = display(tmp_path, **environment)
        assert (check.status, check.fix) == ("warning", "use run --save, or a desktop session (ssh -X)")
        assert check.cause == "neither DISPLAY nor WAYLAND_DISPLAY is set: run --show cannot work"

    def test_a_display_where_nobody_listens(self, x_server):
        check = display(x_server, DISPLAY=":7")
        assert (check.status, check.cause) == (
            "warning",
            "DISPLAY is :7, where no X server listens: run --show cannot work",
        )

    def test_wayland_alone_needs_a_plugin(self, tmp_path):
        check = display(tmp_path, WAYLAND_DISPLAY="wayland-0")
        assert (check.status, check.fix) == ("warning", "apt-get install xwayland")
        assert display(tmp_path, plugins=("libqwayland.so",), WAYLAND_DISPLAY="wayland-0").status == "ok"
        assert display(tmp_path, plugins=(), WAYLAND_DISPLAY="wayland-0").status == "ok", "an OpenCV with GTK"

    @pytest.mark.parametrize("wheel", ["opencv-python-headless", "opencv-contrib-python-headless"])
    def test_a_headless_wheel_has_no_windows(self, x_server, wheel):
        for platform in ("linux", "win32"):
            check = display(x_server, wheels=["numpy", wheel], platform=platform, DISPLAY=":0")
            assert (check.status, check.cause) == ("warning", f"{wheel} has no windows: run --show cannot work")
            assert check.fix == f"pip uninstall -y {wheel} && pip install {wheel.removesuffix('-headless')}"

    def test_other_systems_have_a_desktop(self, tmp_path):
        assert display(tmp_path, platform="win32").status == "ok"
        assert display(tmp_path, platform="darwin").status == "ok"


class TestDisk:
    def test_a_folder_that_is_not_there_is_a_warning(self, tmp_path):
        assert check_disk(tmp_path).name == "disk"
        check = check_disk(tmp_path / "none")
        assert (check.status, check.fix) == ("warning", "change to another folder")

    def test_a_full_disk_is_a_warning(self, tmp_path, monkeypatch):
        monkeypatch.setattr("edge_runtime.device.doctor.machine.MIN_FREE_MB", 10**9)
        check = check_disk(tmp_path)
        assert (check.status, check.fix) == ("warning", "free some space before saving results")

    @pytest.mark.skipif(not Path("/proc/sys").exists(), reason="needs a folder that is on a file system without files")
    def test_a_folder_that_takes_no_files_is_a_warning(self):
        folder = Path("/proc/self")
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write it")
        check = check_disk(folder)
        assert (check.status, check.cause) == ("warning", "/proc/self is not writable")


class TestCameras:
    def device(self, root, number, name="", index=0, *, virtual=False):
        """Add a video device as Linux shows it."""
        write_tree(root, **{f"dev__video{number}": ""})
        home = root / "sys/devices" / ("virtual/video4linux" if virtual else "usb1/video4linux") / f"video{number}"
        write_tree(home, name=name, index=index)
        shown = root / "sys/class/video4linux"
        shown.mkdir(parents=True, exist_ok=True)
        (shown / f"video{number}").symlink_to(home)

    def holder(self, root, pid, name, device):
        """Add a process that has a device open."""
        write_tree(root, **{f"proc__{pid}__comm": name})
        (root / f"proc/{pid}/fd").mkdir()
        (root / f"proc/{pid}/fd/0").symlink_to("/dev/null")
        (root / f"proc/{pid}/fd/7").symlink_to(root / "dev" / device)

    def test_they_are_listed_by_number_and_name_without_nodes_for_metadata(self, tmp_path):
        self.device(tmp_path, 10, "HD Webcam")
        self.device(tmp_path, 2, "C920")
        self.device(tmp_path, 3, "C920", index=1)
        (check,) = check_cameras(tmp_path, "linux")
        assert (check.name, check.status) == ("cameras", "ok")
        assert check.cause == f"{tmp_path}/dev/video2 (C920), {tmp_path}/dev/video10 (HD Webcam)"

    def test_none_is_a_warning(self, tmp_path):
        (check,) = check_cameras(tmp_path, "linux")
        assert (check.status, check.cause) == ("warning", "no /dev/video* device")
        assert "--device /dev/video0" in check.fix

    def test_other_systems_are_not_asked(self, tmp_path):
        assert [c.status for c in check_cameras(tmp_path, "darwin")] == ["ok"]

    def test_no_permission(self, tmp_path):
        self.device(tmp_path, 0, "C920")
        (check,) = check_cameras(tmp_path, "linux", may_open=lambda _: False)
        assert (check.name, check.status) == ("camera permission", "warning")
        assert check.cause == f"no permission for {tmp_path}/dev/video0 (C920)"
        assert check.fix == "sudo usermod -aG video $USER, then log in again"

    def test_a_busy_one_names_who_holds_it(self, tmp_path):
        self.device(tmp_path, 0, "C920")
        self.device(tmp_path, 2, "Other")
        self.holder(tmp_path, 4711, "zoom", "video0")
        self.holder(tmp_path, 99, "motion", "video0")
        self.holder(tmp_path, 5, "cat", "video22")
        (check,) = check_cameras(tmp_path, "linux")
        assert (check.name, check.status) == ("camera busy", "warning")
        assert check.cause == f"{tmp_path}/dev/video0 is in use by motion (pid 99), zoom (pid 4711)"
        assert check.fix == "end it if it is not needed: kill 99 4711"

    def test_who_feeds_a_virtual_camera_is_not_in_the_way(self, tmp_path):
        self.device(tmp_path, 9, "Dummy video device", virtual=True)
        self.holder(tmp_path, 4711, "obs", "video9")
        assert [c.status for c in check_cameras(tmp_path, "linux")] == ["ok"]

    @pytest.mark.skipif(sys.platform != "linux", reason="reads proc")
    def test_a_real_process_is_found(self, tmp_path):
        self.device(tmp_path, 0, "C920")
        (tmp_path / "proc").mkdir()
        with (tmp_path / "dev/video0").open() as device, subprocess.Popen(["sleep", "100"], stdin=device) as child:
            (tmp_path / f"proc/{child.pid}").symlink_to(f"/proc/{child.pid}")
            (tmp_path / f"proc/{os.getpid()}").symlink_to("/proc/self")  # holds it too, and is not in its own way
            try:
                (check,) = check_cameras(tmp_path, "linux")
            finally:
                child.kill()
        assert check.cause == f"{tmp_path}/dev/video0 is in use by sleep (pid {child.pid})"

    @pytest.mark.parametrize("name", ["unicam-image", "unicam", "rp1-cfe-csi2_ch0", "rp1-cfe"])
    def test_a_camera_of_libcamera_comes_with_the_pipe(self, tmp_path, name):
        write_tree(tmp_path, **{"proc__device-tree__model": "Raspberry Pi 5 Model B Rev 1.0\0"})
        self.device(tmp_path, 0, name)
        for number, other in ((10, "bcm2835-codec-decode"), (13, "bcm2835-isp"), (19, "rpivid"), (20, "pispbe-input")):
            self.device(tmp_path, number, other)
        (check,) = check_cameras(tmp_path, "linux")
        assert (check.name, check.status) == ("cameras", "warning")
        assert check.cause == (
            f"{tmp_path}/dev/video0 ({name}) is a camera for libcamera only, which OpenCV cannot open"
        )
        assert check.fix == "rpicam-vid -t 0 --codec mjpeg -o - | edge-unet run PACKAGE --source - --live"

    def test_a_usb_camera_on_a_raspberry_pi_is_a_camera(self, tmp_path):
        self.device(tmp_path, 0, "unicam-image")
        self.device(tmp_path, 1, "C920")
        (check,) = check_cameras(tmp_path, "linux")
        assert (check.status, check.cause) == ("ok", f"{tmp_path}/dev/video1 (C920)")

    def test_a_raspberry_pi_without_a_camera_is_told_both_ways(self, tmp_path):
        write_tree(tmp_path, **{"proc__device-tree__model": "Raspberry Pi 4 Model B Rev 1.4\0"})
        self.device(tmp_path, 10, "bcm2835-codec-decode")
        (check,) = check_cameras(tmp_path, "linux")
        assert check.status == "warning"
        assert check.cause == (
            "no camera on this Raspberry Pi 4 Model B Rev 1.4; "
            f"{tmp_path}/dev/video10 (bcm2835-codec-decode) are codecs"
        )
        assert "rpicam-hello --list-cameras" in check.fix
        assert "rpicam-vid -t 0" in check.fix


class TestProfile:
    def test_none_is_fine(self, color_package):
        check = check_profile(Package.open(color_package))
        assert (check.name, check.status, check.fix) == ("profile", "ok", None)
        assert check.cause.startswith("no device profile: the defaults are used")

    def test_one_that_does_not_fit_is_a_warning(self, color_package):
        profile_path(color_package).write_text("{}")
        check = check_profile(Package.open(color_package))
        assert (check.status, check.fix) == ("warning", f"run `edge-unet tune {color_package}` again")
        assert check.cause.startswith(f"ignored: {profile_path(color_package)}: key 'format_version' is missing")

    def test_one_that_fits_is_said(self, color_package):
        package = Package.open(color_package)
        profile = DeviceProfile(
            models=models_of(package),
            machine=Machine.here(),
            variant="fp32",
            options=SessionOptions(threads=1),
            **dict.fromkeys(("goal_ms", "p50_ms", "p95_ms", "cpu_ms"), 1.0),
            date="2026-01-02",
        )
        write_profile(profile, color_package)
        check = check_profile(package)
        assert (check.status, check.fix) == ("ok", None)
        assert check.cause == f"{profile_path(color_package)}: fp32, 1 thread, no spinning"


def test_people_read_what_is_wrong_first(color_package, capsys):
    profile_path(color_package).write_text("{}")
    (color_package / "golden" / "0.png").unlink()
    assert main(["doctor", str(color_package)]) == 4
    marks = [line[:6].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert marks == sorted(marks, key=["[FAIL]", "[warn]", "[ok]"].index)
    assert marks[0] == "[FAIL]"


def test_the_golden_frames_come_out_as_stored(color_package, tmp_path):
    report = examine(color_package, tmp_path)
    assert report.golden == Golden(ok=True, pixel_agreement=1.0, frames=1, variants={"fp32": 1.0})
    assert report.to_dict()["golden"]["pixel_agreement"] == 1.0
    assert report.ok
    report.raise_if_bad()


def test_a_machine_that_computes_something_else_fails_the_gate(color_package, tmp_path):
    mask_file = color_package / "golden" / "0.mask.png"
    mask = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
    mask[:4] = 2 - mask[:4]
    cv2.imwrite(str(mask_file), mask)
    sign_again(color_package)
    report = examine(color_package, tmp_path)
    assert not report.ok
    assert report.golden.pixel_agreement == pytest.approx(1 - 4 / 48)
    with pytest.raises(GateError, match=r"91\.6667% of the pixels of variant 'fp32' agree — expected at least 99\.9%"):
        report.raise_if_bad()


@pytest.fixture
def two_variants(color_package) -> Path:
    """The package with an "INT8" variant that takes red for blue, and masks in which it does."""
    data = (color_package / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[[0, 2, 1]], "kernel"))
    (color_package / "model.int8.onnx").write_bytes(model.SerializeToString())
    mask = cv2.imread(str(color_package / "golden" / "0.mask.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(color_package / "golden" / "0.int8.mask.png"), np.array([0, 2, 1], np.uint8)[mask])
    manifest = json.loads((color_package / MANIFEST).read_text())
    digest = hashlib.sha256((color_package / "model.int8.onnx").read_bytes()).hexdigest()
    manifest["variants"]["int8"] = {"file": "model.int8.onnx", "sha256": digest, "bytes": len(data)}
    manifest["golden"][0]["masks"]["int8"] = "golden/0.int8.mask.png"
    manifest["files"]["golden/0.int8.mask.png"] = ""
    (color_package / MANIFEST).write_text(json.dumps(manifest))
    sign_again(color_package)
    return color_package


def test_each_variant_is_compared_with_its_own_masks(two_variants, tmp_path):
    report = examine(two_variants, tmp_path)
    assert report.golden == Golden(ok=True, pixel_agreement=1.0, frames=1, variants={"fp32": 1.0, "int8": 1.0})
    assert report.to_dict()["golden"]["variants"] == {"fp32": 1.0, "int8": 1.0}
    report.raise_if_bad()


@pytest.mark.parametrize(("variant", "file"), [("fp32", "0.mask.png"), ("int8", "0.int8.mask.png")])
def test_the_variant_that_computes_something_else_is_named(two_variants, tmp_path, variant, file, capsys):
    mask = cv2.imread(str(two_variants / "golden" / file), cv2.IMREAD_UNCHANGED)
    mask[:6] = 1
    cv2.imwrite(str(two_variants / "golden" / file), mask)
    sign_again(two_variants)
    report = examine(two_variants, tmp_path)
    assert not report.golden.ok
    assert report.golden.worst == variant
    assert report.golden.variants == {"fp32": 1.0, "int8": 1.0} | {variant: pytest.approx(1 - 6 / 48)}
    assert report.golden.pixel_agreement == report.golden.variants[variant]
    with pytest.raises(GateError, match=rf"87\.5000% of the pixels of variant '{variant}' agree — expected at least"):
        report.raise_if_bad()
    assert main(["doctor", str(two_variants)]) == 5
    out, err = capsys.readouterr()
    assert f"variant '{variant}'" in err
    assert f"{variant} 87.5000%" in out


def test_a_damaged_package_is_in_the_report_and_raised(color_package, tmp_path):
    (color_package / "golden" / "0.png").write_bytes(b"x")
    report = examine(color_package, tmp_path)
    assert report.golden is None
    assert report.checks[-1].name == "package"
    assert "SHA-256" in report.checks[-1].cause
    assert not report.ok
    with pytest.raises(ModelError, match=r"golden/0\.png — SHA-256 is"):
        report.raise_if_bad()


def test_a_golden_mask_of_another_size_is_refused(color_package):
    cv2.imwrite(str(color_package / "golden" / "0.mask.png"), np.zeros((3, 3), np.uint8))
    sign_again(color_package)
    with pytest.raises(ModelError, match=r"0\.mask\.png — shape \(3, 3\) — expected \(48, 64\), as its frame"):
        golden_test(Package.open(color_package))


def test_a_signed_golden_frame_that_is_no_picture_is_a_refused_package(color_package, tmp_path):
    (color_package / "golden" / "0.png").write_bytes(b"no picture")
    sign_again(color_package)
    with pytest.raises(ModelError, match="not an image"):
        examine(color_package, tmp_path).raise_if_bad()


def test_a_package_without_golden_frames_is_a_warning(color_package, tmp_path):
    manifest = json.loads((color_package / MANIFEST).read_text())
    manifest["golden"] = []
    (color_package / MANIFEST).write_text(json.dumps(manifest))
    report = examine(color_package, tmp_path)
    assert report.golden is None
    assert (report.checks[-1].name, report.checks[-1].status) == ("golden", "warning")
    report.raise_if_bad()


def test_a_broken_installation_is_a_usage_error():
    report = Report(checks=(module("cv2", None, "ImportError: libGL.so.1"),))
    with pytest.raises(UsageError, match="installation — errors in cv2 — expected none — follow the fixes above"):
        report.raise_if_bad()


def test_golden_frames_are_the_scene(color_package):
    assert np.array_equal(cv2.imread(str(color_package / "golden" / "0.png")), color_scene())
