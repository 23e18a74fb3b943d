"""What applications import exists and is described."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import edge_runtime


@pytest.mark.parametrize("name", edge_runtime.__all__)
def test_every_public_name_resolves_and_is_described(name):
    value = getattr(edge_runtime, name)
    assert inspect.isclass(value)
    assert value.__name__ == name
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_the_public_names_are_sorted_and_pinned():
    assert edge_runtime.__all__ == sorted(edge_runtime.__all__)
    assert set(edge_runtime.__all__) == {
        *("ClassInfo", "Contract", "Segmentation", "Segmenter", "SessionOptions"),
        *("EdgeUnetError", "GateError", "InputError", "ModelError", "SourceError", "StorageError", "UsageError"),
    }


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'edge_runtime' has no attribute 'Segmentor'"):
        _ = edge_runtime.Segmentor


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
