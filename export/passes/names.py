"""Name values after Keras layers or positions, so that equal weights give equal files, and find a layer by its name.

Without this, files would differ: tf2onnx numbers names over the whole process, and orders constants like a Python set.

A finished model has no metadata about layers, so its names tell which value belongs to which layer:

==========================  ==========================================================================
``<layer>``                 a convolution's result, (1, C, H, W)
``<layer>_relu``            the same after the ReLU behind it
``<value>_nchw``            a value that a last ``Transpose`` puts together, or whose name a graph output has
``<value>_phase_01``        the pixels of even rows and odd columns of a value, (1, C, H/2, W/2)
``<value>_row_0``           the first row of pixels within each position of a sub-pixel head
==========================  ==========================================================================
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from export.graph import LAYER, constant, derived_name, only_consumer

RELU, NCHW = "relu", "nchw"
Phase = tuple[int, int]
"""Parity of row and of column: (0, 0) holds the pixels of even row and even column."""
PHASES: tuple[Phase, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))


def phase_part(phase: Phase) -> str:
    """Return the name suffix of a phase."""
    return f"phase_{phase[0]}{phase[1]}"


def row_part(row: int) -> str:
    """Return the name suffix of a row of pixels within a position."""
    return f"row_{row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerValues:
    """Values of a graph that hold the result of a Keras layer.

    Attributes:
        names: Names of the values: one, or one per part.
        parts: Kind of parts: the whole result, phases in the order of ``PHASES``, or rows of pixels.
    """

    names: tuple[str, ...]
    parts: Literal["whole", "phases", "rows"]


def values_of_layer(layer: str, existing: Set[str], *, rectified: bool) -> LayerValues | None:
    """Find the result of a Keras layer among the values of a graph; None if a pass has dissolved it.

    Args:
        layer: Name of the convolution layer.
        existing: Names of the outputs of all nodes of the graph.
        rectified: Whether the result is taken after the ReLU behind the convolution.
    """
    result = derived_name(layer, RELU) if rectified else layer
    alike = (result, derived_name(result, NCHW))
    for name in alike:
        if name in existing:
            return LayerValues(names=(name,), parts="whole")
    for name in alike:
        phases = tuple(derived_name(name, phase_part(phase)) for phase in PHASES)
        if all(phase in existing for phase in phases):
            return LayerValues(names=phases, parts="phases")
    endless = (derived_name(result, row_part(row)) for row in itertools.count())
    rows = tuple(itertools.takewhile(existing.__contains__, endless))
    return LayerValues(names=rows, parts="rows") if rows else None


class NameByLayer(ir.passes.InPlacePass):
    """Pass that names convolutions and their ReLUs after their Keras layers, and other nodes after their position.

    A convolution is recognised by the name of its weights, which contains the layer's name, also after tf2onnx has
    folded batch normalisation into them. A depthwise convolution, whose weights tf2onnx rearranges, is recognised by
    the name of its output.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        """Prepare to look for the names of a model's convolution layers."""
        super().__init__()
        self._layers = frozenset(layers)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the names."""
        taken = {output.name for output in model.graph.outputs}
        for number, node in enumerate(model.graph):
            node.name = f"{node.op_type.lower()}_{number}"
        for node, layer in self._layers_of(model.graph).items():
            name = derived_name(layer, NCHW) if layer in taken else layer
            if name in taken:  # the layer is called several times
                name = f"{name}_{node.name}"
            taken.add(name)
            _call(node, name, layer)
            after = only_consumer(node.outputs[0])
            if after is not None and after.op_type == "Relu":
                _call(after, derived_name(name, RELU), layer)
        return ir.passes.PassResult(model, modified=True)

    def _layers_of(self, graph: ir.Graph) -> dict[ir.Node, str]:
        paths = {
            node: f"{node.inputs[1].name}/{node.outputs[0].name}".split("/")
            for node in graph
            if node.op_type in ("Conv", "ConvTranspose") and node.inputs[1] is not None
        }
        exact = {node: layer for node, path in paths.items() if (layer := self._first(path))}
        # Keras appends _1, _2, … to the name of a layer that is called again, as tracing does with all of them.
        again = {
            node: layer
            for node, path in paths.items()
            if (layer := self._first(re.sub(r"_\d+$", "", part) for part in path if re.search(r"_\d+$", part)))
        }
        return again if len(again) == len(paths) else {**again, **exact}

    def _first(self, names: Iterable[str]) -> str | None:
        return next((name for name in names if name in self._layers), None)


class NameByPlace(ir.passes.InPlacePass):
    """Pass that names all other values by their position, and puts the constants in the order of their first use.

    Inputs and outputs of the graph keep their names. The graph must be sorted and have no unused nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the names."""
        graph = model.graph
        arrays = {
            value: array
            for node in graph
            for value in node.inputs
            if value is not None and value.is_initializer() and (array := constant(value)) is not None
        }
        graph.initializers.clear()
        for number, (value, array) in enumerate(arrays.items()):
            # A new tensor, because renaming the one that was read would also rename it in its protobuf.
            value.const_value = ir.tensor(array)
            value.name = f"constant_{number}"
            graph.register_initializer(value)
        for number, node in enumerate(graph):
            if LAYER not in node.metadata_props:
                node.name = f"{node.op_type.lower()}_{number}"
            for place, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    value.name = f"{node.name}_{place}" if place or LAYER not in node.metadata_props else node.name
        return ir.passes.PassResult(model, modified=True)


def _call(node: ir.Node, name: str, layer: str) -> None:
    node.name = name
    node.metadata_props[LAYER] = layer
    if not node.outputs[0].is_graph_output():
        node.outputs[0].name = name
