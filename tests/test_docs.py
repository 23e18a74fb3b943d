"""The pages are true: commands parse; presets, passes, losses, links, files, imports and names exist."""

import argparse
import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.cli import build_parser
from export.passes import FLOAT_PASSES, INT8_PASSES, OPTIONAL_PASSES, SHARED_PASSES
from training.losses.spec import LOSS_NAMES
from training.presets import PRESETS

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [
    *(README, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md"),
    *(page for page in sorted((PROJECT / "docs").rglob("*.md")) if "generated" not in page.parts),
]
DEVELOPMENT = [PROJECT / "docs" / f"{name}.md" for name in ("architecture", "writing-a-pass", "adding-a-network")]
SCRIPTS = [*sorted((PROJECT / "examples").glob("*.py")), *sorted((PROJECT / "tests/benchmarks").glob("*.py"))]
PACKAGES = ("edge_runtime", "training", "export")
MOST_WORDS = 700
MOST_COLUMNS = 88
"""A code line that is longer has to be scrolled on the site."""
BANNED = re.compile(r"\bformer(ly)?\b|\bof before\b|\bas it (then )?was\b", re.IGNORECASE)
"""Sentences about what no longer ships."""
PARSER = build_parser()


def named(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page that are in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """Return what stands in single backticks on a page, outside of its fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each ``edge-unet`` in lines of a shell, whatever it is piped to or from."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|;&")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word.strip("|;&"):
                command.append(word)
                continue
            if command and Path(command[0]).name == "edge-unet":
                yield command[1:]
            command = []


def parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> argparse.Namespace:
    try:
        return PARSER.parse_args(arguments)
    except SystemExit as end:
        if not end.code and arguments[-1] in ("--help", "--version"):
            return argparse.Namespace()
        pytest.fail(f"edge-unet {shlex.join(arguments)}: {capsys.readouterr().err.splitlines()[-1]}")


def subcommands(parser: argparse.ArgumentParser, path: str = "") -> dict[str, argparse.ArgumentParser]:
    """Return every command's parser by its name, "" for that of ``edge-unet`` itself."""
    found = {path: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found |= subcommands(child, f"{path} {name}".strip())
    return found


COMMANDS = subcommands(PARSER)
OPTIONS = {option for parser in COMMANDS.values() for option in parser._option_string_actions}


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_line_parses(page, capsys):
    for block in blocks(page, "sh"):
        for arguments in commands(block):
            args = parse(arguments, capsys)
            assert getattr(args, "preset", "edge") in PRESETS


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_line_of_code_has_to_be_scrolled(page):
    lines = [line for block in blocks(page, r"\w+") for line in block.splitlines()]
    assert [line for line in lines if len(line) > MOST_COLUMNS] == []


def test_the_command_lines_are_found():
    text = (
        "# edge-unet no\nA=1 cat a | edge-unet run m --source 'a b' | jq . # edge-unet no\nedge-unet \\\n  info m; make"
    )
    assert list(commands(text)) == [["run", "m", "--source", "a b"], ["info", "m"]]
    assert sum(len(list(commands(block))) for page in PAGES for block in blocks(page, "sh")) > 30


def test_a_command_line_with_an_unknown_option_is_refused(capsys):
    with pytest.raises(pytest.fail.Exception, match="unrecognized arguments: --faster"):
        parse(["info", "models/first", "--faster"], capsys)


def test_the_service_and_the_container_start_a_command_that_parses(capsys):
    unit = (PROJECT / "docs/service/edge-unet.service").read_text(encoding="utf-8").replace("\\\n", " ")
    starts = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    [arguments] = [arguments for start in starts for arguments in commands(start)]
    assert parse(arguments, capsys).service
    dockerfile = (PROJECT / "docs/service/Dockerfile").read_text(encoding="utf-8")
    [arguments] = re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)
    assert parse(json.loads(arguments), capsys).service


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_and_command_in_a_sentence_exists(page):
    for span in spans(page):
        if span.startswith("--"):
            assert re.match(r"--[a-z0-9-]+", span)[0] in OPTIONS, span
        if span.startswith("edge-unet "):
            names = [word for word in span.split()[1:] if re.fullmatch(r"[a-z]+", word)]
            command = next((" ".join(names[:n]) for n in (2, 1, 0) if " ".join(names[:n]) in COMMANDS), "")
            assert command or span == "edge-unet --help", span
            for option in re.findall(r"--[a-z0-9-]+", span):
                assert option in COMMANDS[command]._option_string_actions, span


def in_tables(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the rows of all tables on a page whose first column has this heading."""
    text = page.read_text(encoding="utf-8")
    tables = re.findall(rf"^\| *{heading} *\|.*\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def names_in_tables(page: Path, heading: str) -> set[str]:
    """Return what stands in backticks in the first column of these tables."""
    return {name for row in in_tables(page, heading) for name in re.findall(r"`([^`]+)`", row[0])}


def test_every_documented_preset_exists_and_every_preset_is_documented():
    for page in PAGES:
        assert names_in_tables(page, "preset") <= set(PRESETS), named(page)
    assert names_in_tables(README, "preset")
    assert names_in_tables(PROJECT / "docs/training.md", "preset") == set(PRESETS)


def test_every_loss_is_documented():
    assert names_in_tables(PROJECT / "docs/training.md", "term") == set(LOSS_NAMES)


def test_every_pass_is_documented_and_those_that_can_be_left_out_are_marked():
    rows = in_tables(PROJECT / "docs/export.md", "pass")
    assert names_in_tables(PROJECT / "docs/export.md", "pass") == {
        row.name for row in (*SHARED_PASSES, *FLOAT_PASSES, *INT8_PASSES)
    }
    optional = {name for cells in rows if cells[2] == "yes" for name in re.findall(r"`([^`]+)`", cells[0])}
    assert optional == set(OPTIONAL_PASSES)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert (page.parent / path).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_and_every_target_of_make_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    scripts = {path.name for path in (PROJECT / "tests/benchmarks").glob("*.py")}
    words = [*spans(page), *(line for block in blocks(page, "sh") for line in block.splitlines())]
    for word in words:
        for path in re.findall(r"(?:^|(?<=\s))(?:tests|examples|docs|edge_runtime|training|export)/[\w./-]*", word):
            assert (PROJECT / path).exists(), word
        for script in re.findall(r"\bbench_\w+\.py", word):
            assert script in scripts, word
        for target in re.findall(r"^make ([a-z-]+)", word):
            assert target in targets, word


def defined_in(module: str) -> set[str] | None:
    """Return the names at the top level of a module of ours, without importing it; None if there is no such module."""
    folder = PROJECT / module.replace(".", "/")
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not path.is_file():
        return None
    found = {child.stem for child in folder.iterdir()} if folder.is_dir() else set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def missing_imports(source: str, written_here: set[str]) -> list[str]:
    """Return the imports from our packages, in some Python, that lead nowhere."""
    missing = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES:
            known = defined_in(node.module)
            names = {alias.name for alias in node.names} - written_here
            missing += [f"{node.module}.{name}" for name in sorted(names - (known or set()))]
    return missing


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_are_python_and_import_only_names_that_exist(page):
    written = {
        node.name
        for block in blocks(page, "python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ClassDef)
    }
    for block in blocks(page, "python"):
        assert missing_imports(block, written) == []
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
                public = importlib.import_module(node.module).__all__
                assert {alias.name for alias in node.names} <= set(public)


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_scripts_import_only_names_that_exist(script):
    assert missing_imports(script.read_text(encoding="utf-8"), set()) == []


def test_an_import_that_leads_nowhere_is_found():
    source = "from training.config import PRESETS, Presets\nfrom training.plan import Plan\nfrom export import passes"
    assert missing_imports(source, set()) == ["training.config.Presets", "training.plan.Plan"]


@pytest.mark.parametrize("page", DEVELOPMENT, ids=named)
def test_every_name_on_a_page_for_developers_is_in_the_code(page):
    sources = [path.read_text(encoding="utf-8") for package in PACKAGES for path in (PROJECT / package).rglob("*.py")]
    sources += [path.read_text(encoding="utf-8") for path in (PROJECT / "tests/support").glob("*.py")]
    sources += [path.read_text(encoding="utf-8") for path in (PROJECT / "tests/export").glob("*.py")]
    words = set(re.findall(r"\w+", "\n".join([*sources, *blocks(page, "python")])))
    for span in spans(page):
        called = re.match(r"[A-Za-z_]\w*(?=$|\()", span)
        assert not called or called[0] in words, span


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_speaks_of_what_no_longer_ships(page):
    assert BANNED.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("package", ["edge_runtime", "training", "export"])
def test_every_room_is_on_the_map(package):
    text = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {package}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    rooms = {
        path.stem for path in (PROJECT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} <= set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
