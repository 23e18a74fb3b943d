"""Every public name has an example in its docstring, and the examples run with the output that they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from colors import color_contract, color_scene, color_truth, write_color_package

PACKAGES = ("edge_runtime", "training", "export")
NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]
PLAIN_DATA = {("training", "PRESETS")}
"""Public names of built-in types, which carry no docstring: the example of another name has to show them."""
GOT_FROM_ANOTHER = {
    *(("edge_runtime", name) for name in ("ClassInfo", "Contract", "Evaluation", "Frame", "FrameResult")),
    *(("edge_runtime", name) for name in ("Segmentation", "Source")),
    *(("training", name) for name in ("DatasetReport", "Preset", "Recipe", "Shape")),
}
"""Classes that nobody builds or names: the example gets their objects from a call or a registry."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(value: object, name: str) -> list[doctest.DocTest]:
    """Return the examples in the docstrings of a public name and of its methods."""
    found = doctest.DocTestFinder(exclude_empty=True).find(value, name, module=False)
    return [test for test in found if test.examples]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the names of the runtime's examples: a package, a picture, a folder of pictures, a labelled dataset."""
    root = tmp_path_factory.mktemp("shared")
    data = root / "data"
    for number in range(3):
        picture = np.roll(color_scene(), 5 * number, axis=1)
        for kind, pixels in (("images", picture), ("masks", color_truth(picture))):
            (data / kind).mkdir(parents=True, exist_ok=True)
            (data / kind / f"{number}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return {
        "package": write_color_package(root / "colors", color_contract()),
        "image_bgr": color_scene(),
        "folder": data / "images",
        "data": data,
        "np": np,
    }


@pytest.fixture(scope="session")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the names of training's and export's examples: a dataset and a finished run."""
    from runs import write_color_data, write_run

    root = tmp_path_factory.mktemp("workstation")
    data = write_color_data(root / "data")
    return {"data": data, "run": write_run(root / "run", data)}


@pytest.mark.parametrize(("package", "name"), [name for name in NAMES if name not in PLAIN_DATA])
def test_a_public_name_has_an_example_that_works(package, name, shared, request, tmp_path, monkeypatch):
    found = examples(getattr(importlib.import_module(package), name), name)
    assert found, f"{package}.{name} shows no example"
    names = shared if package == "edge_runtime" else request.getfixturevalue("workstation")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in found:
        test.globs = {**names, "tmp_path": tmp_path}
        report: list[str] = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)


def uses(value: object, name: str) -> bool:
    """Tell whether an example of a public name has the name, other than in an import, in its code or its output."""
    shown = [example for test in examples(value, name) for example in test.examples]
    lines = [text for e in shown for text in (e.want, *e.source.splitlines()) if "import " not in text]
    return any(re.search(rf"\b{name}\b", line) for line in lines)


@pytest.mark.parametrize(("package", "name"), [name for name in NAMES if name not in PLAIN_DATA | GOT_FROM_ANOTHER])
def test_the_example_of_a_public_name_uses_the_name(package, name):
    assert uses(getattr(importlib.import_module(package), name), name)


@pytest.mark.parametrize(("package", "name"), sorted(GOT_FROM_ANOTHER))
def test_an_exception_from_this_is_needed(package, name):
    value = getattr(importlib.import_module(package), name)
    assert inspect.isclass(value)
    assert not uses(value, name)


@pytest.mark.parametrize(("package", "name"), sorted(PLAIN_DATA))
def test_plain_data_is_shown_by_the_example_of_another_name(package, name):
    module = importlib.import_module(package)
    assert type(getattr(module, name)).__module__ == "builtins"
    tests = [test for other in module.__all__ for test in examples(getattr(module, other), other)]
    lines = [example.source for test in tests for example in test.examples]
    assert any(name in line and "import" not in line for line in lines)


def test_an_example_that_does_not_work_is_noticed():
    def wrong() -> None:
        """Add.

        >>> 1 + 1
        3
        """

    assert inspect.getdoc(wrong)
    (test,) = examples(wrong, "wrong")
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=lambda text: None)
    assert runner.failures == 1
