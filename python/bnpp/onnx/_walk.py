"""Moving a batch norm's map through a graph, up or down, until layers take it in.

Nothing is changed on the way: a walk collects what would have to be done, and raises `Stays` where it
cannot go on. Only a walk that reached layers on all its branches is carried out.
"""

from __future__ import annotations

from onnx import NodeProto

from bnpp.onnx import rules
from bnpp.onnx._field import Field, Stays
from bnpp.onnx._graph import Graph
from bnpp.onnx._proto import label
from bnpp.onnx.layers import Folded, Layer, Layers


class Walk:
    """One walk from one batch norm.

    Parameters
    ----------
    graph : Graph
        The graph the batch norm is in; a walk never leaves it.
    layers : Layers
        The layers met so far.
    node : onnx.NodeProto
        The batch norm, whose node the walk takes out in the end.
    """

    def __init__(self, graph: Graph, layers: Layers, node: NodeProto) -> None:
        self.graph, self.layers, self.node = graph, layers, node
        self.side = ""
        self.reached: list[Layer] = []
        self.through: list[NodeProto] = []
        self._tried: list[tuple[Field | None, Field | None, Folded]] = []
        self._absorbed: list[NodeProto] = []
        self._seen: set[int] = set()

    def up(self, field: Field) -> None:
        """Move the map to the layers ahead.

        Raises
        ------
        Stays
            If one of the branches does not end in a layer that takes it.
        """
        self.side = "after"
        self._up(self.node.input[0], field)

    def down(self, field: Field) -> None:
        """Move the map to the layers behind.

        Raises
        ------
        Stays
            If one of the branches does not end in a layer that takes it.
        """
        self.side = "before"
        self._down(self.node.output[0], field)

    def carry_out(self) -> None:
        """Give the layers their maps, and take out the batch norm and what was absorbed."""
        for layer, tried in zip(self.reached, self._tried, strict=True):
            layer.commit(tried)
        for node in (self.node, *self._absorbed):
            data = 0
            if node is not self.node:
                data = next(k for k, n in enumerate(node.input) if self.graph.constant(n) is None)
            value = node.input[data]
            keep = node.output[0] if self.side == "after" else value
            self.graph.bypass(node, value, keep=keep)
        self.layers.forget(self.node)

    def _up(self, value: str, field: Field) -> None:
        node = self.graph.producers.get(value)
        if node is None:
            raise Stays(f"{self._origin(value)}, no layer")
        other = self.graph.only_use(value)
        if other:
            raise Stays(other)
        layer = self.layers.ending(self.graph, node, field.rank)
        if layer is not None:
            self._take(layer, field)
            return
        inputs = rules.up(self.graph, node, field)
        self._pass(node)
        for name, moved in inputs:
            self._up(name, moved)

    def _down(self, value: str, field: Field) -> None:
        if value in self.graph.outputs:
            raise Stays(f"{value!r} is an output of the graph")
        if value in self.graph.captured:
            raise Stays(f"{value!r} is used inside a subgraph")
        consumers = self.graph.consumers.get(value, [])
        if not consumers:
            raise Stays(f"nothing uses {value!r}")
        for node, position in consumers:
            layer = self.layers.beginning(self.graph, node, position, field.rank)
            if layer is not None:
                self._take(layer, field)
                continue
            moved = rules.down(self.graph, node, position, field)
            self._pass(node)
            self._down(node.output[0], moved)

    def _take(self, layer: Layer, field: Field) -> None:
        self._once(layer.node)
        self._tried.append(layer.try_fold(self.side, field))
        self.reached.append(layer)

    def _pass(self, node: NodeProto) -> None:
        self._once(node)
        self.through.append(node)
        if rules.absorbs(node):
            self._absorbed.append(node)

    def _once(self, node: NodeProto) -> None:
        if id(node) in self._seen:
            raise Stays(f"it reaches {node.op_type} {label(node)!r} on two ways")
        self._seen.add(id(node))

    def _origin(self, value: str) -> str:
        if value in self.graph.inputs:
            return f"{value!r} is an input of the graph"
        if self.graph.own(value):
            return f"{value!r} is a constant"
        return f"{value!r} comes from outside the subgraph"
