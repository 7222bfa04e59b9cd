"""``Gemm`` and ``MatMul``: a constant matrix of any rank from 2 on, on either side.

Both are written as Y = X @ W, with the two last axes turned where the constant stands on the left.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from bnpp.onnx._field import Field, Float64, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import attribute, standard
from bnpp.onnx.layers._layer import Exact, Layer
from bnpp.onnx.rules._constant import constant_side


def turned(array: Float64) -> Float64:
    """Turn the two last axes."""
    return array.swapaxes(-1, -2)


def fold_matrix(weight: Float64, before: Field, after: Field) -> Exact:
    """Fold maps around ``X @ weight``, with weight (..., K, N).

    Raises
    ------
    Stays
        If a scale belongs to the rows of X or to a batch axis that the weight does not have.
    """
    for field in (before, after):
        if field.scale.shape[-2] != 1:
            raise Stays("it would scale the rows of the product, which the weight does not hold")
        for axis in range(field.rank - 2):
            length, own = field.scale.shape[axis], axis - field.rank + weight.ndim
            if length != 1 and (own < 0 or weight.shape[own] != length):
                raise Stays(f"it would act along axis {axis}, along which the weight is the same")
    if before.shift.shape[-2] != 1:
        raise Stays("it would shift the rows of the product, which the weight does not hold")
    scale, shift, size = (
        turned(_batched(part, weight.ndim)) for part in (before.scale, before.shift, before.size)
    )
    out = _batched(after.scale, weight.ndim)
    folded = weight * scale * out
    rank = after.rank
    added = _ranked((weight * shift).sum(axis=-2, keepdims=True), rank)
    added_size = _ranked((np.abs(weight) * size).sum(axis=-2, keepdims=True), rank)
    return Exact(
        folded,
        after.scale * added + after.shift,
        np.abs(after.scale) * added_size + after.size,
    )


def _batched(part: Float64, rank: int) -> Float64:
    """Drop leading axes of length 1 beyond a rank; those of another length stay for broadcasting."""
    while part.ndim > rank and part.shape[0] == 1:
        part = part[0]
    return part


def _ranked(part: Float64, rank: int) -> Float64:
    return part.reshape((1,) * (rank - part.ndim) + part.shape)


class Gemm(Layer):
    """``alpha * A' @ B' + beta * C``, where A' and B' may be turned."""

    def __init__(self, graph: Graph, node: NodeProto) -> None:
        super().__init__(graph, node)
        self.turn_input = bool(attribute(node, "transA", 0))
        self.turn_weight = bool(attribute(node, "transB", 0))
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        bias = self.optional(node, 2, "C")
        self.has_bias = bias is not None
        shift = np.zeros((1, 1)) if bias is None else beta * _ranked(bias, 2)
        self.own = Field.of(np.full((1, 1), alpha), shift)

    @property
    def rank(self) -> int:
        return 2

    def channels(self, weight: Float64) -> Float64:
        return weight if self.turn_weight else weight.T

    def bias_size(self) -> Float64:
        return self.own.size

    def exact(self, before: Field, after: Field) -> Exact:
        before = before.each(turned) if self.turn_input else before
        weight = self.weight.T if self.turn_weight else self.weight
        exact = fold_matrix(weight, before, after.after(self.own))
        folded = exact.weight.T if self.turn_weight else exact.weight
        return Exact(folded, exact.bias, exact.size)

    def write(self) -> None:
        folded = self.folded
        assert folded is not None  # only folded layers are written
        # Both factors are in the weights now.
        kept = [a for a in self.node.attribute if a.name not in ("alpha", "beta")]
        del self.node.attribute[:]
        self.node.attribute.extend(kept)
        self.graph.set_constant(self.node, 1, folded.weight, f"{self.name}_weight")
        if self.has_bias or folded.bias.any():
            bias = folded.bias[0] if folded.bias.shape[0] == 1 else folded.bias
            if bias.shape == (1,):
                bias = np.broadcast_to(bias, self.channels(self.weight).shape[:1]).copy()
            self.graph.set_constant(self.node, 2, bias, f"{self.name}_bias")


class MatMul(Layer):
    """A product with a constant, and the ``Add`` of a constant behind it if there is one."""

    def __init__(self, graph: Graph, node: NodeProto) -> None:
        self.left = graph.constant(node.input[1]) is None
        super().__init__(graph, node, 0 if self.left else 1)
        if self.weight.ndim < 2:
            raise Stays(f"{self} multiplies by a vector")
        shape = graph.shape(self.data)
        if shape is None or len(shape) < 2:
            what = "an unknown rank" if shape is None else "1 dimension"
            raise Stays(f"the input of {self} has {what}, where at least 2 dimensions are needed")
        self.input_rank = len(shape)
        self.add, self.add_position = self._bias_node()
        added = None if self.add is None else self.optional(self.add, self.add_position, "bias")
        zero = np.zeros((1,) * self.rank)
        self.own = Field.of(zero + 1, zero if added is None else _ranked(added, self.rank))

    @property
    def data(self) -> str:
        return str(self.node.input[1 if self.left else 0])

    @property
    def rank(self) -> int:
        return max(self.input_rank, self.weight.ndim)

    @property
    def output(self) -> str:
        return str((self.node if self.add is None else self.add).output[0])

    def channels(self, weight: Float64) -> Float64:
        weight = weight if self.left else turned(weight)
        return weight.reshape(-1, weight.shape[-1])

    def unfold(self, vector: Float64) -> Float64:
        shape = list(self.weight.shape)
        shape[-1 if self.left else -2] = 1
        return _ranked(vector.reshape(shape), self.rank)

    def bias_size(self) -> Float64:
        return self.own.size

    def exact(self, before: Field, after: Field) -> Exact:
        if before.rank < self.rank:
            before = before.each(lambda part: _ranked(part, self.rank))
        after = after.after(self.own)
        if not self.left:
            return fold_matrix(self.weight, before, after)
        exact = fold_matrix(turned(self.weight), before.each(turned), after.each(turned))
        return Exact(turned(exact.weight), turned(exact.bias), turned(exact.size))

    def write(self) -> None:
        folded = self.folded
        assert folded is not None  # only folded layers are written
        graph, node = self.graph, self.node
        graph.set_constant(node, self.position, folded.weight, f"{self.name}_weight")
        bias = folded.bias
        while bias.ndim > 1 and bias.shape[0] == 1:
            bias = bias[0]
        if self.add is not None:
            graph.set_constant(self.add, self.add_position, bias, f"{self.name}_bias")
        elif bias.any():
            output, inner = node.output[0], graph.model.fresh(f"{self.name}_inner")
            node.output[0] = inner
            name = graph.add_constant(bias, graph.model.fresh(f"{self.name}_bias"))
            title = graph.model.fresh(f"{self.name}_add")
            graph.insert_after(node, [helper.make_node("Add", [inner, name], [output], name=title)])

    def _bias_node(self) -> tuple[NodeProto | None, int]:
        output = self.node.output[0]
        uses = self.graph.consumers.get(output, [])
        if self.graph.only_use(output) or not uses or standard(uses[0][0]) != "Add":
            return None, 0
        add, position = uses[0]
        try:
            # Refuses a constant that is larger than the product.
            constant_side(self.graph, add, position)
        except Stays:
            return None, 0
        return add, 1 - position
