"""The workstation's commands on a machine without the workstation, and their help, which loads none of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "onnx_ir", "onnxruntime", "cv2", "numpy", "matplotlib", "jinja2"}
# In the place of the finder of installed packages stands one that does not see some of them.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
hidden = set(sys.argv[1].split(","))
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
from edge_runtime.cli import main
sys.exit(main(sys.argv[2:]))
"""
LOADED = """
import json, sys
from edge_runtime.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    sys.stderr.write(json.dumps([end.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("command", "hidden", "named"),
    [
        (["export", "run", "--out", "model"], "tensorflow", "tensorflow"),
        (["export", "run", "--out", "model"], "keras,tensorflow,onnx_ir,tf2onnx", "keras, onnx_ir, tensorflow, tf2onnx"),
        (["export", "run", "--out", "model"], "jinja2", "jinja2"),
        (["demo"], "matplotlib", "matplotlib"),
        (["train", "data", "--out", "run"], "tensorflow", "tensorflow"),
        (["data", "check", "data"], "yaml", "yaml"),
    ],
)  # fmt: skip
def test_a_missing_package_is_named_with_the_extra_that_brings_it(command, hidden, named):
    child = python(WITHOUT, hidden, *command)
    name = " ".join(command[:2] if command[0] == "data" else command[:1])
    assert child.returncode == 2, child.stderr
    assert child.stderr == (
        f"edge-unet: {name} — {named} not installed — it needs the extra 'train' — in a checkout of the project: pip install '.[train]'\n"
    )
    assert child.stdout == ""


@pytest.mark.parametrize("command", [["export"], ["demo"], ["train"], ["data", "check"]])
def test_help_loads_nothing(command):
    child = python(LOADED, *command, "--help")
    code, modules = json.loads(child.stderr)
    assert code == 0
    assert child.stdout.startswith(f"usage: edge-unet {' '.join(command)} ")
    assert HEAVY & set(modules) == set()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["export", "run"], "the following arguments are required: --out"),
        (["export", "--out", "model"], "the following arguments are required: RUN"),
        (["export", "run", "--out", "model", "--opset", "new"], "argument --opset: invalid int value: 'new'"),
        (["export", "run", "--out", "model", "--max-diff", "little"], "argument --max-diff: invalid float value"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_loaded(arguments, found):
    child = python(LOADED, *arguments)
    usage, _, report = child.stderr.rpartition("\n")
    code, modules = json.loads(report)
    assert code == 2
    assert found in usage
    assert HEAVY & set(modules) == set()
