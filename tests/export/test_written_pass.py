"""The pass that docs/writing-a-pass.md shows, and its test there."""

import re
import sys
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs/writing-a-pass.md"


def test_the_example_pass_passes_its_example_test(monkeypatch):
    written, tests = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    module = ModuleType("export.passes.unit_scales")
    exec(written, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found: dict[str, object] = {}
    exec(tests, found)
    [test] = [value for name, value in found.items() if name.startswith("test_")]
    test()
