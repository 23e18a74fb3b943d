"""The passes in their order: from the graph that tf2onnx makes to the ones that ship."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from edge_runtime.model.contract import METADATA_KEY, Contract
from export.errors import ConvertError
from export.passes.batch_norm import FoldBatchNorm
from export.passes.class_map import AddClassMap
from export.passes.copies import UpsampleByCopies
from export.passes.joined_phases import JoinPhases
from export.passes.names import NameByLayer, NameByPlace
from export.passes.normalisation import FoldNormalisation
from export.passes.padding import FoldPadding
from export.passes.phases import SplitUpsampling
from export.passes.pixel_groups import GroupNarrow, GroupPixels
from export.passes.pixel_rows import ConcatenatePixelRows
from export.passes.pixels import TakePixels
from export.passes.quantize import Quantize, Range
from export.passes.upsampling import RestoreUpsampling

MINIMUM_SAVING = 100_000_000
"""Multiplications a frame below which computing in phases was no faster on the machine it was measured on."""
MINIMUM_SAVING_INT8 = 10_000_000
"""Likewise for 8-bit integers."""
_Step = tuple[str, ir.passes.InPlacePass]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A graph on its way: what was done last, and the model, which can be run and answers ``logits``."""

    name: str
    model: onnx.ModelProto


def optimise(
    raw: onnx.ModelProto, contract: Contract, layers: Iterable[str], *, without: Collection[str] = ()
) -> list[Stage]:
    """Turn the traced graph into the one that ships in float.

    Args:
        raw: From ``trace``.
        contract: What the model takes and gives; it goes into the metadata.
        layers: Names of the Keras model's convolution layers.
        without: Names of passes to leave out, of ``export.config.PASSES``.

    Returns:
        The graph after each pass, from the traced one to the last, which is finished.

    Raises:
        ConvertError: A pass cannot do its work.
    """
    steps = [*_common_steps(), ("phases", SplitUpsampling(MINIMUM_SAVING))]
    model = _named(raw, layers)
    stages = list(_run(model, steps, without))
    stages[-1] = Stage(name=stages[-1].name, model=_finished(model, contract))
    return stages


def integer_layout(raw: onnx.ModelProto, layers: Iterable[str], *, without: Collection[str] = ()) -> list[Stage]:
    """Turn the traced graph into one that is still in float, and laid out for integer arithmetic.

    Arguments as for ``optimise``.

    Returns:
        The graph after each pass that ``optimise`` has not; the last is for ``quantize``.
    """
    own: list[_Step] = [
        ("phases", JoinPhases(MINIMUM_SAVING_INT8)),
        ("copies", UpsampleByCopies()),
        ("pixel-groups", GroupPixels()),
        ("pixel-groups-1x1", GroupNarrow()),
    ]
    model = _named(raw, layers)
    *_, last = _run(model, _common_steps(), without)
    _, *stages = _run(model, own, without)
    return [replace(stage, name=f"INT8 layout: {stage.name}") for stage in stages] or [last]


def quantize(
    layout: onnx.ModelProto, contract: Contract, ranges: Mapping[str, Range], keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """Turn a graph from ``integer_layout`` into one that computes with 8-bit integers.

    Args:
        layout: Its last stage.
        contract: What the model takes and gives.
        ranges: Of every value that ``export.passes.quantize.measured_values`` names.
        keep_float: Keras layers to leave in float.
    """
    model = ir.from_proto(layout)
    common.ShapeInferencePass()(model)
    Quantize(ranges, keep_float)(model)
    return _finished(model, contract)


def _common_steps() -> list[_Step]:
    return [
        ("upsampling", RestoreUpsampling()),
        ("normalisation", FoldNormalisation()),
        ("pixels", TakePixels()),
        ("pixel-rows", ConcatenatePixelRows()),
        ("class map", AddClassMap()),
    ]


def _named(raw: onnx.ModelProto, layers: Iterable[str]) -> ir.Model:
    model = ir.from_proto(raw)
    # tf2onnx has folded most batch normalisation into the convolutions before it already.
    common.ShapeInferencePass()(model)
    FoldBatchNorm()(model)
    FoldPadding()(model)
    common.RemoveUnusedNodesPass()(model)
    NameByLayer(layers)(model)
    return model


def _run(model: ir.Model, steps: Iterable[_Step], without: Collection[str]) -> Iterator[Stage]:
    """Run passes over a model, and yield it as it is before the first and after each."""
    yield Stage(name="tf2onnx", model=ir.to_proto(model))
    for name, graph_pass in steps:
        if name not in without:
            graph_pass(model)
            _clean(model)
            yield Stage(name=name, model=ir.to_proto(model))


def _clean(model: ir.Model) -> None:
    for graph_pass in (common.RemoveUnusedNodesPass(), common.TopologicalSortPass(), common.ShapeInferencePass()):
        graph_pass(model)


def _finished(model: ir.Model, contract: Contract) -> onnx.ModelProto:
    """Return a model with names by place, nothing that is not needed, and the contract in its metadata."""
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
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as cause:
        raise ConvertError(f"model '{contract.name}' — the converted graph is not valid ONNX ({cause})") from cause
    return proto
