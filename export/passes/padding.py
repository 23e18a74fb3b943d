"""Fold zero padding into the convolution behind it; ``ZeroPadding2D`` before a strided convolution leaves such a pair."""

from __future__ import annotations

import onnx_ir as ir

from export.graph import constant, only_consumer


class FoldPadding(ir.passes.InPlacePass):
    """Pass that folds each ``Pad`` of zero rows and columns of an NCHW map into the ``Conv`` that alone reads it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        folded = [_fold(node) for node in list(model.graph) if node.op_type == "Pad"]
        return ir.passes.PassResult(model, any(folded))


def _fold(pad: ir.Node) -> bool:
    conv, amounts = only_consumer(pad.outputs[0]), constant(pad.inputs[1])
    value = constant(pad.inputs[2]) if len(pad.inputs) > 2 else None
    if conv is None or conv.op_type != "Conv" or conv.inputs[0] is not pad.outputs[0]:
        return False
    if amounts is None or amounts.size != 8 or amounts.reshape(2, 4)[:, :2].any() or amounts.min() < 0:
        return False
    if pad.attributes.get_string("mode", "constant") != "constant" or (len(pad.inputs) > 2 and value is None):
        return False
    if (value is not None and value.any()) or conv.attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return False
    own = conv.attributes.get_ints("pads") or (0, 0, 0, 0)
    total = [int(a) + b for a, b in zip(amounts.reshape(2, 4)[:, 2:].reshape(-1), own, strict=True)]
    conv.attributes["pads"] = ir.AttrInt64s("pads", total)
    conv.attributes.pop("auto_pad", None)
    conv.replace_input_with(0, pad.inputs[0])
    return True
