"""Take pixels as OpenCV gives them: uint8 instead of float, BGR instead of RGB.

The channel order becomes a permutation of the first convolution's weights, so it costs nothing at run time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.errors import ConvertError
from export.graph import changes_layout, constant, initializer, input_of, only_consumer


class TakePixels(ir.passes.InPlacePass):
    """Pass that turns the input ``image`` into uint8 BGR (or grey), NHWC."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph.

        Raises:
            ConvertError: The graph does not begin with a convolution.
        """
        image = model.graph.inputs[0]
        value, node = image, only_consumer(image)
        while node is not None and changes_layout(node):
            value = node.outputs[0]
            value.dtype = ir.DataType.UINT8
            node = only_consumer(value)
        weight = constant(node.inputs[1]) if node is not None and node.op_type == "Conv" else None
        if node is None or weight is None:
            raise ConvertError(
                f"graph — '{image.name}' goes to {node.op_type if node else 'several nodes'} — expected a convolution "
                "with constant weights — is this one of our presets?"
            )
        image.dtype = ir.DataType.UINT8
        # After the transpose, because moving one byte per number is cheaper than moving four.
        cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)})
        model.graph.insert_before(node, cast)
        node.replace_input_with(0, cast.outputs[0])
        if weight.shape[1] == 3:
            reversed_weight = np.ascontiguousarray(weight[:, ::-1])
            node.replace_input_with(1, initializer(model.graph, f"{input_of(node, 1).name}_bgr", reversed_weight))
        return ir.passes.PassResult(model, modified=True)
