"""The passes together: every stage answers the same, and the same model gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import pixels, run
from runs import contract_of, traced

from edge_runtime.model.contract import METADATA_KEY, VARIANT_KEY, Contract
from export.convert import convolution_layers
from export.optimise import Stage, integer_layout, optimise, to_int8
from export.passes import OPTIONAL_PASSES, joined_phases, phases
from export.passes.quantize import measured_values

COMMON = ["tf2onnx", "unpooling", "upsampling", "hard-sigmoid", "normalisation", "pixels", "pixel-rows", "class map"]
FLOAT = [*COMMON, "phases", "means", "gates", "skips"]
INTEGER = [f"INT8 layout: {name}" for name in ("transposed", "phases", "copies", "pixel-groups", "pixel-groups-narrow")]
CASES = [("seed", 3, 3), ("edge", 3, 1)]


@pytest.fixture(autouse=True)
def phases_of_small_networks(monkeypatch):
    """Split what is far too small to be worth it, so that narrow networks go through the pass too."""
    monkeypatch.setattr(phases, "MINIMUM_SAVING", 1)
    monkeypatch.setattr(joined_phases, "MINIMUM_SAVING", 1)


def arguments(case: tuple[str, int, int]) -> tuple[onnx.ModelProto, Contract, list[str]]:
    model, raw = traced(*case)
    return raw, contract_of(model), convolution_layers(model)


def float_stages(case: tuple[str, int, int], without: Sequence[str] = ()) -> list[Stage]:
    raw, contract, layers = arguments(case)
    return optimise(raw, contract, layers, without=without)


def integer_stages(case: tuple[str, int, int], without: Sequence[str] = ()) -> list[Stage]:
    raw, _, layers = arguments(case)
    return integer_layout(raw, layers, without=without)


@cache
def image_of(case: tuple[str, int, int]) -> np.ndarray:
    return pixels(ir.from_proto(traced(*case)[1]))


def logits_of(stage: Stage, case: tuple[str, int, int]) -> np.ndarray:
    """Run a stage on the picture as it takes it: RGB numbers or BGR bytes."""
    image = image_of(case)
    element = stage.model.graph.input[0].type.tensor_type.elem_type
    as_bytes = element == onnx.TensorProto.UINT8
    given = np.ascontiguousarray(image[..., ::-1]) if as_bytes else image.astype(np.float32)
    return run(stage.model, given)["logits"]


def quantised(case: tuple[str, int, int]) -> onnx.ModelProto:
    _, contract, _ = arguments(case)
    layout = integer_stages(case)[-1].model
    names = measured_values(ir.from_proto(layout).graph)
    return to_int8(layout, contract, dict.fromkeys(names, (-6.0, 6.0)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("stages_of", "names"), [(float_stages, FLOAT), (integer_stages, INTEGER)])
def test_every_stage_answers_as_the_first(stages_of, names, case):
    stages = stages_of(case)
    assert [stage.name for stage in stages] == names
    expected = logits_of(float_stages(case)[0], case)
    for stage in stages:
        np.testing.assert_allclose(logits_of(stage, case), expected, rtol=1e-5, atol=1e-4, err_msg=stage.name)


def count(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


def reads_groups(model: onnx.ModelProto) -> bool:
    return next(n for n in model.graph.node if n.input[0] == "image").op_type == "Reshape"


def has_small_kernels(model: onnx.ModelProto) -> bool:
    sizes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    return any(sizes[node.input[1]][2:] == (2, 2) for node in model.graph.node if node.op_type == "Conv")


# What shows in the last stage that a pass has done its work.
SHOWS = {
    "upsampling": lambda model: not count(model, "Tile"),
    "phases": has_small_kernels,
    "copies": lambda model: not count(model, "Tile") and not count(model, "Resize") and not has_small_kernels(model),
    "pixel-groups": reads_groups,
}


# In this order 'copies' has something left to do only without 'phases'.
@pytest.mark.parametrize(
    ("without", "shown"),
    [
        ([], {"upsampling", "phases", "pixel-groups"}),
        (["upsampling"], {"pixel-groups"}),
        (["phases"], {"upsampling", "copies", "pixel-groups"}),
        (["phases", "copies"], {"upsampling", "pixel-groups"}),
        (["pixel-groups"], {"upsampling", "phases"}),
        (list(OPTIONAL_PASSES), set()),
    ],
)
def test_a_pass_can_be_left_out(without, shown):
    case = ("seed", 3, 3)
    stages = integer_stages(case, without)
    left = [name for name in INTEGER if name.removeprefix("INT8 layout: ") not in without]
    assert [stage.name for stage in stages] == (left or ["class map"])
    assert {name for name, shows in SHOWS.items() if shows(stages[-1].model)} == shown
    expected = logits_of(float_stages(case)[0], case)
    np.testing.assert_allclose(logits_of(stages[-1], case), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("without", OPTIONAL_PASSES)
def test_each_pass_alone_can_be_left_out_in_float(without):
    case = ("edge", 3, 1)
    stages = float_stages(case, [without])
    assert [stage.name for stage in stages] == [name for name in FLOAT if name != without]
    np.testing.assert_allclose(logits_of(stages[-1], case), logits_of(stages[0], case), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("made", "variant"), [(lambda case: float_stages(case)[-1].model, "fp32"), (quantised, "int8")]
)
def test_the_same_model_gives_the_same_bytes(made, variant, case):
    _, contract, _ = arguments(case)
    first, second = made(case), made(case)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert {entry.key: entry.value for entry in first.metadata_props} == {
        METADATA_KEY: contract.to_json(),
        VARIANT_KEY: variant,
    }
    assert [(entry.domain, entry.version) for entry in first.opset_import] == [("", 17)]
    assert not any(node.metadata_props for node in first.graph.node)
    assert [output.name for output in first.graph.output] == ["mask", "logits"]


def test_the_traced_graph_is_left_as_it_is():
    raw, contract, layers = arguments(("seed", 3, 3))
    before = raw.SerializeToString()
    optimise(raw, contract, layers)
    integer_layout(raw, layers)
    assert raw.SerializeToString() == before


def test_a_layout_is_left_as_it_is_by_quantising():
    case = ("seed", 3, 3)
    layout = integer_stages(case)[-1].model
    before = layout.SerializeToString()
    names = measured_values(ir.from_proto(layout).graph)
    to_int8(layout, arguments(case)[1], dict.fromkeys(names, (-6.0, 6.0)))
    assert layout.SerializeToString() == before


def test_only_in_float_do_phases_go_through_convolutions():
    case = ("seed", 3, 3)

    def has_halves(model: onnx.ModelProto) -> bool:
        sizes = {weight.name: tuple(weight.dims[2:]) for weight in model.graph.initializer}
        return any(sizes[node.input[1]] == (1, 2) for node in model.graph.node if node.op_type == "Conv")

    assert has_halves(float_stages(case)[-1].model)
    assert not has_halves(integer_stages(case)[-1].model)
