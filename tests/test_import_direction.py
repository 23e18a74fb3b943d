"""training -> run folder -> export -> package -> edge_runtime: nothing imports against the direction of data."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
WORKSTATION = {
    "training",
    "export",
    "tensorflow",
    "keras",
    "onnx",
    "tf2onnx",
    "yaml",
    "PIL",
    "matplotlib",
    "rich",
    "jinja2",
}
RUNTIME_DEPENDENCIES = {"numpy", "cv2", "onnxruntime"}
EXTRAS = {"edge_runtime/sinks/virtual_camera.py": {"pyvirtualcam"}}
"""What a file may import besides, inside the function that needs it."""

IMPORT_ALL = """
import importlib, pkgutil
import edge_runtime
for module in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime."):
    importlib.import_module(module.name)
"""


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after this code."""
    code += "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert child.returncode == 0, child.stderr
    return set(json.loads(child.stdout.splitlines()[-1]))


def imported(package: str) -> dict[str, set[str]]:
    """Return the top-level modules that each source file of a package names in an import, wherever it stands."""
    found = {}
    for path in sorted((PROJECT / package).rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                names.add((node.module or "").partition(".")[0])
        found[str(path.relative_to(PROJECT))] = names
    return found


def test_the_whole_runtime_loads_nothing_of_the_workstation():
    loaded = modules_after(IMPORT_ALL)
    assert loaded & (WORKSTATION | set().union(*EXTRAS.values())) == set()
    assert loaded >= RUNTIME_DEPENDENCIES


def test_importing_the_runtime_loads_no_dependency():
    assert modules_after("import edge_runtime") & (WORKSTATION | RUNTIME_DEPENDENCIES) == set()


@pytest.mark.parametrize("module", ["edge_runtime.cli", "edge_runtime.model.package", "edge_runtime.device.doctor"])
def test_what_needs_no_dependency_loads_none(module):
    assert modules_after(f"import {module}") & (WORKSTATION | RUNTIME_DEPENDENCIES) == set()


@pytest.mark.parametrize("module", ["training.commands.data", "training.commands.train", "export.cli"])
def test_commands_of_the_workstation_register_without_loading_it(module):
    loaded = modules_after(f"import {module}")
    assert loaded & ((WORKSTATION - {"training", "export"}) | RUNTIME_DEPENDENCIES) == set()


def test_the_runtime_names_only_its_three_dependencies():
    allowed = set(sys.stdlib_module_names) | RUNTIME_DEPENDENCIES | {"edge_runtime"}
    strangers = {path: names - allowed - EXTRAS.get(path, set()) for path, names in imported("edge_runtime").items()}
    assert {path: names for path, names in strangers.items() if names} == {}


def test_training_knows_nothing_of_export():
    assert [path for path, names in imported("training").items() if "export" in names] == []


def test_export_knows_of_training_only_how_a_dataset_is_read_and_written():
    """Of our own runs it reads the folder; a Keras model that was trained elsewhere comes with a dataset instead."""
    path = PROJECT / "export" / "own_model" / "export.py"
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "training"
        for alias in node.names
    }
    assert names == {"check_dataset", "write_dataset"}
    users = [path for path, names in imported("export").items() if "training" in names]
    assert users == ["export/own_model/export.py"]
