"""The layers a batch norm can be folded into, one file a family."""

from __future__ import annotations

from onnx import NodeProto

from bnpp.onnx._field import Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import standard
from bnpp.onnx.layers._conv import Conv
from bnpp.onnx.layers._layer import Folded, Layer
from bnpp.onnx.layers._matrix import Gemm, MatMul
from bnpp.onnx.layers._merge import Merged

__all__ = ["Folded", "Layer", "Layers"]

LINEAR: dict[str, type[Conv | Gemm | MatMul]] = {
    "Conv": Conv,
    "ConvTranspose": Conv,
    "Gemm": Gemm,
    "MatMul": MatMul,
}


class Layers:
    """The layers that were met, each made once, so that it collects all that is folded into it."""

    def __init__(self) -> None:
        self._made: dict[int, Layer] = {}

    def ending(self, graph: Graph, node: NodeProto, rank: int) -> Layer | None:
        """Return the layer that a node is the last of, None if it is of none.

        Raises
        ------
        Stays
            If there is one, but nothing can be folded into it.
        """
        kind = standard(node)
        if kind == "Add":
            for name in node.input:
                product = graph.producers.get(name)
                if product is not None and standard(product) == "MatMul":
                    layer = self._make(graph, product, rank)
                    return layer if layer.output == node.output[0] else None
            return None
        if kind in LINEAR or kind == "BatchNormalization":
            return self._make(graph, node, rank)
        return None

    def beginning(self, graph: Graph, node: NodeProto, position: int, rank: int) -> Layer | None:
        """Return the layer that takes a value in as its data, None if the node is none.

        Raises
        ------
        Stays
            If there is one, but nothing can be folded into it.
        """
        kind = standard(node)
        if kind not in LINEAR and kind != "BatchNormalization":
            return None
        if kind != "MatMul" and position != 0:
            raise Stays(f"it is input {position} of {kind} {node.name!r}, not its data")
        return self._make(graph, node, rank)

    def of(self, node: NodeProto) -> Layer | None:
        """Return the layer of a node, if it was met as one."""
        return self._made.get(id(node))

    def folded(self) -> list[Layer]:
        """Return the layers that something was folded into."""
        return [layer for layer in self._made.values() if layer.folded is not None]

    def forget(self, node: NodeProto) -> None:
        """Forget a node that was taken out."""
        self._made.pop(id(node), None)

    def _make(self, graph: Graph, node: NodeProto, rank: int) -> Layer:
        if id(node) not in self._made:
            kind = standard(node)
            made = LINEAR[kind](graph, node) if kind in LINEAR else Merged(graph, node, rank)
            self._made[id(node)] = made
        return self._made[id(node)]
