"""Importing ``export`` is cheap: what its public names need is loaded when they are used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "onnx_ir", "onnxruntime", "cv2", "numpy", "matplotlib", "jinja2"}


@pytest.mark.parametrize(
    "use", ["", "; export.ExportConfig, export.ParityBudget, export.Int8Budget, export.ParityError"]
)
def test_neither_the_import_nor_a_configuration_loads_anything_heavy(use):
    code = f"import export, json, sys{use}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert HEAVY & set(json.loads(child.stdout)) == set()
