"""The command line under shells and services that close, fill or lose its streams, and beside broken installations."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from colors import color_scene

PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "edge_runtime"]


@pytest.fixture
def place(color_package, monkeypatch):
    """A working folder with a picture, beside the package."""
    folder = color_package.parent / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cv2.imwrite("a.jpg", color_scene())
    return folder


def shell(line: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which "$@" is the command."""
    command = ["bash", "-c", line, "bash", *COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload]


class TestStreams:
    @pytest.mark.parametrize(
        "command", ["run --source a.jpg --save out", "run --source a.jpg", "info", "doctor", "bench --runs 1"]
    )
    @pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
    def test_a_closed_stream_does_not_stop_the_work(self, place, color_package, command, closed):
        name, *options = command.split()
        done = shell(f'"$@" {closed}', name, color_package, *options)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        if "--save" in command:
            assert [path.name for path in (place / "out" / "masks").iterdir()] == ["a.png"]
            # The first file that was opened must not be what messages go into.
            assert cv2.imread(str(place / "out" / "masks" / "a.png"), cv2.IMREAD_UNCHANGED).shape == (48, 64)

    def test_json_lines_for_a_closed_stream_are_an_error(self, place, color_package):
        done = shell('"$@" >&-', "run", color_package, "--source", "a.jpg", "--json", "-")
        assert (done.returncode, len(done.stderr.splitlines())) == (6, 1)
        assert "cannot write standard output — it is closed" in done.stderr

    @pytest.mark.parametrize(
        "command",
        [
            "run --source a.jpg",
            "info",
            "info --json",
            "doctor --json",
            "bench --runs 1 --json",
            "run --source a.jpg --json -",
        ],
    )
    def test_a_full_disk_behind_stdout_is_one_line(self, place, color_package, command):
        name, *options = command.split()
        done = shell('"$@" >/dev/full', name, color_package, *options)
        assert done.returncode == 6
        assert "cannot write standard output — no space left on device" in done.stderr
        assert done.stderr.count("edge-unet:") == 1 and "Traceback" not in done.stderr

    @pytest.mark.parametrize("asked", ["--help", "--version", "run --help", "data --help"])
    def test_a_help_that_cannot_be_written_is_an_error(self, asked):
        done = shell('"$@" >/dev/full', *asked.split())
        assert (done.returncode, len(done.stderr.splitlines())) == (6, 1)

    @pytest.mark.parametrize("lost", ["2>&1 | true", "2>/dev/full"])
    def test_the_exit_code_of_an_error_survives_the_loss_of_stderr(self, color_package, lost):
        done = shell(f'set -o pipefail; "$@" {lost}', "run", color_package, "--source", "nope.jpg")
        assert done.returncode == 3, done.stderr

    def test_a_run_survives_the_loss_of_its_terminal(self, place, color_package):
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        reader, writer = pty.openpty()
        command = [*COMMAND, "run", color_package, "--source", "-", "--json", "r.jsonl", "--status", "-"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=writer, start_new_session=True) as child:
            os.close(writer)
            assert child.stdin is not None
            os.close(reader)
            child.stdin.write(jpeg * 3)
            child.stdin.close()
            assert child.wait(30) == 0
        assert json.loads((place / "r.jsonl").read_text().splitlines()[-1])["summary"]["processed"] == 3

    @pytest.mark.parametrize("option", ["--raw", "--json"])
    def test_a_run_whose_named_pipe_has_lost_its_reader_does_not_end_well(self, place, color_package, option):
        os.mkfifo("r")
        line = f'head -c 10 r >taken & "$@" --source - {option} r --save out'
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        done = subprocess.run(
            ["bash", "-c", line, "bash", *COMMAND, "run", str(color_package)],
            input=jpeg * 200, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 6, done.stderr
        assert b"cannot write r \xe2\x80\x94 the reader of r has gone" in done.stderr

    def test_the_end_of_head_is_a_good_one_also_when_results_are_saved(self, place, color_package):
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        line = 'set -o pipefail; "$@" | head -1'
        done = subprocess.run(
            ["bash", "-c", line, "bash", *COMMAND, "run", color_package, *["--source", "-", "--json", "-", "--save", "out"]],
            input=jpeg * 200, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, b"cannot" in done.stderr) == (0, False), done.stderr

    def test_a_service_whose_json_reader_has_gone_does_not_end_well(self, place, color_package):
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        command = [*COMMAND, "run", str(color_package), "--source", "-", "--live", "--service", "--json", "-"]
        with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1) as child:
            assert child.stdin is not None and child.stdout is not None and child.stderr is not None
            child.stdin.write(jpeg)
            child.stdin.flush()
            child.stdout.readline()
            child.stdout.close()
            with contextlib.suppress(OSError):
                while child.poll() is None:
                    child.stdin.write(jpeg)
                    child.stdin.flush()
            assert child.wait(30) == 6
            assert b"the reader of standard output has gone" in child.stderr.read()
            with contextlib.suppress(OSError):
                child.stdin.close()


