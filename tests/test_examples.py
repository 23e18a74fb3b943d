"""The programs in examples/ import public names only, and run."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import pytest
from colors import color_scene
from nbclient import NotebookClient

from edge_runtime.dataset.mask_files import read_mask

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PACKAGES = ("edge_runtime", "training", "export")
DEADLINE_S = 300


def internal_imports(source: str) -> list[str]:
    """Return what a program imports from our packages besides the names in their ``__all__``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES]
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in PACKAGES:
            public = importlib.import_module(node.module).__all__ if node.module in PACKAGES else ()
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
    return found


def run(name: str, *arguments: object) -> str:
    """Run an example in a process of its own and return its stdout."""
    command = [sys.executable, str(EXAMPLES[0].with_name(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one picture."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "scene.png").write_bytes(cv2.imencode(".png", color_scene())[1].tobytes())
    return tmp_path / "pictures"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_public_names_only(path):
    assert internal_imports(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import edge_runtime.segment.stream", "edge_runtime.segment.stream"),
        ("from edge_runtime.segment.stream import stream", "edge_runtime.segment.stream.stream"),
        ("from edge_runtime import Segmenter, cli", "edge_runtime.cli"),
        ("def main():\n    from training import fit", "training.fit"),
    ],
)
def test_an_internal_import_is_found(line, found):
    assert internal_imports(line) == [found]


def test_the_whole_way_from_python(tmp_path):
    text = run("from_python.py", tmp_path / "work", 2)
    assert "on 4 test images\n1 picture segmented" in text
    assert (tmp_path / "work" / "package" / "manifest.json").is_file()
    [mask] = (tmp_path / "work" / "results" / "masks").glob("*.png")
    assert read_mask(mask).values.max() < 4


def test_from_a_keras_notebook_to_a_package(tmp_path):
    text = run("keras_unet.py", tmp_path / "work", 1)
    assert "pixels are given to the model in " in text
    assert "{'background': " in text
    assert (tmp_path / "work" / "package" / "manifest.json").is_file()


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    notebook = nbformat.read(EXAMPLES[0].with_name("keras_unet.ipynb"), as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are of one machine"
    for cell in notebook.cells:
        cell.source = cell.source.replace("epochs = 10", "epochs = 1")
    # "!edge-unet" in a cell is the command of this environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    client = NotebookClient(notebook, timeout=DEADLINE_S, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "PATH": path})
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    assert (tmp_path / "keras-unet" / "package" / "manifest.json").is_file()
    assert len(list((tmp_path / "keras-unet" / "results" / "masks").glob("*.png"))) == 4


def test_counting_pixels(color_package, folder):
    assert run("count_pixels.py", color_package, folder).endswith("background 76.6%, red 7.8%, blue 15.6%\n")


def test_watching_a_source(color_package, folder):
    assert run("watch_camera.py", color_package, folder, "red").endswith("red came\n")
