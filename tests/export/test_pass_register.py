"""A pass is a file and a row: the rows name every pass there is, and stages, checks and help follow from them."""

from __future__ import annotations

import importlib
import pkgutil
import re

import onnx_ir as ir
import pytest

import export.passes
from edge_runtime.cli import main
from export.passes import FIRST_PASSES, FLOAT_PASSES, INT8_PASSES, OPTIONAL_PASSES, SHARED_PASSES, PassInfo
from export.passes.names import NameByLayer, NameByPlace
from export.passes.quantize import Quantize

ROWS = (*FIRST_PASSES, *SHARED_PASSES, *FLOAT_PASSES, *INT8_PASSES)
WITH_ARGUMENTS = {NameByLayer, NameByPlace, Quantize}
"""Passes that every graph needs, which ``export.optimise`` applies itself."""


def test_every_pass_has_a_row_unless_every_graph_needs_it():
    found = set()
    for info in pkgutil.iter_modules(export.passes.__path__):
        module = importlib.import_module(f"export.passes.{info.name}")
        passes = {
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, ir.passes.PassBase) and kind.__module__ == module.__name__
        }
        assert passes, f"{info.name} holds no pass"
        found |= passes
    assert found == WITH_ARGUMENTS | {type(row.make()) for row in ROWS}


@pytest.mark.parametrize("variant", [FLOAT_PASSES, INT8_PASSES])
def test_no_two_stages_of_a_variant_have_one_name(variant):
    names = [row.name for row in (*SHARED_PASSES, *variant)]
    assert len(set(names)) == len(names)


def test_a_name_is_optional_in_all_variants_or_in_none():
    assert not {row.name for row in ROWS if not row.optional} & set(OPTIONAL_PASSES)


def test_what_makes_the_contract_is_not_optional():
    assert {"pixels", "class map"} & set(OPTIONAL_PASSES) == set()
    assert OPTIONAL_PASSES == (
        "unpooling", "upsampling", "hard-sigmoid", "pixel-rows", "phases", "means", "gates", "skips", "transposed", "copies", "pixel-groups", "pixel-groups-narrow",
    )  # fmt: skip


def test_help_names_exactly_the_passes_that_can_be_left_out(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = re.sub(r"\s+", " ", re.sub(r"-\n\s+", "-", capsys.readouterr().out))
    (listed,) = re.findall(
        r"leave out a graph pass \(may be repeated\): (.*?) a Keras model that was trained elsewhere:", text
    )
    assert tuple(listed.split(", ")) == OPTIONAL_PASSES


def test_a_row_of_a_class_that_is_nowhere_is_an_error():
    with pytest.raises(AttributeError, match="NoSuchPass"):
        PassInfo("none", "padding.NoSuchPass").make()
