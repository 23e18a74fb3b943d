"""Apply the graph passes in order, from the graph that tf2onnx writes to the graphs that ship."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from edge_runtime.model.contract import METADATA_KEY, VARIANT_KEY, Contract
from export.errors import ConvertError
from export.passes import FIRST_PASSES, FLOAT_PASSES, INT8_PASSES, SHARED_PASSES, PassInfo
from export.passes.names import NameByLayer, NameByPlace
from export.passes.quantize import Quantize, Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Graph between two passes.

    Attributes:
        name: Name of the pass that was applied last.
        model: The graph, which can be run and has the output ``logits``.
    """

    name: str
    model: onnx.ModelProto


def optimise(
    raw: onnx.ModelProto, contract: Contract, layers: Iterable[str], *, without: Collection[str] = ()
) -> list[Stage]:
    """Turn the traced graph into the float graph that ships.

    Args:
        raw: Graph from ``trace``.
        contract: Inputs and outputs of the model; it goes into the metadata.
        layers: Names of the Keras model's convolution layers.
        without: Names of passes to leave out, from ``export.passes.OPTIONAL_PASSES``.

    Returns:
        The graph before the first pass and after each pass; the last one is finished.

    Raises:
        ConvertError: A pass cannot do its work.
    """
    model = _named(raw, layers)
    stages = list(_run(model, (*SHARED_PASSES, *FLOAT_PASSES), without))
    stages[-1] = Stage(name=stages[-1].name, model=_finished(model, contract, "fp32"))
    return stages


def integer_layout(raw: onnx.ModelProto, layers: Iterable[str], *, without: Collection[str] = ()) -> list[Stage]:
    """Turn the traced graph into a float graph whose layout suits integer arithmetic.

    Arguments as for ``optimise``.

    Returns:
        The graph after each pass that ``optimise`` does not apply; the last is for ``to_int8``.
    """
    model = _named(raw, layers)
    *_, last = _run(model, SHARED_PASSES, without)
    _, *stages = _run(model, INT8_PASSES, without)
    return [replace(stage, name=f"INT8 layout: {stage.name}") for stage in stages] or [last]


def to_int8(
    layout: onnx.ModelProto, contract: Contract, ranges: Mapping[str, Range], keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """Turn a graph from ``integer_layout`` into one that computes with 8-bit integers.

    Args:
        layout: The last stage of ``integer_layout``.
        contract: Inputs and outputs of the model.
        ranges: Range of each value that ``export.passes.quantize.measured_values`` names.
        keep_float: Names of the Keras layers to leave in float.
    """
    model = ir.from_proto(layout)
    common.ShapeInferencePass()(model)
    Quantize(ranges, keep_float)(model)
    return _finished(model, contract, "int8")


def _named(raw: onnx.ModelProto, layers: Iterable[str]) -> ir.Model:
    model = ir.from_proto(raw)
    common.ShapeInferencePass()(model)
    for row in FIRST_PASSES:
        row.make()(model)
    common.RemoveUnusedNodesPass()(model)
    NameByLayer(layers)(model)
    return model


def _run(model: ir.Model, passes: Iterable[PassInfo], without: Collection[str]) -> Iterator[Stage]:
    """Apply passes to a model, and yield the model before the first pass and after each."""
    yield Stage(name="tf2onnx", model=ir.to_proto(model))
    for row in passes:
        if row.name not in without:
            row.make()(model)
            _clean(model)
            yield Stage(name=row.name, model=ir.to_proto(model))


def _clean(model: ir.Model) -> None:
    for graph_pass in (common.RemoveUnusedNodesPass(), common.TopologicalSortPass(), common.ShapeInferencePass()):
        graph_pass(model)


def _finished(model: ir.Model, contract: Contract, variant: str) -> onnx.ModelProto:
    """Return a valid model with names by position, without unused parts, whose metadata are contract and variant."""
    _clean(model)
    for graph_pass in (
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedOpsetsPass(),
        NameByPlace(),
        common.ClearMetadataAndDocStringPass(),
    ):
        graph_pass(model)
    model.producer_name, model.producer_version = "edge-unet", None
    model.graph.name = contract.name
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = contract.to_json()
    model.metadata_props[VARIANT_KEY] = variant
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as cause:
        raise ConvertError(f"model '{contract.name}' — the converted graph is not valid ONNX ({cause})") from cause
    return proto
