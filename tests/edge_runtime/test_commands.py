"""The commands eval, bench, info and doctor as a person or a script meets them."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from colors import color_scene, color_truth

from edge_runtime import cli
from edge_runtime.errors import ModelError
from edge_runtime.model.package import MANIFEST
from edge_runtime.models import PERSON

PROJECT = Path(__file__).parents[2]
HEAVY = ("cv2", "onnxruntime", "numpy", "tensorflow", "keras", "onnx", "yaml", "PIL", "matplotlib")


@pytest.fixture
def edge_unet(capsys):
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def color_data(tmp_path):
    """A dataset of two test and one val scene."""
    root = tmp_path / "data"
    for split, sizes in {"test": [(48, 64), (96, 128)], "val": [(24, 32)]}.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i, size in enumerate(sizes):
            scene = color_scene(*size)
            cv2.imwrite(str(root / split / "images" / f"{i}.png"), scene)
            cv2.imwrite(str(root / split / "masks" / f"{i}.png"), color_truth(scene))
    return root


def in_process(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, **options)  # type: ignore[call-overload]


class TestEval:
    def test_prints_one_json_object(self, edge_unet, color_package, color_data):
        code, out, err = edge_unet("eval", color_package, color_data, "--json", "--threads", 1)
        assert (code, err) == (0, "")
        value = json.loads(out)
        assert (value["images"], value["variant"]) == (2, "fp32")
        assert value["per_class_iou"].keys() == {"background", "red", "blue"}
        assert value["mean_iou"] > 0.9

    def test_prints_a_table(self, edge_unet, color_package, color_data):
        code, out, _ = edge_unet("eval", color_package, color_data, "--split", "val")
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split() == ["class", "IoU", "Dice"]
        assert [line.split()[0] for line in lines[1:5]] == ["background", "red", "blue", "mean"]
        assert lines[4].split() == ["mean", "1.0000", "1.0000"]
        assert "images               1" in out

    def test_a_missing_split_is_3(self, edge_unet, color_package, color_data):
        code, out, err = edge_unet("eval", color_package, color_data, "--split", "train")
        assert (code, out) == (3, "")
        assert "no split 'train' — it has val, test" in err

    def test_bad_data_is_3_and_names_the_file(self, edge_unet, color_package, color_data):
        (color_data / "test" / "images" / "0.png").write_bytes(b"no picture")
        code, _, err = edge_unet("eval", color_package, color_data)
        assert code == 3
        assert "test/images/0.png — not an image" in err

    def test_a_refused_package_is_4(self, edge_unet, tmp_path, color_data):
        code, _, err = edge_unet("eval", tmp_path / "none", color_data)
        assert code == 4
        assert err.startswith("edge-unet: model package ")
        assert err.count("\n") == 1


class TestBench:
    def test_prints_one_json_object(self, edge_unet, color_package):
        code, out, err = edge_unet("bench", color_package, "--runs", 2, "--threads", 1, "--json")
        assert (code, err) == (0, "")
        value = json.loads(out)
        assert value["threads"] == 1
        assert value["variants"]["fp32"].keys() == {"session_ms", "frame_ms", "stages_ms"}

    def test_prints_a_table(self, edge_unet, color_package):
        code, out, _ = edge_unet("bench", color_package, "--runs", 2)
        assert code == 0
        for row in ("session", "frame", "resize", "inference", "mask resize", "frames per second"):
            assert row in out

    def test_a_senseless_option_is_2(self, edge_unet, color_package):
        assert edge_unet("bench", color_package, "--runs", 0)[0] == 2
        assert edge_unet("bench", color_package, "--threads", -3)[0] == 2


class TestInfo:
    def test_prints_one_json_object(self, edge_unet, color_package):
        code, out, err = edge_unet("info", color_package, "--json")
        assert (code, err) == (0, "")
        value = json.loads(out)
        assert value["name"] == "colors"
        assert value["input"] == {"height": 24, "width": 32, "channels": 3}
        assert value["classes"][1] == {"id": 1, "name": "red", "color": [255, 0, 0]}
        assert value["variants"]["fp32"].keys() == {"file", "sha256", "bytes"}
        assert value["parity"] == {"max_abs_diff": 0.0, "class_agreement": 1.0}
        assert (value["parameters"], value["gflops"]) == (12, 0.001)
        assert value.keys() >= {"metrics", "provenance"}

    def test_prints_text(self, edge_unet, color_package):
        code, out, _ = edge_unet("info", color_package)
        assert code == 0
        for part in ("name        colors", "24x32x3", "red", "#ff0000", "model.onnx", "class_agreement: 1"):
            assert part in out

    def test_shows_nested_provenance(self, edge_unet, color_package):
        manifest = json.loads((color_package / MANIFEST).read_text())
        manifest["provenance"] = {"versions": {"keras": "3.15.1"}, "seed": 1, "note": "a\x1b[2Jb"}
        (color_package / MANIFEST).write_text(json.dumps(manifest))
        out = edge_unet("info", color_package)[1]
        assert "  versions\n    keras: 3.15.1\n  seed: 1\n" in out
        assert "\x1b" not in out

    def test_a_damaged_package_is_4(self, edge_unet, color_package):
        (color_package / "model.onnx").write_bytes(b"x")
        code, out, err = edge_unet("info", color_package, "--json")
        assert (code, json.loads(out)["ok"]) == (4, False)
        assert "model.onnx — SHA-256 is" in err


class TestDoctor:
    def test_without_a_package_it_tests_the_one_that_comes_with_the_runtime(self, edge_unet):
        code, out, err = edge_unet("doctor", "--json")
        assert (code, err) == (0, "")
        value = json.loads(out)
        assert value["ok"] is True
        assert value["golden"] == {"ok": True, "pixel_agreement": 1.0, "frames": 3, "variants": {"fp32": 1.0}}
        assert any(str(PERSON) in check["cause"] for check in value["checks"])
        assert all(check.keys() == {"name", "status", "cause", "fix"} for check in value["checks"])

    def test_tests_a_package(self, edge_unet, color_package):
        code, out, _ = edge_unet("doctor", color_package)
        assert code == 0
        assert "[ok]   golden:      1 frames, pixels that agree: fp32 100.0000%" in out

    def test_a_damaged_package_is_4_after_the_report(self, edge_unet, color_package):
        (color_package / "model.onnx").write_bytes(b"x")
        code, out, err = edge_unet("doctor", color_package, "--json")
        assert code == 4
        assert json.loads(out)["ok"] is False
        assert "model.onnx — SHA-256 is" in err

    def test_marks_what_failed_for_people(self, edge_unet, color_package):
        (color_package / "model.onnx").unlink()
        code, out, _ = edge_unet("doctor", color_package)
        assert code == 4
        assert "[FAIL] package: " in out
        assert "         fix: copy or export the package again" in out


@pytest.mark.parametrize("command", ["eval", "bench", "info", "doctor"])
def test_help_describes_and_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"example:\n  edge-unet {command} models/first" in out


@pytest.mark.parametrize(
    "arguments", [(), ("none",), ("eval",), ("info", "a", "--bogus"), ("bench", "a", "--runs", "x")]
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: edge-unet" in capsys.readouterr().err


class TestJsonOfWhatFails:
    """With ``--json``, stdout is one object whatever happens."""

    @pytest.mark.parametrize(
        "command", [("eval", "none", "data"), ("bench", "none"), ("info", "none"), ("tune", "none", "--dry-run")]
    )
    def test_is_the_error_that_stderr_has(self, edge_unet, command):
        code, out, err = edge_unet(*command, "--json")
        value = json.loads(out)
        assert (code, value["ok"], value["error"]["exit_code"]) == (4, False, 4)
        assert err == f"edge-unet: {value['error']['message']}\n"
        assert "model package none — no such folder" in err

    def test_is_the_report_of_doctor(self, edge_unet, color_package):
        (color_package / "model.onnx").unlink()
        code, out, err = edge_unet("doctor", color_package, "--json")
        assert (code, json.loads(out)["ok"], err[:11]) == (4, False, "edge-unet: ")

    def test_stands_beside_a_traceback(self, capsys):
        with pytest.raises(ModelError):
            cli.main(["info", "none", "--json", "--debug"])
        assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("eval", "package", "data", "--split", "dev"), "argument --split: invalid choice: 'dev'"),
            (("bench", "package", "--runs", "x"), "argument --runs: invalid int value: 'x'"),
            (("info", "package", "--bogus"), "unrecognized arguments: --bogus"),
        ],
    )
    def test_is_wrong_usage(self, capsys, arguments, message):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == json.loads(out)["error"]["exit_code"] == 2
        assert message in json.loads(out)["error"]["message"]
        assert message in err

    @pytest.mark.parametrize(
        "arguments", [("eval",), ("run", "package", "--json", "-"), ("run", "--source", "a", "--json", "-", "none")]
    )
    def test_is_not_printed_unasked_nor_among_lines(self, capsys, arguments):
        with contextlib.suppress(SystemExit):
            cli.main(arguments)
        assert capsys.readouterr().out == ""


def loaded_after(code: str, *arguments: object) -> list[str]:
    """Return which heavy modules a fresh interpreter has loaded after this code."""
    code += f"\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    return child.stderr.splitlines()[-1].strip("[]").replace("'", "").split(", ") if "[]" not in child.stderr else []


@pytest.mark.parametrize("arguments", [["--help"], ["eval", "--help"], ["doctor", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
from edge_runtime.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
"""
    assert loaded_after(code) == []


