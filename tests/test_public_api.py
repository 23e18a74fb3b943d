"""The public names of the three packages are pinned, resolve, and are described."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import edge_runtime

PUBLIC = {
    "edge_runtime": {
        *("ClassInfo", "Contract", "Segmentation", "SessionOptions"),
        *("Segmenter", "RefinedSegmenter", "TiledSegmenter", "StageTimes"),
        *("Frame", "FrameResult", "Patience", "Source", "SourceOptions", "open_source", "stream"),
        *("Evaluation", "evaluate_dataset", "parse_effect"),
        *("Observer", "OutputOptions", "RunConfig", "execute"),
        *("EdgeUnetError", "GateError", "InputError", "ModelError", "SourceError", "StorageError", "UsageError"),
        "WedgedError",
    },
    "training": {
        *("PRESETS", "Preset", "Recipe", "Shape", "TrainConfig", "UNetShape", "build", "make_loss"),
        *("DeepLabShape", "FCNShape", "SegNetShape"),
        *("DatasetReport", "SynthSize", "check_dataset", "import_dataset", "write_dataset", "write_synthetic_dataset"),
        *("EpochRecord", "Progress", "Silent", "train"),
        *("DataError", "DivergedError", "ImportProblemsError", "LoaderError", "ResumeError", "TrainingStopped"),
    },
    "export": {
        *("ExportConfig", "Int8Budget", "Manifest", "Parity", "ParityBudget", "export_model", "export_package"),
        *("ConvertError", "Int8Error", "ParityError"),
    },
}
PLAIN_DATA = {"PRESETS"}
"""Names of built-in types, which carry no docstring of their own."""
NAMES = [(package, name) for package, names in PUBLIC.items() for name in sorted(names)]


def as_ruff_sorts(name):
    """Return the place of a name in ``__all__``: constants, then classes, then functions (ruff's RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_pinned_and_sorted(package):
    names = importlib.import_module(package).__all__
    assert set(names) == PUBLIC[package]
    assert names == sorted(names, key=as_ruff_sorts)


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_resolves_and_is_described(package, name):
    value = getattr(importlib.import_module(package), name)
    if name in PLAIN_DATA:
        assert isinstance(value, dict)
        return
    assert inspect.isclass(value) or inspect.isfunction(value)
    assert value.__name__ == name
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "a dataclass without a docstring of its own"


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_dataclass_is_frozen(package, name):
    value = getattr(importlib.import_module(package), name)
    if dataclasses.is_dataclass(value):
        assert value.__dataclass_params__.frozen


@pytest.mark.parametrize("package", PUBLIC)
def test_the_types_of_a_package_know_its_public_names(package):
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert {alias.name for node in block.body for alias in node.names} == PUBLIC[package]


@pytest.mark.parametrize("package", PUBLIC)
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Segmentor'"):
        _ = importlib.import_module(package).Segmentor


@pytest.mark.parametrize("package", PUBLIC)
def test_tab_completion_shows_the_public_names_alone(package):
    assert set(dir(importlib.import_module(package))) >= {*PUBLIC[package], "__all__", "__doc__"}


def test_every_error_has_the_exit_code_of_the_table():
    codes = {name: getattr(edge_runtime, name).exit_code for name in edge_runtime.__all__ if name.endswith("Error")}
    assert codes == {
        "EdgeUnetError": 70,
        "UsageError": 2,
        "InputError": 3,
        "ModelError": 4,
        "GateError": 5,
        "StorageError": 6,
        "SourceError": 7,
        "WedgedError": 70,
    }


def members(module):
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")])
def test_every_module_function_and_class_is_described(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for member, value in members(module):
        assert value.__doc__, f"{name}.{member}"
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if not method.startswith("_") and inspect.isfunction(function):
                    assert function.__doc__, f"{name}.{member}.{method}"


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")])
def test_every_dataclass_is_frozen(name):
    for member, value in members(importlib.import_module(name)):
        if dataclasses.is_dataclass(value):
            assert value.__dataclass_params__.frozen, f"{name}.{member}"
