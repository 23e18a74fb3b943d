"""Problems are gathered by kind: each kind has a title, one remedy and a few examples with their own values."""

import ast
from pathlib import Path

import pytest

import edge_runtime
import training
from edge_runtime.dataset.pairs import Problem
from training.data.check.kinds import TITLES, by_kind

SOURCES = [Path(edge_runtime.__file__).parent / "dataset", Path(training.__file__).parent / "data"]
ROOT = Path("/data")


def codes_in(tree):
    """Yield the codes of problems that a module makes."""
    named = {}  # constants of the module and their values
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            named[ast.unparse(node.targets[0])] = node.value
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("refus"):  # they return nothing but codes
            texts = [n for r in ast.walk(node) if isinstance(r, ast.Return) for n in ast.walk(r)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "problem" and len(node.args) > 1:
            texts = [node.args[1]]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem":
            texts = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        else:
            texts = []
        texts = [named.get(ast.unparse(n), n) for n in texts]
        yield from (n.value for n in texts if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_every_code_has_a_title_and_every_title_a_code():
    modules = [path for folder in SOURCES for path in folder.rglob("*.py")]
    codes = {code for path in modules for code in codes_in(ast.parse(path.read_text(encoding="utf-8")))}
    assert codes == set(TITLES)


def mismatch(name, remedy="make them the same size", **changes):
    message = f"/data/masks/{name} — mask is 1x1, image is 2x2 — expected one size — {remedy}"
    return Problem(
        **{"severity": "error", "code": "size_mismatch", "file": f"/data/masks/{name}", "message": message, **changes}
    )


def test_errors_come_first_then_the_kind_with_the_most_files_then_the_worst():
    problems = [mismatch("a.png", severity="warning")] * 9
    problems += [mismatch("a.png", code=code) for code in ("empty_file", "leak", "too_small", "too_small")]
    assert [(k.severity, k.code, len(k.problems)) for k in by_kind(problems)] == [
        ("error", "too_small", 2),
        ("error", "leak", 1),
        ("error", "empty_file", 1),
        ("warning", "size_mismatch", 9),
    ]


def test_the_title_counts_and_the_remedy_is_that_of_most():
    (kind,) = by_kind([mismatch("a.png"), mismatch("b.png"), mismatch("c.png", "rotate one of them")])
    assert (kind.title, kind.remedy) == (
        "3 masks have another size than their image",
        "make them the same size (for 2 of them)",
    )
    (kind,) = by_kind([mismatch("a.png"), mismatch("b.png")])
    assert kind.remedy == "make them the same size"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"detail": "7x7"}, ["masks/a.png: 7x7", "masks/b.png: mask is 1x1, image is 2x2"]),
        ({}, ["masks/a.png: mask is 1x1, image is 2x2", "masks/b.png"]),
        (
            {"message": "no mask for image /data/a.jpg — found /data/masks/a.gif — expected a.png — add it"},
            ["masks/a.png: found masks/a.gif — expected a.png", "masks/b.png: mask is 1x1, image is 2x2"],
        ),
    ],
    ids=["its own detail", "once where all are the same", "what stands between place and remedy"],
)
def test_an_example_is_a_file_within_the_dataset_and_its_own_values(changes, expected):
    (kind,) = by_kind([mismatch("a.png", **changes), mismatch("b.png"), mismatch("c.png")])
    assert kind.examples(ROOT, 2) == expected