@pytest.mark.parametrize(
    "line",
    [
        "from edge_runtime import Segmenter; Segmenter",
        "from edge_runtime.cli import main; main(['info'])",
        "import export.parity.layers",
    ],
)
def test_onnxruntime_tells_nobody_about_this_machine(tmp_path, line):
    """It reads the variable when it is loaded; without it, it keeps an id of the device in the home folder."""
    if "export" in line:
        pytest.importorskip("keras")
    code = f"{line}\nimport sys, onnxruntime; assert 'onnxruntime' in sys.modules"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=120)
    assert not list(tmp_path.rglob("*onnxruntime*"))


class TestStandardOutputByName:
    @pytest.mark.parametrize(
        "line",
        [
            '"$@" --raw - --json /dev/stdout | cat',
            '"$@" --raw /dev/fd/1 --json - | cat',
            '"$@" --json - --status /dev/stdout | cat',
            '"$@" --raw r --json - > r',
            '"$@" --raw ./r --json /dev/stdout >> r',
        ],
    )
    def test_two_outputs_do_not_share_it(self, place, color_package, line):
        done = shell(f"set -o pipefail; {line}", "run", color_package, "--source", "a.jpg")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert not Path("r").exists() or Path("r").read_bytes() == b""

    def test_a_file_that_is_read_is_not_written_through_it(self, place, color_package):
        before = Path("a.jpg").read_bytes()
        done = shell('"$@" >> a.jpg', "run", color_package, "--source", "a.jpg", "--json", "-")
        assert done.returncode == 2
        assert "--json - — is read, and would be written over" in done.stderr
        assert Path("a.jpg").read_bytes() == before

    @pytest.mark.parametrize("line", ['"$@" >> old', '"$@" --status - 2>&1 | cat', '"$@" --raw /dev/null >/dev/null'])
    def test_what_goes_together(self, place, color_package, line):
        Path("old").write_text("text\n")
        assert shell(line, "run", color_package, "--source", "a.jpg", "--json", "/dev/stdout").returncode == 0
        assert Path("old").read_text().startswith("text\n")


