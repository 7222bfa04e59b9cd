"""``Conv`` and ``ConvTranspose``, with groups, of one to three spatial dimensions."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

import bnpp
from bnpp.onnx._border import Window, border
from bnpp.onnx._field import Field, Float64, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import attribute
from bnpp.onnx.layers._layer import Exact, Layer

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


class Conv(Layer):
    """A convolution: weights (O, I/groups, k...), or (I, O/groups, k...) where transposed."""

    def __init__(self, graph: Graph, node: NodeProto) -> None:
        super().__init__(graph, node)
        self.transposed = node.op_type == "ConvTranspose"
        self.groups = int(attribute(node, "group", 1))
        self.spatial = self.weight.ndim - 2
        if self.spatial not in SPATIAL:
            raise Stays(f"{self} has {self.spatial} spatial dimensions, where 1 to 3 are needed")
        first, second = self.weight.shape[:2]
        self.inputs = first if self.transposed else second * self.groups
        self.outputs = second * self.groups if self.transposed else first
        self.bias = self.optional(node, 2, "bias")

    @property
    def rank(self) -> int:
        return self.weight.ndim

    def channels(self, weight: Float64) -> Float64:
        if not self.transposed:
            return weight.reshape(self.outputs, -1)
        grouped = weight.reshape(self.groups, self.inputs // self.groups, -1, self._taps())
        return np.moveaxis(grouped, 2, 1).reshape(self.outputs, -1)

    def bias_size(self) -> Float64:
        return self.unfold(np.zeros(self.outputs) if self.bias is None else np.abs(self.bias))

    def exact(self, before: Field, after: Field) -> Exact:
        bias = np.zeros(self.outputs) if self.bias is None else self.bias
        first = before.along(1, self.inputs)
        bordered = before.shifts() and not Window(self.node, self.weight.shape[2:]).uniform()
        if bordered and self.graph.model.padded == "refuse":
            raise Stays(_PADDED.format(self))
        # fold_conv adds no shift to a transposed convolution, which only an even one could take.
        apart = bordered or self.transposed
        folded = bnpp.fold_conv(
            self.weight,
            bias,
            before=bnpp.Affine(first.scale, 0 * first.shift) if apart else first,
            after=after.along(1, self.outputs),
            layout=("IO" if self.transposed else "OI") + SPATIAL[self.spatial],
            groups=self.groups,
            transposed=self.transposed,
        )
        total = np.asarray(folded.bias, np.float64).reshape(1, -1, *(1,) * self.spatial)
        reach, size = self._reach(before, bordered)
        if apart:
            total = total + after.scale * reach
        size = size + np.abs(self.unfold(bias))
        return Exact(
            np.asarray(folded.weight, np.float64), total, np.abs(after.scale) * size + after.size
        )

    def write(self) -> None:
        folded = self.folded
        assert folded is not None  # only folded layers are written
        graph, node = self.graph, self.node
        graph.set_constant(node, 1, folded.weight, f"{self.name}_weight")
        if folded.bias.size == self.outputs:
            if self.bias is not None or folded.bias.any():
                graph.set_constant(node, 2, folded.bias.ravel(), f"{self.name}_bias")
            return
        # One value for each position: the border differs from the inside.
        del node.input[2:]
        output, inner = node.output[0], graph.model.fresh(f"{self.name}_inner")
        node.output[0] = inner
        name = graph.add_constant(folded.bias, graph.model.fresh(f"{self.name}_border"))
        add = helper.make_node(
            "Add", [inner, name], [output], name=graph.model.fresh(f"{self.name}_add")
        )
        graph.insert_after(node, [add])

    def _taps(self) -> int:
        return int(np.prod(self.weight.shape[2:]))

    def _reach(self, before: Field, bordered: bool) -> tuple[Float64, Float64]:
        """Return what the shift ahead adds, at each position if these differ, and its size."""
        shift, size = (
            np.broadcast_to(part, (1, self.inputs, *part.shape[2:])).ravel()
            for part in (before.shift, before.size)
        )
        sums = self._sum(self.weight, shift), self._sum(np.abs(self.weight), size)
        if not bordered:
            evenly = [self.unfold(part.reshape(self.outputs, -1).sum(axis=1)) for part in sums]
            return evenly[0], evenly[1]
        shape = self.graph.shape(self.node.input[0])
        lengths = [n for n in (shape or ())[2:] if isinstance(n, int)]
        if len(lengths) != self.spatial:
            raise Stays(
                f"{self} pads with zeros, and the size of its input, which a correction of the border "
                "needs, is not known"
            )
        window = Window(self.node, self.weight.shape[2:])
        reach, reach_size = (border(part, window, lengths)[np.newaxis] for part in sums)
        return reach, reach_size

    def _sum(self, weight: Float64, values: Float64) -> Float64:
        """Sum weights times one value for each input channel: (O, k...)."""
        per = self.inputs // self.groups
        ones = (1,) * self.spatial
        if self.transposed:
            grouped = weight.reshape(self.groups, per, -1, *weight.shape[2:])
            products = grouped * values.reshape(self.groups, per, 1, *ones)
        else:
            grouped = weight.reshape(self.groups, -1, per, *weight.shape[2:])
            products = grouped * values.reshape(self.groups, 1, per, *ones)
        sums: Float64 = products.sum(axis=1 if self.transposed else 2)
        return sums.reshape(self.outputs, *weight.shape[2:])


_PADDED = (
    "{} does not reach as many inputs at the border as inside (zero padding), where the shift of the batch "
    'norm would be missing; padded="correct" (--padded correct) adds what is missing'
)
