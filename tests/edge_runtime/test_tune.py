"""`edge-unet tune` with real child processes, one round each: what it measures, chooses, writes and leaves behind."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge_runtime import cli
from edge_runtime.device import tune
from edge_runtime.device.bench import Percentiles
from edge_runtime.device.tune import Configuration, Figures, Measurement, candidates, choose, measure, summary
from edge_runtime.errors import GateError, ModelError, StorageError, UsageError
from edge_runtime.model.device_profile import find_profile, profile_path
from edge_runtime.model.package import MANIFEST, Package
from edge_runtime.model.session import SessionOptions
from edge_runtime.segment.segmenter import Segmenter

PROJECT = Path(__file__).parents[2]
CPU = "CPUExecutionProvider"
DEADLINE_S = 60
"""For a broken program only: no test waits for it."""
ONE_THREAD = Configuration(variant="fp32", options=SessionOptions(threads=1))


def figures(name: str, p50: float, p95: float, cpu_ms: float) -> Figures:
    configuration = Configuration(variant=name, options=SessionOptions(threads=1))
    return Figures(configuration=configuration, frame_ms=Percentiles(p50=p50, p95=p95), cpu_ms=cpu_ms)


def excluded(name: str, reason: str) -> Figures:
    configuration = Configuration(variant=name, options=SessionOptions(threads=1))
    return Figures(configuration=configuration, frame_ms=None, cpu_ms=None, excluded=reason)


def chosen(*tried: Figures, goal_ms: float = 33) -> tuple[str, bool]:
    choice, met = choose(tried, goal_ms)
    return choice.configuration.variant, met


class TestChoice:
    def test_the_least_cpu_among_those_that_keep_the_goal(self):
        assert chosen(figures("fast", 5, 9, 40), figures("thrifty", 20, 32, 21)) == ("thrifty", True)

    def test_what_misses_the_goal_in_its_tail_is_out(self):
        assert chosen(figures("fast", 5, 9, 40), figures("thrifty", 20, 34, 21)) == ("fast", True)

    def test_the_goal_itself_is_kept(self):
        assert chosen(figures("a", 20, 33, 20), figures("b", 5, 9, 40)) == ("a", True)

    def test_cpu_times_within_five_percent_are_a_tie_that_the_faster_wins(self):
        assert chosen(figures("a", 9, 10, 100), figures("b", 8, 10, 105)) == ("b", True)
        assert chosen(figures("a", 9, 10, 100), figures("b", 8, 10, 106)) == ("a", True)

    def test_ties_are_counted_from_the_least_and_not_from_neighbour_to_neighbour(self):
        tried = (figures("a", 9, 10, 100), figures("b", 8, 10, 104), figures("c", 7, 10, 108))
        assert chosen(*tried) == ("b", True)

    def test_a_thrifty_one_that_misses_the_goal_does_not_set_the_tie(self):
        assert chosen(figures("slow", 90, 99, 1), figures("a", 9, 10, 100), figures("b", 8, 10, 104)) == ("b", True)

    def test_if_none_keeps_the_goal_the_fastest(self):
        assert chosen(figures("a", 50, 99, 10), figures("b", 40, 60, 90), goal_ms=33) == ("b", False)

    def test_what_is_excluded_is_never_chosen(self):
        assert chosen(excluded("best", "wrong"), figures("a", 50, 99, 10)) == ("a", False)

    def test_nothing_left_is_a_failed_gate_with_the_reason(self):
        with pytest.raises(GateError, match="none of 2 configurations can be used — wrong masks"):
            choose([excluded("a", "wrong masks"), excluded("b", "died")], 33)


class TestCandidates:
    @pytest.mark.parametrize(
        ("cores", "pools"),
        [
            (1, [(1, False)]),
            (2, [(1, False), (2, False), (2, True)]),
            (4, [(1, False), (2, False), (2, True), (4, False), (4, True)]),
            (6, [(1, False), (2, False), (2, True), (4, False), (4, True), (6, False), (6, True)]),
        ],
    )
    def test_threads_are_powers_of_two_and_all_cores(self, cores, pools):
        tried = candidates(["fp32"], cores, [CPU])
        assert [(c.options.threads, c.options.spinning) for c in tried] == pools

    def test_a_big_machine_is_not_searched_for_ever(self):
        assert max(c.options.threads for c in candidates(["fp32"], 128, [CPU])) == 16

    def test_every_variant_is_tried(self):
        assert [c.variant for c in candidates(["fp32", "int8"], 1, [CPU])] == ["fp32", "int8"]

    def test_providers_that_compute_here_are_tried_and_no_others(self):
        have = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "XnnpackExecutionProvider"]
        tried = candidates(["fp32"], 2, [*have, "AzureExecutionProvider", CPU])
        assert {c.options.provider for c in tried} == {CPU, "XnnpackExecutionProvider", "CUDAExecutionProvider"}
        assert sum(c.options.provider == "CUDAExecutionProvider" for c in tried) == 1


class TestSummary:
    def test_frames_of_all_rounds_are_put_together(self):
        rounds = [
            Measurement(frames_ms=(1.0, 2.0), cpu_ms=4.0),
            Measurement(frames_ms=(3.0,), cpu_ms=100.0),
            Measurement(frames_ms=(4.0, 5.0), cpu_ms=5.0),
        ]
        found = summary(ONE_THREAD, rounds, None)
        assert found.frame_ms == Percentiles(p50=3.0, p95=pytest.approx(4.8))
        assert found.cpu_ms == 5.0

    def test_what_failed_once_has_no_figures(self):
        rounds = [Measurement(frames_ms=(1.0,), cpu_ms=4.0)]
        assert summary(ONE_THREAD, rounds, "died") == Figures(
            configuration=ONE_THREAD, frame_ms=None, cpu_ms=None, excluded="died"
        )


class TestMeasuring:
    def test_a_camera_is_timed(self, color_package, monkeypatch):
        monkeypatch.setattr(tune, "CAMERA_FPS", 1000)
        found = measure(Package.open(color_package), ONE_THREAD)
        assert len(found.frames_ms) == tune.FRAMES
        assert all(ms > 0 for ms in found.frames_ms)
        assert found.cpu_ms > 0

    def test_wrong_masks_are_not_timed(self, wrong_int8, monkeypatch):
        monkeypatch.setattr(tune, "_paced", lambda _: pytest.fail("timed"))
        with pytest.raises(GateError, match=r"87\.5000% of the golden pixels agree, expected at least 99\.9%"):
            measure(Package.open(wrong_int8), Configuration(variant="int8", options=SessionOptions(threads=1)))

    def test_a_package_without_golden_frames_is_timed(self, color_package, monkeypatch):
        monkeypatch.setattr(tune, "CAMERA_FPS", 1000)
        manifest = json.loads((color_package / MANIFEST).read_text())
        manifest["golden"] = []
        (color_package / MANIFEST).write_text(json.dumps(manifest))
        assert measure(Package.open(color_package), ONE_THREAD).frames_ms

    def test_a_child_finds_what_this_process_finds(self, color_package, tmp_path, monkeypatch):
        (tmp_path / "numpy.py").write_text("raise ImportError('not the real one')")
        monkeypatch.chdir(tmp_path)
        found = tune._measured_in_child(Package.open(color_package), ONE_THREAD)
        assert len(found.frames_ms) == tune.FRAMES

    def test_a_configuration_that_cannot_run_says_why(self, color_package):
        configuration = Configuration(variant="fp32", options=SessionOptions(provider="XExecutionProvider"))
        with pytest.raises(ModelError, match="execution provider is XExecutionProvider — this onnxruntime has"):
            tune._measured_in_child(Package.open(color_package), configuration)

    def test_a_child_that_dies_is_named(self, color_package, tmp_path, monkeypatch):
        (tmp_path / "dying").write_text('#!/bin/sh\necho "some library: no" >&2\nkill -ILL $$\n')
        (tmp_path / "dying").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "dying"))
        with pytest.raises(ModelError, match=r"the process ended early \(died of signal 4\): some library: no"):
            tune._measured_in_child(Package.open(color_package), ONE_THREAD)

    def test_a_child_that_hangs_is_given_up(self, color_package, tmp_path, monkeypatch):
        (tmp_path / "hanging").write_text("#!/bin/sh\nexec sleep 1000\n")
        (tmp_path / "hanging").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "hanging"))
        monkeypatch.setattr(tune, "_CHILD_LIMIT_S", 0.1)
        with pytest.raises(ModelError, match=r"took more than 0\.1 s"):
            tune._measured_in_child(Package.open(color_package), ONE_THREAD)
        assert children_of(os.getpid()) == []

    def test_a_child_that_says_nothing_is_named(self, color_package, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/true")
        with pytest.raises(ModelError, match=r"the process ended early \(exit code 0\)$"):
            tune._measured_in_child(Package.open(color_package), ONE_THREAD)

    def test_a_child_without_a_parent_ends(self, color_package):
        command = [sys.executable, "-m", "edge_runtime.device.tune", str(color_package), "fp32", "{}"]
        orphan = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=PROJECT, check=False)
        assert (orphan.returncode, orphan.stdout) == (1, b"")

    @pytest.mark.parametrize(("goal_ms", "rounds"), [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (33, 0)])
    def test_senseless_numbers_are_refused(self, color_package, goal_ms, rounds):
        with pytest.raises(UsageError, match="expected"):
            tune.tune(Package.open(color_package), goal_ms=goal_ms, rounds=rounds)


@pytest.fixture
def one_core(monkeypatch):
    """Search one thread only, whatever this machine has and whatever else it does."""
    monkeypatch.setattr(tune, "usable_cores", lambda: 1)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture
def wrong_int8(color_package) -> Path:
    """The package with an "INT8" variant that does not give its golden mask."""
    data = (color_package / "model.onnx").read_bytes()
    (color_package / "model.int8.onnx").write_bytes(data)
    mask = cv2.imread(str(color_package / "golden" / "0.mask.png"), cv2.IMREAD_UNCHANGED)
    mask[:6] = 1
    cv2.imwrite(str(color_package / "golden" / "0.int8.mask.png"), mask)
    manifest = json.loads((color_package / MANIFEST).read_text())
    manifest["variants"]["int8"] = {**manifest["variants"]["fp32"], "file": "model.int8.onnx"}
    manifest["golden"][0]["masks"]["int8"] = "golden/0.int8.mask.png"
    digest = hashlib.sha256((color_package / "golden" / "0.int8.mask.png").read_bytes()).hexdigest()
    manifest["files"]["golden/0.int8.mask.png"] = digest
    (color_package / MANIFEST).write_text(json.dumps(manifest))
    return color_package


@pytest.mark.usefixtures("one_core")
class TestCommand:
    def test_notes_that_have_its_name_stay(self, color_package, capsys):
        notes = color_package.parent / f"{color_package.name}.device.json"
        notes.write_text("my notes about this device")
        assert cli.main(["tune", str(color_package)]) == 2
        assert "holds something else than a device profile — move it away" in capsys.readouterr().err
        assert notes.read_text() == "my notes about this device"

    def test_the_profile_that_it_writes_is_used(self, color_package, capsys):
        assert cli.main(["tune", str(color_package), "--rounds", "1", "--json"]) == 0
        out, err = capsys.readouterr()
        value = json.loads(out)
        assert err == ""
        assert value.keys() == {
            *("goal_ms", "goal_met", "rounds", "camera_fps", "frame", "chosen", "configurations", "profile")
        }
        assert value["profile"] == str(profile_path(color_package))
        assert (value["goal_ms"], value["goal_met"], value["rounds"], value["camera_fps"]) == (33.0, True, 1, 15)
        (only,) = value["configurations"]
        assert only == value["chosen"]
        assert only.keys() == {"variant", "threads", "spinning", "provider", "frame_ms", "cpu_ms", "excluded"}
        assert (only["threads"], only["spinning"], only["provider"]) == (1, False, CPU)
        profile = json.loads(profile_path(color_package).read_text())
        assert (profile["p50_ms"], profile["cpu_ms"]) == (only["frame_ms"]["p50"], only["cpu_ms"])

    def test_a_variant_that_computes_something_else_is_left_out(self, wrong_int8, capsys):
        assert cli.main(["tune", str(wrong_int8), "--rounds", "1"]) == 0
        out, err = capsys.readouterr()
        rows = out.splitlines()
        assert rows[0].split() == ["variant", "threads", "spinning", "provider", "p50", "ms", "p95", "ms", "CPU", "ms"]
        assert rows[1].startswith("* fp32           1  no        CPU ")
        assert "int8           1  no        CPU        left out: 87.5000% of the golden pixels agree" in rows[2]
        assert rows[4] == ("* fp32, 1 thread, no spinning: least CPU time per frame of those that keep 33 ms")
        assert err == f"wrote {profile_path(wrong_int8)}\n"
        segmenter = Segmenter.load(wrong_int8)
        assert (segmenter.variant, segmenter.profile) == ("fp32", find_profile(Package.open(wrong_int8)))

    def test_a_goal_that_nobody_keeps_is_said(self, color_package, capsys):
        assert cli.main(["tune", str(color_package), "--rounds", "1", "--goal-ms", "0.0001", "--dry-run"]) == 0
        out, err = capsys.readouterr()
        assert "no configuration keeps 0.0001 ms in 95 of 100 frames; this is the fastest" in out
        assert err == ""
        assert not profile_path(color_package).exists()

    def test_a_busy_machine_is_said(self, color_package, capsys, monkeypatch):
        monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
        result = Measurement(frames_ms=(1.0,), cpu_ms=1.0)
        monkeypatch.setattr(tune, "_measured_in_child", lambda *_: result)
        assert cli.main(["tune", str(color_package), "--dry-run"]) == 0
        assert capsys.readouterr().err.startswith("other programs are running (load 1000.0 on ")

    def test_a_folder_that_cannot_be_written_is_named_before_the_measuring(self, color_package, capsys, monkeypatch):
        def refuse(root: Path) -> None:
            raise StorageError(f"cannot write {root}")

        monkeypatch.setattr("edge_runtime.model.device_profile.check_writable", refuse)
        monkeypatch.setattr(tune, "_measured_in_child", lambda *_: pytest.fail("measured"))
        assert cli.main(["tune", str(color_package)]) == 6
        assert "cannot write" in capsys.readouterr().err

    def test_no_package_and_senseless_options_have_their_exit_codes(self, color_package, tmp_path):
        assert cli.main(["tune", str(tmp_path / "none")]) == 4
        assert cli.main(["tune", str(color_package), "--goal-ms", "0"]) == 2
        assert cli.main(["tune", str(color_package), "--rounds", "0"]) == 2
        assert not profile_path(color_package).exists()

    def test_its_help_states_the_rule(self, capsys):
        with pytest.raises(SystemExit):
            cli.main(["tune", "--help"])
        out = capsys.readouterr().out
        assert "example:\n  edge-unet tune models/first" in out
        assert "less than 5 %, the faster one" in out


def test_each_step_is_told(color_package, monkeypatch):
    monkeypatch.setattr(tune, "usable_cores", lambda: 2)
    result = Measurement(frames_ms=(1.0,), cpu_ms=1.0)
    monkeypatch.setattr(tune, "_measured_in_child", lambda *_: result)
    steps = []
    tune.tune(Package.open(color_package), rounds=2, on_progress=lambda *step: steps.append(step))
    assert [step[1:] for step in steps] == [(i, 6) for i in range(6)]
    assert [step[0] for step in steps[:3]] == [step[0] for step in steps[3:]], "they take turns"
    assert steps[0][0] == "fp32, 1 thread, no spinning"


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


# Run by Python before anything else: a child of tune calls, and the line is cut when it ends.
CALLING = """
import socket, sys
if "edge_runtime.device.tune" in sys.orig_argv:
    sys.line = socket.create_connection(("127.0.0.1", {port}))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupt_leaves_no_child_and_no_profile(color_package, tmp_path_factory, number, code):
    hook = tmp_path_factory.mktemp("hook")
    command = [sys.executable, "-m", "edge_runtime", "tune", str(color_package), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hook), str(PROJECT)])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (hook / "sitecustomize.py").write_text(CALLING.format(port=listener.getsockname()[1]))
        listener.settimeout(DEADLINE_S)
        with subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes) as parent:
            line, _ = listener.accept()
            parent.send_signal(number)
            out, err = parent.communicate(timeout=DEADLINE_S)
        with line:
            line.settimeout(DEADLINE_S)
            assert line.recv(1) == b"", "the child has ended"
    assert (parent.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert list(color_package.parent.iterdir()) == [color_package]
