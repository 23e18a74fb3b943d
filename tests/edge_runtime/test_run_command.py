"""``edge-unet run`` as a person or a script meets it: in this process where that is enough, else as a real process."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from colors import color_scene, color_truth
from mjpeg import camera

from edge_runtime import cli

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 30.0
FRAME_KEYS = {"frame", "source", "time_s", "size", "flags", "age_ms", "latency_ms", "classes", "mask"}
COUNTS = {"captured", "processed", "dropped", "failed", "reconnects", "stalls"}
SUMMARY_KEYS = {*COUNTS, "fps", "latency_ms", "age_ms", "stages_ms"}


@pytest.fixture
def run(capfd, color_package):
    """Run the command in this process; gives its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["run", str(color_package), *map(str, arguments)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "meine Bilder ü"
    folder.mkdir()
    for name in ("a b.png", "ü.jpg", "z.png"):
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, color_scene())[1].tobytes())
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for _ in range(30):
        writer.write(color_scene())
    writer.release()
    return path


@contextmanager
def process(*arguments: object, **options):
    command = [sys.executable, "-m", "edge_runtime", "run", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    # A shell starts background jobs with SIGINT ignored, which children inherit; a handler of ours they do not.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = subprocess.Popen(command, cwd=PROJECT, **pipes)
    finally:
        signal.signal(signal.SIGINT, inherited)
    with child:
        try:
            yield child
        finally:
            child.kill()


def lines_of(text):
    *frames, last = [json.loads(line) for line in text.splitlines()]
    assert all(set(frame) == FRAME_KEYS for frame in frames)
    assert last["summary"].keys() == SUMMARY_KEYS
    summary = last["summary"]
    assert summary["captured"] == summary["processed"] + summary["dropped"] + summary["failed"]
    return frames, summary


def frames_in(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened(), path
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


class TestImages:
    def test_folder_to_masks_pictures_and_json(self, run, pictures, tmp_path):
        out = tmp_path / "out"
        code, stdout, stderr = run("--source", pictures, "--save", out, "--json", "-")
        assert code == 0
        frames, summary = lines_of(stdout)
        assert [frame["source"] for frame in frames] == [str(pictures / n) for n in ("a b.png", "z.png", "ü.jpg")]
        assert (summary["captured"], summary["processed"], summary["failed"]) == (3, 3, 0)
        truth = color_truth(color_scene())
        mask = cv2.imdecode(np.fromfile(frames[0]["mask"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert (mask == truth).mean() > 0.95
        assert frames[0]["classes"]["red"] == pytest.approx((mask == 1).mean(), abs=1e-6)
        assert sum(frames[0]["classes"].values()) == pytest.approx(1, abs=1e-5)
        assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a b.jpg", "z.jpg", "ü.jpg"]
        assert "3 frames, " in stderr and f"wrote {out}/masks (3 masks)" in stderr

    def test_one_truncated_jpeg(self, run, pictures, tmp_path):
        whole = (pictures / "ü.jpg").read_bytes()
        (pictures / "ü.jpg").write_bytes(whole[: len(whole) // 2])
        code, stdout, stderr = run("--source", pictures, "--save", tmp_path / "out", "--json", "-")
        assert code == 3
        frames, summary = lines_of(stdout)
        assert (len(frames), summary["failed"]) == (2, 1)
        assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
        assert stderr.endswith(
            f"edge-unet: 1 of 3 images cannot be used: {pictures}/ü.jpg — truncated JPEG (no end marker) — copy it again or remove it\n"
        )

    def test_without_outputs_the_shares_are_printed(self, run, pictures):
        code, stdout, stderr = run("--source", pictures / "a b.png")
        assert code == 0
        assert stdout.startswith(f"{pictures}/a b.png: background ") and "%, blue " in stdout
        assert stderr.startswith("1 frame, ")

    def test_mask_effect(self, run, pictures, tmp_path):
        assert run("--source", pictures, "--save", tmp_path / "out", "--effect", "mask")[0] == 0
        assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["a b.png", "z.png", "ü.png"]

    def test_max_frames(self, run, pictures, tmp_path):
        code, _, _ = run("--source", pictures, "--max-frames", 2, "--json", tmp_path / "x.jsonl")
        assert code == 0
        frames, summary = lines_of((tmp_path / "x.jsonl").read_text())
        assert len(frames) == summary["captured"] == summary["processed"] == 2
        assert frames[0]["mask"] is None


class TestVideo:
    def test_every_frame(self, run, video, tmp_path):
        code, stdout, stderr = run("--source", video, "--save", tmp_path / "out", "--json", "-", "--effect", "blur")
        frames, summary = lines_of(stdout)
        assert (code, len(frames), summary["captured"], summary["dropped"]) == (0, 30, 30, 0)
        assert [frame["frame"] for frame in frames] == list(range(30))
        assert frames_in(tmp_path / "out" / "overlay.mp4") == 30
        assert f"wrote {tmp_path}/out/overlay.mp4 (30 frames)" in stderr

    def test_ended_early(self, run, video, tmp_path):
        video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
        code, stdout, stderr = run("--source", video, "--save", tmp_path / "out", "--json", "-")
        frames, _ = lines_of(stdout)
        assert code == 3
        assert f"edge-unet: {video} — ended early {len(frames)}/30 frames" in stderr
        assert frames_in(tmp_path / "out" / "overlay.mp4") == len(frames) > 5

    def test_without_outputs_it_says_that_nothing_is_kept(self, run, video):
        code, stdout, stderr = run("--source", video)
        assert (code, stdout) == (0, "")
        assert stderr.endswith("nothing was kept: add --save DIR, --show or --json FILE\n")


class TestOptions:
    """What the options of the command reach; how it works is tested where it is made."""

    def test_tiles(self, run, tmp_path):
        scene = color_scene(480, 640)
        (tmp_path / "large.png").write_bytes(cv2.imencode(".png", scene)[1].tobytes())
        for tile in (["--tile"], ["--tile", "96x128"]):
            assert run("--source", tmp_path / "large.png", "--save", tmp_path / "out", *tile)[0] == 0
            mask = cv2.imread(str(tmp_path / "out" / "masks" / "large.png"), cv2.IMREAD_UNCHANGED)
            assert (mask == color_truth(scene)).mean() > 0.97
        # As one picture of 24x32 it is far coarser.
        assert run("--source", tmp_path / "large.png", "--save", tmp_path / "out")[0] == 0
        coarse = cv2.imread(str(tmp_path / "out" / "masks" / "large.png"), cv2.IMREAD_UNCHANGED)
        assert (coarse != mask).any()

    def test_a_picture_beyond_the_limit_is_for_tiles_only(self, run, tmp_path, monkeypatch):
        for module in ("sources.images", "run.execution"):
            monkeypatch.setattr(f"edge_runtime.{module}.MAX_PIXELS", 64 * 48 - 1)
        (tmp_path / "a.png").write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
        assert run("--source", tmp_path / "a.png", "--json", "-")[0] == 3
        code, stdout, _ = run("--source", tmp_path / "a.png", "--json", "-", "--tile", "--save", tmp_path / "out")
        assert (code, lines_of(stdout)[1]["processed"]) == (0, 1)
        assert (tmp_path / "out" / "overlays" / "a.jpg").exists()

    def test_smoothing_and_soft_edges(self, run, video):
        options = ("--smooth", "--edges", "soft", "--max-frames", 5)
        code, stdout, _ = run("--source", video, "--json", "-", *options)
        assert (code, "refine" in lines_of(stdout)[1]["stages_ms"]) == (0, True)

    def test_cutouts_have_an_alpha_channel(self, run, pictures, tmp_path):
        assert run("--source", pictures, "--save", tmp_path / "out", "--effect", "cutout")[0] == 0
        picture = cv2.imread(str(tmp_path / "out" / "overlays" / "z.png"), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (48, 64, 4)
        assert {0, 255} <= set(np.unique(picture[..., 3]))

    def test_raw_frames(self, run, video, tmp_path):
        assert run("--source", video, "--raw", tmp_path / "raw", "--effect", "mask")[0] == 0
        frames = np.fromfile(tmp_path / "raw", np.uint8).reshape(-1, 48, 64, 3)
        assert len(frames) == 30
        assert {tuple(color) for color in frames[7].reshape(-1, 3)} == {(0, 0, 0), (0, 0, 255), (255, 0, 0)}

    @pytest.mark.parametrize("shapes", ["polygons", "rle"])
    def test_shapes(self, run, pictures, shapes):
        code, stdout, _ = run("--source", pictures / "z.png", "--json", "-", "--shapes", shapes)
        first = json.loads(stdout.splitlines()[0])
        assert (code, set(first[shapes])) == (0, {"red", "blue"})

    def test_a_limit_for_what_is_kept(self, run, video, tmp_path):
        assert run("--source", video, "--save", tmp_path / "out", "--keep-mb", 1)[0] == 0
        assert len(list((tmp_path / "out" / "masks").iterdir())) == 30

    def test_workers_write_and_report_every_picture_in_order(self, run, pictures, tmp_path):
        code, stdout, _ = run("--source", pictures, "--save", tmp_path / "out", "--json", "-", "--workers", 3)
        frames, summary = lines_of(stdout)
        assert (code, [frame["frame"] for frame in frames], summary["processed"]) == (0, [0, 1, 2], 3)

    def test_frames_on_standard_input(self, color_package):
        data = cv2.imencode(".jpg", color_scene())[1].tobytes() * 7
        with process(color_package, "--source", "-", "--json", "-", stdin=subprocess.PIPE) as child:
            stdout, stderr = child.communicate(data, timeout=DEADLINE_S)
        assert (child.returncode, lines_of(stdout.decode())[1]["processed"]) == (0, 7), stderr

    def test_the_device_profile_is_named(self, run, pictures, color_package):
        assert cli.main(["tune", str(color_package), "--rounds", "1"]) == 0
        _, _, stderr = run("--source", pictures / "z.png")
        assert re.search(r"device profile .*colors\.device\.json: fp32, \d thread", stderr)


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--source", "nothing.png"], 3, "edge-unet: nothing.png — no such file or folder — check the path\n"),
            (["--source", "4711"], 7, "edge-unet: camera 4711 — cannot be opened — found "),
            (["--source", ".", "--effect", "blur"], 2, "--effect blur — is drawn nowhere — add --save DIR or --show"),
            (["--source", ".", "--save", "x", "--effect", "blurr"], 2, "did you mean 'blur'?"),
            (["--source", "{pictures}", "--variant", "int4"], 4, "int4"),
            (["--source", "{pictures}", "--smooth"], 2, "--smooth — averages over the frames of a video"),
            (["--source", "{pictures}", "--shapes", "rle"], 2, "--shapes — go into the JSON lines — add --json FILE"),
            (["--source", "{pictures}", "--keep-mb", "5"], 2, "--keep-mb — limits what --save writes — add --save DIR"),
            (["--source", "0", "--workers", "2"], 2, "--workers — are for a folder of images"),
            (["--source", "0", "--json", "-", "--raw", "-"], 2, "--json - and --raw - — both want standard output"),
            (["--source", "{pictures}", "--tile", "--edges", "soft"], 2, "--tile with --smooth or --edges soft"),
            (["--source", "{pictures}", "--live"], 2, "are for frames on standard input"),
            (["--source", "{pictures}", "--camera-size", "480x640"], 2, "camera size — is for a camera"),
            (["--source", "{pictures}", "--save", "{pictures}/z.png/out"], 6, "not a directory — check the path"),
            (["--source", "{pictures}", "--json", "/dev/full"], 6, "cannot write /dev/full — no space left on device"),
        ],
    )
    def test_in_one_line_with_its_exit_code(self, run, pictures, arguments, code, message):
        found, stdout, stderr = run(*(a.format(pictures=pictures) for a in arguments))
        assert (found, stdout) == (code, "")
        assert message in stderr
        assert stderr.splitlines()[-1].startswith("edge-unet: ")

    def test_show_without_a_display(self, run, pictures, monkeypatch):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        code, _, stderr = run("--source", pictures, "--show")
        assert (code, stderr[:33]) == (2, "edge-unet: --show — no display (D")

    @pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "²"])
    def test_numbers_that_are_none(self, run, capfd, value):
        with pytest.raises(SystemExit) as caught:
            run("--source", ".", "--max-frames", value)
        assert caught.value.code == 2
        assert "expected a whole number from 1" in capfd.readouterr().err


class TestAsProcess:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
    def test_a_signal_finishes_every_file(self, color_package, tmp_path, number, code):
        out, log = tmp_path / "out", tmp_path / "x.jsonl"
        with camera() as server:
            url = f"http://127.0.0.1:{server.server_port}/"
            with process(color_package, "--source", url, "--save", out, "--json", log) as child:
                deadline = time.monotonic() + DEADLINE_S
                while not (log.exists() and log.read_bytes().count(b"\n") >= 20):
                    assert child.poll() is None, child.communicate()
                    assert time.monotonic() < deadline
                    threading.Event().wait(0.01)
                child.send_signal(number)
                _, stderr = child.communicate(timeout=DEADLINE_S)
        assert child.returncode == code, stderr
        frames, summary = lines_of(log.read_text())
        assert len(frames) >= 20 and abs(len(frames) - summary["processed"]) <= 1
        assert abs(frames_in(out / "overlay.mp4") - len(frames)) <= 1
        assert not list(out.glob(".*.tmp*")), "no temporary file is left"
        assert f"wrote {out}/overlay.mp4" in stderr.decode() and "Traceback" not in stderr.decode()

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    @pytest.mark.parametrize("service", [[], ["--service"]])
    def test_a_signal_while_a_stream_is_being_opened(self, color_package, number, code, service):
        with (
            camera(mode="stall") as server,
            process(
                color_package, "--source", f"http://127.0.0.1:{server.server_port}/", "--json", "-", *service
            ) as child,
        ):
            assert server.asked.wait(DEADLINE_S)
            child.send_signal(number)
            stdout, stderr = child.communicate(timeout=DEADLINE_S)
        assert (child.returncode, b"Traceback" in stderr) == (code, False)
        # Without --service, the address is first asked what it holds, before the run begins.
        assert lines_of(stdout.decode())[1]["captured"] == 0 if service else stdout == b""

    def test_stdout_carries_json_only_and_nobody_sees_the_password(self, color_package):
        with camera() as server:
            url = f"http://bob:hunter2@127.0.0.1:{server.server_port}/video?token=hunter2"
            with process(color_package, "--source", url, "--json", "-", "--max-frames", 3) as child:
                stdout, stderr = child.communicate(timeout=DEADLINE_S)
        frames, summary = lines_of(stdout.decode())
        assert (child.returncode, summary["processed"]) == (0, 3)
        assert frames[0]["source"] == f"http://127.0.0.1:{server.server_port}/video…"
        assert b"hunter2" not in stdout + stderr

    @pytest.mark.parametrize("scheme", ["http", "rtsp"])
    def test_a_failure_does_not_show_the_password_either(self, color_package, scheme):
        url = f"{scheme}://bob:hunter2@127.0.0.1:9/video?token=hunter2"
        with process(color_package, "--source", url, "--debug") as child:
            stdout, stderr = child.communicate(timeout=DEADLINE_S)
        assert b"cannot be opened" in stderr and b"hunter2" not in stdout + stderr

    def test_a_reader_that_leaves_is_no_error(self, color_package, video):
        with process(color_package, "--source", video, "--json", "-") as child:
            assert child.stdout is not None and child.stderr is not None
            assert child.stdout.readline().startswith(b'{"frame": 0')
            child.stdout.close()
            child.stdout = None
            stderr = child.stderr.read()
            assert child.wait(DEADLINE_S) == 0
        assert b"Traceback" not in stderr and b"edge-unet:" not in stderr

    def test_garbage_brings_one_line_without_the_noise_of_libraries(self, color_package, tmp_path):
        (tmp_path / "x.mp4").write_bytes(b"garbage" * 1000)
        with process(color_package, "--source", tmp_path / "x.mp4") as child:
            _, stderr = child.communicate(timeout=DEADLINE_S)
        message = f"edge-unet: {tmp_path}/x.mp4 — cannot be opened as a video — damaged or an unknown format: convert it to MP4\n"
        assert (child.returncode, stderr.decode()) == (3, message)

    def test_progress_on_a_terminal(self, color_package):
        parent, terminal = os.openpty()
        with (
            camera() as server,
            process(color_package, "--source", server.url, "--max-frames", 100, stderr=terminal) as child,
        ):
            os.close(terminal)
            seen = b""
            try:
                while chunk := os.read(parent, 4096):
                    seen += chunk
            except OSError:  # Linux ends a terminal so
                pass
            os.close(parent)
            assert child.wait(DEADLINE_S) == 0
        assert re.search(rb"\r\x1b\[Kframe \d+  [\d.]+ fps  reading, dropped", seen)
        assert b"\r\x1b[K100 frames, " in seen


def test_help_loads_nothing_heavy():
    code = "import sys; from edge_runtime import cli\ntry: cli.main(['run', '--help'])\nexcept SystemExit: pass\nprint([m for m in ('cv2', 'numpy', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "edge-unet run models/first --source 0 --show" in done.stdout
