"""Sphinx builds the pages of this folder and the Python API into a site: `make docs`."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edge_runtime.cli import quiet_native_logs  # noqa: E402 - found by the line above

with quiet_native_logs():  # the API pages need it, and it greets with half a screen
    importlib.import_module("tensorflow")

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "Edge U-Net"
author = "the Edge U-Net authors"
version = release = _PROJECT["version"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["service/*"]
templates_path = ["_templates"]

# Every warning ends the build. What is not ours is no page of this site, so a type in a signature may lead nowhere.
nitpicky = True
nitpick_ignore_regex = [(r"py:(class|data|exc|obj)", r".*")]

myst_heading_anchors = 3
default_role = "literal"  # docstrings write commands in single backticks

# A page per name in a package's __all__; a package without one has its docstring alone.
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "special-members": "__call__"}
autoclass_content = "both"  # the class, then how to make one
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass names its fields in the signature already
napoleon_custom_sections = [("Reference", "References")]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_title = "Edge U-Net"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go, .c1"  # a comment behind a command is for reading

_ARRAY = r"~?numpy\.ndarray\[tuple\[[^\]]*\], ~?numpy\.dtype\[~?numpy\.(\w+)\]\]"


def _describe_data(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Give a constant the text below its assignment in the module it comes from; Sphinx takes that of its type."""
    if what != "data":
        return
    short = name.rpartition(".")[2]
    for home, module in list(sys.modules.items()):
        if home.startswith(("edge_runtime.", "training.", "export.")) and vars(module).get(short) is value:
            found = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", short))
            if found:
                lines[:] = found
                return
    if "\n".join(lines).strip() == (type(value).__doc__ or "").strip() or type(value).__module__ == "builtins":
        lines.clear()


def _mark_code(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Make what is indented below a sentence a block of code, as it reads in the source; reST takes it for a quotation."""
    for place in range(len(lines) - 1, 0, -1):
        prose = next((line for line in reversed(lines[:place]) if line), ":")
        begins = lines[place].startswith("    ") and not lines[place - 1]
        if begins and not prose.startswith((" ", ".. ")) and not prose.endswith(":"):
            lines[place:place] = ["::", ""]


def _name_arrays(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write NDArray[uint8] as the source does; Sphinx spells out what that stands for."""
    parts = (signature, returns)
    signature, returns = (part and re.sub(_ARRAY, r"NDArray[\1]", part) for part in parts)
    return signature, returns


def setup(app: Sphinx) -> None:
    """Register what Sphinx calls."""
    app.connect("autodoc-process-docstring", _describe_data)
    app.connect("autodoc-process-docstring", _mark_code, priority=400)  # before napoleon reads its sections
    app.connect("autodoc-process-signature", _name_arrays)