def test_info_loads_nothing_heavy(color_package):
    assert (
        loaded_after("import sys; from edge_runtime.cli import main; main(['info', sys.argv[1]])", color_package) == []
    )


class TestAsAProcess:
    def test_the_installed_command_answers(self):
        script = Path(sys.executable).with_name("edge-unet")
        if not script.exists():
            pytest.skip("edge-unet is not installed beside this Python")
        child = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
        assert child.returncode == 0
        assert "exit codes:" in child.stdout
        assert child.stderr == ""

    def test_exit_codes_arrive(self, color_package):
        child = in_process("info", color_package, "--json")
        assert (child.returncode, child.stderr) == (0, "")
        assert json.loads(child.stdout)["name"] == "colors"
        (color_package / "model.onnx").write_bytes(b"x")
        child = in_process("eval", color_package, color_package)
        assert (child.returncode, child.stdout) == (4, "")
        assert child.stderr.startswith("edge-unet: ")
        assert child.stderr.count("\n") == 1

    def test_a_traceback_comes_only_with_debug(self, tmp_path):
        assert "Traceback" not in in_process("info", tmp_path).stderr
        child = in_process("info", tmp_path, "--debug")
        assert "Traceback" in child.stderr
        assert "ModelError" in child.stderr

    def test_a_reader_that_has_gone_is_no_error(self, color_package):
        command = f'"{sys.executable}" -m edge_runtime info "{color_package}" | true; echo "${{PIPESTATUS[0]}}"'
        child = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=PROJECT)
        assert (child.stdout, child.stderr) == ("0\n", "")

    def test_text_fits_a_terminal_of_another_encoding(self, color_package):
        child = in_process("info", color_package, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"})
        assert child.returncode == 0, child.stderr
        assert "\\u2026" in child.stdout