class TestJsonFiles:
    def lines(self, package, between):
        """Run three frames, do something to the file, run three more; return the files of the folder."""
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        command = [*COMMAND, "run", str(package), "--source", "-", "--json", "r.jsonl"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdin is not None
            child.stdin.write(jpeg * 3)
            child.stdin.flush()
            while not (Path("r.jsonl").exists() and Path("r.jsonl").read_bytes().count(b"\n") == 3):
                assert child.poll() is None
            between()
            child.stdin.write(jpeg * 3)
            child.stdin.close()
            assert child.wait(30) == 0
        return {path.name: [*map(json.loads, path.read_text().splitlines())] for path in Path().glob("r.jsonl*")}

    def test_a_truncated_file_goes_on_at_its_start(self, place, color_package):
        found = self.lines(color_package, lambda: os.truncate("r.jsonl", 0))
        assert [line.get("frame") for line in found["r.jsonl"]] == [3, 4, 5, None]

    def test_a_renamed_file_is_followed_by_a_new_one(self, place, color_package):
        found = self.lines(color_package, lambda: Path("r.jsonl").rename("r.jsonl.1"))
        assert [line.get("frame") for line in found["r.jsonl.1"]] == [0, 1, 2]
        assert [line.get("frame") for line in found["r.jsonl"]] == [3, 4, 5, None]

    def test_a_deleted_file_is_written_again(self, place, color_package):
        found = self.lines(color_package, Path("r.jsonl").unlink)
        assert [line.get("frame") for line in found["r.jsonl"]] == [3, 4, 5, None]


class TestFolders:
    @pytest.fixture
    def as_other(self):
        """Prefix of a command that loses root's right to enter every folder."""
        if os.getuid() != 0:
            return []
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv, of util-linux, is not installed")
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            ("run closed/model --source a.jpg", 4),
            ("run closed/model/model.onnx --source a.jpg", 4),
            ("info closed/model", 4),
            ("bench closed/model", 4),
            ("eval closed/model .", 4),
            ("run model --source closed/a.jpg", 3),
            ("run model --source closed", 3),
            ("run model --source a.jpg --save closed/out", 6),
            ("run model --source a.jpg --json closed/r.jsonl", 6),
            ("run model --source a.jpg --status closed/s.json", 6),
            ("run model --source a.jpg --raw closed/raw", 6),
            ("eval model closed/data", 3),
            ("run model --source a.jpg --save out --effect replace=closed/beach.jpg", 3),
        ],
    )
    def test_one_that_may_not_be_entered_is_one_line(self, place, color_package, as_other, command, code):
        shutil.copytree(color_package, "model")
        shutil.copytree(color_package, "closed/model")
        shutil.copy("a.jpg", "closed/a.jpg")
        Path("closed").chmod(0)
        try:
            done = subprocess.run([*as_other, *COMMAND, *command.split()], capture_output=True, text=True, check=False)
        finally:
            Path("closed").chmod(0o755)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert "permission denied" in done.stderr

    @pytest.mark.parametrize(("option", "code"), [("--source", 3), ("--save", 6), ("--json", 6), ("--status", 6)])
    def test_a_name_that_is_too_long_is_one_line(self, place, color_package, option, code):
        options = {"--source": "a.jpg", option: "n" * 300}
        words = [word for pair in options.items() for word in pair]
        done = subprocess.run([*COMMAND, "run", color_package, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr

    @pytest.mark.parametrize("command", ["doctor", "info PACKAGE", "run PACKAGE --source PICTURE"])
    def test_a_working_folder_that_has_gone_is_no_matter(self, place, color_package, command):
        words = command.replace("PACKAGE", str(color_package)).replace("PICTURE", str(place / "a.jpg")).split()
        done = shell('mkdir gone && cd gone && rmdir ../gone && "$@"', *words)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr

    @pytest.mark.parametrize("service", [[], ["--service"]])
    def test_a_status_that_cannot_be_written_is_refused_at_the_start(self, place, color_package, service):
        source = ["--source", "-", "--live"] if service else ["--source", "a.jpg"]
        command = [*COMMAND, "run", color_package, *source, *service, "--status", "missing/status.json"]
        done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 6
        assert "cannot write missing/status.json — no such file or directory" in done.stderr


class TestInstallation:
    @pytest.mark.parametrize(
        "command", ["run PACKAGE --source a.jpg", "info PACKAGE", "eval PACKAGE .", "bench PACKAGE", "tune PACKAGE"]
    )
    def test_a_missing_system_library_is_one_line(self, place, color_package, command):
        # As on Raspberry Pi OS Lite, where OpenCV does not find libGL.
        (place / "cv2").mkdir()
        message = "libGL.so.1: cannot open shared object file: No such file or directory"
        (place / "cv2" / "__init__.py").write_text(f"raise ImportError({message!r})\n")
        words = command.replace("PACKAGE", str(color_package)).split()
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
        if words[0] == "info":  # which needs no OpenCV
            assert done.returncode == 0
            return
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "libGL.so.1" in done.stderr and "apt-get install libgl1" in done.stderr

    def test_python_says_it_too(self, place):
        (place / "cv2").mkdir()
        (place / "cv2" / "__init__.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")\n')
        done = subprocess.run(
            [sys.executable, "-c", "from edge_runtime import Segmenter"], capture_output=True, text=True, check=False
        )
        assert "apt-get install libgl1" in done.stderr.splitlines()[-1]

    def test_a_dependency_that_is_not_installed_is_named(self, place, color_package):
        (place / "onnxruntime.py").write_text(
            "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
        )
        done = subprocess.run(
            [*COMMAND, "run", color_package, "--source", "a.jpg"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "pip install 'onnxruntime>=1.30.1'" in done.stderr

    @pytest.mark.parametrize("name", ["training", "export"])
    @pytest.mark.parametrize(
        "command", ["--help", "--version", "info PACKAGE", "train --help", "export --help", "data check ."]
    )
    def test_a_project_s_own_packages_are_neither_run_nor_mistaken(self, place, color_package, name, command):
        (place / f"{name}.py").write_text("open('executed', 'w')\n")
        words = command.replace("PACKAGE", str(color_package)).split()
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (3 if "data" in words else 0, False), done.stderr
        assert not (place / "executed").exists()
        if command == "--help":
            assert "train a U-Net on a folder of images and masks" in done.stdout
            assert "convert a run folder or a Keras model" in done.stdout

    def test_a_package_that_is_loaded_already_is_one_line(self, place):
        (place / "training.py").write_text("")
        code = "import sys, training; from edge_runtime.cli import main; sys.exit(main(['train', 'x', '--out', 'y']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "package 'training' — this process has loaded another one of this name" in done.stderr

    def test_the_runtime_alone_has_its_own_commands(self, tmp_path):
        # As on a device, or frozen into a program: the distribution names commands whose packages are not there.
        shutil.copytree(PROJECT / "edge_runtime", tmp_path / "edge_runtime")
        named = tmp_path / "edge_unet-0.1.0.dist-info"
        named.mkdir()
        (named / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-unet\nVersion: 0.1.0\n")
        (named / "entry_points.txt").write_text("[edge_unet.commands]\ntrain = training.commands.train:register\n")
        for option in ("--help", "--version"):
            done = subprocess.run(
                [sys.executable, "-S", "-m", "edge_runtime", option],
                capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            assert "train a U-Net on a folder" not in done.stdout

    def test_the_runtime_s_commands_load_nothing_of_the_workstation(self, place, color_package):
        code = "import sys; from edge_runtime.cli import main; main(sys.argv[1:]); print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code, "info", str(color_package)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert not {"training", "export"} & set(done.stdout.splitlines()[-1].split())

    def test_frames_beyond_the_largest_number_are_all_frames(self, place, color_package):
        command = [*COMMAND, "run", color_package, "--source", "-", "--max-frames", str(10**30)]
        jpeg = cv2.imencode(".jpg", color_scene())[1].tobytes()
        done = subprocess.run(command, input=jpeg * 2, capture_output=True, check=False)
        assert (done.returncode, b"2 frames" in done.stderr) == (0, True)


class TestOutputsByName:
    def test_standard_output_by_its_name_is_appended_to(self, place, color_package):
        line = 'for i in 1 2; do "$@" >> all.jsonl; done'
        done = shell(line, "run", color_package, "--source", "a.jpg", "--json", "/dev/stdout")
        assert done.returncode == 0, done.stderr
        assert len((place / "all.jsonl").read_text().splitlines()) == 4

    def test_an_input_by_redirection_is_read(self, place, color_package):
        (place / "x.raw").write_bytes(bytes(48 * 64 * 3 * 2))
        options = ("--source", "-", "--raw-size", "48x64", "--raw", "x.raw", "--overwrite")
        done = shell('"$@" < x.raw', "run", color_package, *options)
        assert (done.returncode, (place / "x.raw").stat().st_size) == (2, 48 * 64 * 3 * 2)

    def test_a_status_through_a_link_keeps_the_link(self, place, color_package):
        (place / "st").symlink_to("real.json")
        (place / "err").symlink_to("/proc/self/fd/2")
        for name in ("st", "err"):
            done = shell(
                '"$@" 2> log', "run", color_package, "--source", "a.jpg", "--status", name, "--json", "r.jsonl"
            )
            assert done.returncode == 0, (place / "log").read_text()
            assert (place / name).is_symlink()
        assert json.loads((place / "real.json").read_text())["processed"] == 1
        assert '"processed": 1' in (place / "log").read_text()

    @pytest.mark.parametrize("option", ["--save", "--json", "--raw", "--status"])
    def test_the_name_of_an_unset_variable_is_refused(self, place, color_package, option):
        done = shell('"$@"', "run", color_package, "--source", "a.jpg", option, "")
        assert (done.returncode, sorted(path.name for path in place.iterdir())) == (2, ["a.jpg"])
        assert "an empty name — expected a file or folder" in done.stderr


class TestStandardInput:
    def test_what_is_no_jpeg_is_named(self, place, color_package):
        cv2.imwrite("a.png", color_scene())
        done = shell('"$@" < a.png', "run", color_package, "--source", "-")
        assert (done.returncode, done.stderr.count("standard input — is PNG — expected JPEGs one after another")) == (
            3,
            1,
        )

    def test_bytes_that_were_passed_over_are_told(self, place, color_package):
        done = shell('(cat a.jpg; echo between; cat a.jpg) | "$@"', "run", color_package, "--source", "-")
        assert done.returncode == 0
        assert "note: standard input, near frame" in done.stderr and "were skipped" in done.stderr


class TestAtTheEnd:
    def test_a_model_is_loaded_while_the_interpreter_exits(self, color_package):
        code = (
            "import atexit, sys; from edge_runtime import Segmenter\n"
            "atexit.register(lambda: print(Segmenter.load(sys.argv[1]).variant, flush=True))"
        )
        done = subprocess.run([sys.executable, "-c", code, color_package], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "fp32\n"), done.stderr

    def test_a_profiler_writes_its_result(self, place, color_package):
        profiled = [sys.executable, "-m", "cProfile", "-o", "prof", "-m", "edge_runtime", "info", str(color_package)]
        assert (
            subprocess.run(
                profiled, capture_output=True, timeout=60, env=os.environ | {"PYTHONPATH": str(PROJECT)}
            ).returncode
            == 0
        )
        assert (place / "prof").stat().st_size > 1000

    def test_a_watchdog_without_a_number_is_none(self, place, color_package):
        for value in ("", "abc"):
            done = shell('"$@"', "run", color_package, "--source", "a.jpg", env=os.environ | {"WATCHDOG_USEC": value})
            assert done.returncode == 0, done.stderr
