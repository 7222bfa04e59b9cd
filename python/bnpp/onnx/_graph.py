"""One graph of a model as lists and indexes that can be changed, and the model that holds them.

The nodes are kept in a Python list and written back once, at the end and only if something changed: a
model in which nothing folds stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from bnpp.onnx import _constants, _shapes
from bnpp.onnx._proto import STANDARD, bodies, label, names_used, opset, standard
from bnpp.onnx._shapes import Shape


class Graph:
    """A graph: who makes a value, who uses it, what is constant, which shapes are known.

    Parameters
    ----------
    model : Model
        What it belongs to.
    proto, inferred : onnx.GraphProto
        The graph, and its copy with the shapes that were inferred.
    parent : Graph, optional
        The graph around it, for the body of an ``If``, ``Loop`` or ``Scan``.
    path : str
        Where it is, for messages; empty for the model's graph.
    """

    def __init__(
        self,
        model: Model,
        proto: GraphProto,
        inferred: GraphProto,
        parent: Graph | None = None,
        path: str = "",
    ) -> None:
        self.model, self.proto, self.parent, self.path = model, proto, parent, path
        self.nodes: list[NodeProto] = list(proto.node)
        self.inputs = [info.name for info in proto.input]
        self.outputs = [info.name for info in proto.output]
        self.initializers = {t.name: t for t in proto.initializer}
        self.children: list[Graph] = []
        self.changed = False
        self._shapes, self._types = _shapes.shapes(inferred), _shapes.types(inferred)
        self._values: dict[str, NDArray[Any] | None] = {}
        self.fresh: dict[str, NDArray[Any]] = {}
        for node, twin in zip(self.nodes, inferred.node, strict=True):
            for (name, body), (_, inner) in zip(bodies(node), bodies(twin), strict=True):
                where = f"{path}{label(node)}/{name}/"
                self.children.append(Graph(model, body, inner, self, where))
        self.index()

    def index(self) -> None:
        """Find producers and consumers again, after nodes were changed."""
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[tuple[NodeProto, int]]] = {}
        self.captured: set[str] = set()
        for node in self.nodes:
            for position, name in enumerate(node.input):
                if name:
                    self.consumers.setdefault(name, []).append((node, position))
            for _, body in bodies(node):
                self.captured |= set(names_used(body))

    def own(self, name: str) -> bool:
        """Tell whether a value is made in this graph rather than around it."""
        return (
            name in self.producers
            or name in self.initializers
            or name in self.inputs
            or name in self.fresh
        )

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value if it is known before the model runs, else None."""
        if not self.own(name):
            return self.parent.constant(name) if self.parent else None
        if name not in self._values:
            self._values[name] = self._constant(name)
        return self._values[name]

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a value as far as it is known."""
        if name in self._shapes:
            return self._shapes[name]
        if self.own(name):
            value = self._values.get(name)
            return None if value is None else value.shape
        return self.parent.shape(name) if self.parent else None

    def element_type(self, name: str) -> int:
        """Return the type of a value's elements as `onnx.TensorProto` numbers them, 0 if unknown."""
        if name in self._types or self.parent is None:
            return self._types.get(name, 0)
        return self.parent.element_type(name)

    def only_use(self, name: str) -> str | None:
        """Return why a value has another use than one node's input, None if it has not."""
        if name in self.outputs:
            return f"{name!r} is also an output of the graph"
        if name in self.captured:
            return f"{name!r} is also used inside a subgraph"
        uses = len(self.consumers.get(name, []))
        return f"{name!r} has {uses} consumers" if uses > 1 else None

    def set_constant(self, node: NodeProto, position: int, array: NDArray[Any], hint: str) -> None:
        """Make an array the constant input of a node.

        The old constant keeps its name with the new value if nothing else uses it; otherwise it stays as
        it is, for the others, and the new one gets a name made of `hint`.
        """
        old = node.input[position] if position < len(node.input) else ""
        name = old if old and self._replaceable(old) else self.model.fresh(hint)
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = self.add_constant(array, name)
        self.index()

    def add_constant(self, array: NDArray[Any], name: str) -> str:
        """Add a constant under a name that is free, or replace the one that has it."""
        if name in self.initializers:
            del self.initializers[name]
        elif name in self.producers:
            self._remove(self.producers[name])
        self._values[name], self._shapes[name] = array, array.shape
        self.fresh[name] = array
        self.model.replaced.add(name)
        self.changed = True
        return name

    def bypass(self, node: NodeProto, value: str, *, keep: str) -> None:
        """Take a node out: its output and its input `value` become one, under the name `keep`."""
        output = node.output[0]
        self._remove(node)
        if keep == output:
            producer = self.producers[value]
            producer.output[list(producer.output).index(value)] = output
        else:
            for consumer, position in self.consumers.get(output, []):
                consumer.input[position] = value
        self.index()

    def insert_after(self, node: NodeProto, new: list[NodeProto]) -> None:
        """Put nodes behind a node."""
        place = next(i for i, other in enumerate(self.nodes) if other is node) + 1
        self.nodes[place:place] = new
        self.changed = True
        self.index()

    def replace(self, node: NodeProto, new: list[NodeProto]) -> None:
        """Put nodes in the place of a node."""
        self.insert_after(node, new)
        self._remove(node)
        self.index()

    def remove_unused(self, used: set[str], before: set[str]) -> bool:
        """Remove constants that are not used any more, but were before. Tell whether there were any."""
        names = [n for n in (*self.initializers, *self.fresh) if n not in used and n not in before]
        for name in names:
            self.initializers.pop(name, None)
            self.fresh.pop(name, None)
        nodes = [
            node
            for node in self.nodes
            if is_constant(node) and not used.intersection(node.output)
            if not before.intersection(node.output)
        ]
        for node in nodes:
            self._remove(node)
        if names or nodes:
            self.changed = True
            self.index()
        return bool(names or nodes)

    def write(self) -> None:
        """Write the nodes and constants back, if anything changed."""
        for child in self.children:
            child.write()
        if not self.changed:
            return
        tensors = [t for t in self.proto.initializer if t.name in self.initializers]
        fresh = [numpy_helper.from_array(array, name) for name, array in self.fresh.items()]
        constants = []
        # In IR 3 an initializer would have to be an input too, which the user would see; and the body of
        # an If has no inputs at all.
        if self.model.proto.ir_version < 4:
            constants = [helper.make_node("Constant", [], [t.name], value=t) for t in fresh]
        else:
            tensors += fresh
        _assign(self.proto.initializer, tensors)
        _assign(self.proto.node, constants + self.nodes)
        alive = {n for node in self.nodes for n in node.output} | {t.name for t in tensors}
        _assign(self.proto.value_info, [v for v in self.proto.value_info if v.name in alive])

    def _constant(self, name: str) -> NDArray[Any] | None:
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producers.get(name)
        if node is None or node.domain not in STANDARD:
            return None
        if node.op_type == "Constant":
            return _constants.of_node(node)
        if node.op_type not in _constants.REARRANGE:
            return None
        inputs = [self.constant(i) for i in node.input]
        values = [value for value in inputs if value is not None]
        if not values or len(values) != len(inputs):
            return None
        return _constants.rearranged(node, values, self.model.opset)

    def _replaceable(self, name: str) -> bool:
        if self.only_use(name):
            return False
        node = self.producers.get(name)
        return name in self.initializers or (node is not None and node.op_type == "Constant")

    def _remove(self, node: NodeProto) -> None:
        self.nodes = [other for other in self.nodes if other is not node]
        self.changed = True


