"""A batch norm as the layer that another one is merged into: its map becomes that of both."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from bnpp.onnx._batch_norm import read
from bnpp.onnx._field import Field, Float64
from bnpp.onnx._graph import Graph
from bnpp.onnx.layers._layer import Exact, Layer


class Merged(Layer):
    """A ``BatchNormalization`` node; its "weight" is the scale of its map."""

    weight_name = "scale"

    def __init__(self, graph: Graph, node: NodeProto, rank: int) -> None:
        super().__init__(graph, node)
        self.own = read(graph, node)
        self._rank = rank
        self.weight = self.own.scale

    @property
    def rank(self) -> int:
        return self._rank

    def channels(self, weight: Float64) -> Float64:
        return weight.reshape(-1, 1)

    def exact(self, before: Field, after: Field) -> Exact:
        whole = after.after(self.own.field(self.rank)).after(before)
        affine = whole.along(1, self.own.channels)
        return Exact(np.array(affine.scale), self.unfold(np.array(affine.shift)), whole.size)

    def write(self) -> None:
        folded = self.folded
        assert folded is not None  # only folded layers are written
        bias = folded.bias.ravel()
        one = np.ones_like(bias)
        for position, array in enumerate((folded.weight, bias, 0 * one, one), start=1):
            self.graph.set_constant(self.node, position, array, f"{self.name}_{position}")
        # Mean 0, variance 1 and epsilon 0 make scale and B the map itself.
        kept = [a for a in self.node.attribute if a.name != "epsilon"]
        del self.node.attribute[:]
        self.node.attribute.extend([*kept, helper.make_attribute("epsilon", 0.0)])
