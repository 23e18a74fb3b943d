"""What other programs import from ``export`` exists, is described with an example, and is loaded only when used."""

from __future__ import annotations

import doctest
import inspect
import json
import subprocess
import sys

import pytest

import export

HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "onnx_ir", "onnxruntime", "cv2", "numpy", "matplotlib", "jinja2"}
ERRORS = {"ConvertError", "Int8Error", "ParityError"}
CONFIGURATION = {"ExportConfig", "Int8Budget", "ParityBudget"}


def test_the_public_names_are_sorted_and_pinned():
    assert export.__all__ == sorted(export.__all__)
    assert set(export.__all__) == {*CONFIGURATION, "Manifest", "Parity", "export_package"} | ERRORS


@pytest.mark.parametrize("name", export.__all__)
def test_every_public_name_resolves_and_is_described(name):
    value = getattr(export, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)
    if name not in ERRORS:
        assert doctest.DocTestParser().get_examples(value.__doc__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'export' has no attribute 'export_packages'"):
        _ = export.export_packages


@pytest.mark.parametrize(
    "use", ["", "; export.ExportConfig, export.ParityBudget, export.Int8Budget, export.ParityError"]
)
def test_neither_the_import_nor_a_configuration_loads_anything_heavy(use):
    code = f"import export, json, sys{use}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert HEAVY & set(json.loads(child.stdout)) == set()
