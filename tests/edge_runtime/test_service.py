"""The unattended run: systemd's messages over a real socket, the status, a hang, an outage that ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
from colors import color_scene
from mjpeg import camera

from edge_runtime.run.service import Notifier

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30.0


@contextmanager
def systemd(tmp_path, name="notify"):
    """What stands at the other end of NOTIFY_SOCKET; an abstract name begins with "@"."""
    address = name if name.startswith("@") else str(tmp_path / name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(DEADLINE_S)
        yield listener, address


@contextmanager
def service(package, *options, **environment):
    command = [sys.executable, "-m", "edge_runtime", "run", str(package), "--service", *map(str, options)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **environment}, **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def status_when(path, condition, child):
    """Poll the status file until it says what is waited for."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        if path.exists() and condition(status := json.loads(path.read_text())):
            return status
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, path.read_text() if path.exists() else "no status"
        threading.Event().wait(0.02)


class TestNotifier:
    @pytest.mark.parametrize("name", ["socket", "@edge-unet-test"])
    def test_sends_to_a_path_and_to_an_abstract_name(self, tmp_path, name):
        with systemd(tmp_path, f"{name}-{os.getpid()}") as (listener, address):
            Notifier({"NOTIFY_SOCKET": address}).send("READY=1")
            assert listener.recv(100) == b"READY=1"

    def test_without_systemd_it_does_nothing(self):
        Notifier({}).send("READY=1")
        Notifier({}).alive()
        Notifier({"WATCHDOG_USEC": "1000"}).alive()

    def test_a_supervisor_that_has_gone_is_no_error(self, tmp_path):
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")

    def test_the_watchdog_is_fed_only_where_it_is_ours(self, tmp_path):
        with systemd(tmp_path) as (listener, address):
            other = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
            Notifier(other).alive()
            Notifier({**other, "WATCHDOG_PID": str(os.getpid())}).alive()
            assert listener.recv(100) == b"WATCHDOG=1"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)


class TestService:
    def test_tells_systemd_of_its_life_from_beginning_to_end(self, color_package, tmp_path):
        with (
            camera() as server,
            systemd(tmp_path) as (listener, address),
            service(
                color_package, "--source", server.url, "--status", tmp_path / "s.json", "--json", "/dev/null",
                NOTIFY_SOCKET=address, WATCHDOG_USEC="200000",
            ) as child,
        ):  # fmt: skip
            assert listener.recv(100) == b"READY=1"
            seen = set()
            while seen != {b"WATCHDOG", b"STATUS"}:
                seen.add(listener.recv(200).partition(b"=")[0])
            child.send_signal(signal.SIGTERM)
            while listener.recv(200) != b"STOPPING=1":
                pass
            _, stderr = child.communicate(timeout=DEADLINE_S)
        assert child.returncode == 143, stderr

    def test_survives_a_camera_that_is_not_there_yet_and_one_that_goes(self, color_package, tmp_path):
        path = tmp_path / "s.json"
        options = ("--status", path, "--status-interval", 0.05, "--json", "/dev/null")
        with camera() as server:
            server.do("gone")
            url = f"http://bob:hunter2@127.0.0.1:{server.server_port}/video?token=hunter2"
            with service(color_package, "--source", "env:CAMERA", *options, CAMERA=url) as child:
                waiting = status_when(path, lambda s: s["state"] == "waiting", child)
                assert (waiting["processed"], waiting["frame_age_s"]) == (0, None)
                server.do("serve")
                reading = status_when(path, lambda s: s["processed"] > 3, child)
                assert reading["state"] == "reading" and reading["frame_age_s"] < DEADLINE_S
                server.do("gone")
                lost = status_when(path, lambda s: s["state"] == "waiting", child)
                server.do("serve")
                again = status_when(path, lambda s: s["processed"] > lost["processed"] + 100, child)
                shown = Path(f"/proc/{child.pid}/cmdline").read_bytes()
                child.send_signal(signal.SIGTERM)
                stdout, stderr = child.communicate(timeout=DEADLINE_S)
        assert again["reconnects"] >= 1
        assert again["process"]["memory_mb"] > 10
        assert child.returncode == 143
        assert b"hunter2" not in stdout + stderr + shown + path.read_bytes()

    def test_a_full_disk_is_reported_and_survived(self, color_package, tmp_path):
        path = tmp_path / "s.json"
        options = ("--status", path, "--status-interval", 0.05, "--json", "/dev/full")
        with camera() as server, service(color_package, "--source", server.url, *options) as child:
            status = status_when(path, lambda s: s["failed"] > 5, child)
            assert "cannot write /dev/full — no space left on device" in status["problem"]
            child.send_signal(signal.SIGTERM)
            _, stderr = child.communicate(timeout=DEADLINE_S)
        assert child.returncode == 143
        assert stderr.decode().count("results lost so far") == 1, "once a minute is enough"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--source", "0", "--service", "--show"], "--service and --show — a service has no screen"),
            (["--source", "env:NO_SUCH"], "--source env:NO_SUCH — the environment variable is not set"),
            (["--source", ".", "--service"], "--service — is for cameras and streams"),
        ],
    )
    def test_refused(self, capfd, color_package, options, message, monkeypatch, tmp_path):
        from edge_runtime import cli

        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.png").touch()
        assert cli.main(["run", str(color_package), *options]) == 2
        assert message in capfd.readouterr().err

    def test_only_a_service_takes_long_work_for_a_hang(self, make_color_package, tmp_path, monkeypatch):
        """A person may have paused the window, or a picture have thousands of tiles."""
        from edge_runtime import cli

        monkeypatch.setattr("edge_runtime.run.execution.WEDGED_S", 0.001)
        (tmp_path / "a.png").write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
        package = make_color_package(height_px=2048, width_px=2048)
        options = ("--status", tmp_path / "s.json", "--status-interval", 0.001, "--json", "/dev/null")
        assert cli.main(["run", str(package), "--source", str(tmp_path / "a.png"), *map(str, options)]) == 0
        assert json.loads((tmp_path / "s.json").read_text())["processed"] == 1

    @pytest.mark.slow
    def test_a_hang_ends_it_with_code_70_and_the_stacks(self, color_package, tmp_path):
        """A named pipe that nobody reads stands for native code that does not return."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with camera() as server, service(color_package, "--source", server.url, "--json", pipe) as child:
                _, stderr = child.communicate(timeout=90)
        finally:
            os.close(reader)
        assert child.returncode == 70
        assert b"hangs in native code" in stderr and b"records.py" in stderr and b"Thread 0x" in stderr