class Model:
    """A model and all its graphs, outer ones first.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model, which `write` changes.
    padded : {"refuse", "correct"}
        What to do with a batch norm ahead of a zero-padded convolution.

    Raises
    ------
    ValueError
        If it does not use the standard's operators from opset 7 on.
    """

    def __init__(self, proto: ModelProto, padded: str = "refuse") -> None:
        self.proto, self.padded = proto, padded
        self.opset = opset(proto)
        self.replaced: set[str] = set()
        self.graph = Graph(self, proto.graph, _shapes.infer(proto))
        self.graphs = list(_walk(self.graph))
        self._names = set(names_used(proto.graph)) | {n for g in self.graphs for n in g.inputs}
        self._names |= {n for g in self.graphs for n in (*g.initializers, *g.producers)}
        self._unused = self._constants() - self._used()

    def fresh(self, hint: str) -> str:
        """Return a name that no value of the model has."""
        name, count = hint, 1
        while name in self._names:
            name, count = f"{hint}_{count}", count + 1
        self._names.add(name)
        return name

    def write(self) -> None:
        """Write all changes into the model, without the constants that nothing uses any more.

        An initializer that is also an input could be overridden by the user. One whose value was folded
        cannot, so that the input goes; so does that of an initializer that has gone.
        """
        if not any(graph.changed for graph in self.graphs):
            return
        defaults = set(self.graph.initializers) | {t.name for t in self.proto.graph.initializer}
        while any(g.remove_unused(self._used(), self._unused) for g in self.graphs):
            pass
        stale = (defaults - set(self.graph.initializers)) | (self.replaced & defaults)
        self.graph.write()
        inputs = [info for info in self.proto.graph.input if info.name not in stale]
        _assign(self.proto.graph.input, inputs)

    def _used(self) -> set[str]:
        used = {name for g in self.graphs for node in g.nodes for name in node.input}
        return used | {name for g in self.graphs for name in g.outputs}

    def _constants(self) -> set[str]:
        found = {name for g in self.graphs for name in g.initializers}
        return found | {n for g in self.graphs for m in g.nodes if is_constant(m) for n in m.output}


def is_constant(node: NodeProto) -> bool:
    """Tell whether a node only holds a constant, or rearranges some."""
    return standard(node) == "Constant" or standard(node) in _constants.REARRANGE


def _walk(graph: Graph) -> Iterator[Graph]:
    yield graph
    for child in graph.children:
        yield from _walk(child)


def _assign(field: Any, values: list[Any]) -> None:
    # The values are often elements of the field itself, which stay alive outside it.
    del field[:]
    field.extend(values)
