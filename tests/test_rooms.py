"""Each package is rooms by subject: a room imports only from itself and from rooms above it, and nothing goes in circles."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = {
    "edge_runtime": (
        *("errors", "progress", "storage", "resources", "headers", "whole_jpeg", "image", "models"),
        *("model", "dataset", "sources", "segment", "effects", "sinks", "device", "run"),
        *("commands", "cli"),
    ),
    "training": (
        *("errors", "network", "losses", "presets", "config"),
        *("data", "importers", "input", "monitor", "loop", "report"),
        *("fit", "commands"),
    ),
    "export": (
        *("errors", "graph", "passes", "config", "keras_model", "run_folder", "convert"),
        *("optimise", "validation_set", "parity", "int8_search", "app_model", "report"),
        *("package", "own_model", "demo", "cli"),
    ),
}
"""The rooms of each package, from the first to the last: the order in which they tell the story."""
MOST_ROOMS = {"edge_runtime": 18, "training": 14, "export": 17}
DOORS = {"__init__", "__main__"}
"""The ways in, which stand outside: they name what the rooms hold."""


def modules(folder: Path, package: str) -> dict[str, Path]:
    """Return the files of a package by dotted name without the package's own: ``sources.live``; a folder's is its own."""
    found = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder / package).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def imports(path: Path, package: str, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of its own package that a file names in an import, at the top, in a function or for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] != package:
                continue
            name = name.partition(".")[2]
            while name and name not in known:  # what a module holds, or a module
                name = name.rpartition(".")[0]
            yield name or "__init__"


def uphill(folder: Path, package: str, rooms: tuple[str, ...]) -> list[str]:
    """Return the imports from a room into one that comes after it."""
    known = modules(folder, package)
    found = []
    for module, path in known.items():
        room = module.partition(".")[0]
        if room in DOORS:
            continue
        for other in imports(path, package, known):
            target = other.partition(".")[0]
            if target in DOORS or rooms.index(target) > rooms.index(room):
                found.append(f"{module} imports {other}")
    return found


def circle(folder: Path, package: str) -> list[str]:
    """Return the modules of a package that import each other in a circle, whatever their rooms; empty if none do."""
    known = modules(folder, package)
    graph = {
        module: set(imports(path, package, known)) - {module} for module, path in known.items() if module not in DOORS
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", ROOMS)
def test_the_top_level_of_a_package_is_its_rooms_and_they_are_few(package):
    rooms = {name.partition(".")[0] for name in modules(PROJECT, package)} - DOORS
    assert rooms == set(ROOMS[package])
    assert len(rooms) <= MOST_ROOMS[package]


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_from_rooms_above_it(package):
    assert uphill(PROJECT, package, ROOMS[package]) == []


@pytest.mark.parametrize("package", ROOMS)
def test_no_modules_import_each_other_in_a_circle(package):
    assert circle(PROJECT, package) == []


def test_an_import_uphill_is_found_wherever_it_stands(tmp_path):
    house = tmp_path / "house"
    (house / "cellar").mkdir(parents=True)
    (house / "__init__.py").write_text("")
    (house / "cellar" / "__init__.py").write_text("")
    (house / "cellar" / "stairs.py").write_text("def climb():\n    from house.attic import Trunk\n")
    (house / "attic.py").write_text("from house.cellar import stairs\n")
    assert uphill(tmp_path, "house", ("cellar", "attic")) == ["cellar.stairs imports attic"]
    assert set(circle(tmp_path, "house")) == {"cellar.stairs", "attic"}


def test_help_imports_few_modules():
    # What `edge-unet --help` takes is what it imports, some 200 modules; a time would fail on a slow machine.
    code = "import sys; from edge_runtime.cli import build_parser; build_parser(); print(len(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    counted = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert int(counted.stdout) < 250
