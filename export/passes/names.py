"""Names that tell the layer in Keras or the place in the graph, so that the same weights always give the same file.

tf2onnx numbers its names through the life of a process, and keeps constants in whatever order a set had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx_ir as ir

from export.graph import LAYER, constant, only_consumer


class NameByLayer(ir.passes.InPlacePass):
    """Name convolutions and the ReLUs behind them as their layers in Keras; the rest by their place.

    A convolution is known by its weights, whose name holds the layer's even where tf2onnx has folded a normalisation into
    them; a depthwise one, whose weights it has rearranged, by its output.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        """Prepare for the names of a model's convolution layers."""
        super().__init__()
        self._layers = frozenset(layers)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the names."""
        taken = {output.name for output in model.graph.outputs}
        for number, node in enumerate(model.graph):
            node.name = f"{node.op_type.lower()}_{number}"
        for node, layer in self._layers_of(model.graph).items():
            name = f"{layer}_nchw" if layer in taken else layer
            if name in taken:  # a layer that is called several times
                name = f"{name}_{node.name}"
            taken.add(name)
            _call(node, name, layer)
            after = only_consumer(node.outputs[0])
            if after is not None and after.op_type == "Relu":
                _call(after, f"{name}_relu", layer)
        return ir.passes.PassResult(model, modified=True)

    def _layers_of(self, graph: ir.Graph) -> dict[ir.Node, str]:
        paths = {
            node: f"{node.inputs[1].name}/{node.outputs[0].name}".split("/")
            for node in graph
            if node.op_type == "Conv" and node.inputs[1] is not None
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
    """Name what is not named after a layer by its place, and put the constants in the order of their first use.

    Inputs and outputs of the graph keep their names. Expects a graph that is sorted and holds nothing unused.
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
            # A tensor of its own: renaming the one that was read would rename it in the protobuf it came from.
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
