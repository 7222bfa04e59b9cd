"""A model whose layers' outputs are moved about, to see how far its own outputs then move.

What a change of a layer's output does to the outputs depends on all that comes behind. Worst-case bounds
grow beyond any use within a few layers, so it is measured: every linear layer's output is changed by as
much as its `Site` says, in a random direction at each element and in one for each channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnpp.onnx._field import Stays
from bnpp.onnx._graph import Graph, Model
from bnpp.onnx._proto import standard
from bnpp.onnx._sites import Site, Sites
from bnpp.onnx.layers import LINEAR, Layers

#: Uniform numbers between these have the variance 1.
UNIFORM = 3.0**0.5


def disturbed(model: ModelProto, sites: Sites, seed: int) -> ModelProto:
    """Return the model with noise added to the outputs of its layers.

    Parameters
    ----------
    model : onnx.ModelProto
        The folded model; it is not changed.
    sites : dict
        The sites of its folded layers. Those of the other linear layers are found.
    seed : int
        Of the noise.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    state = Model(copy)
    rng = np.random.default_rng(seed)
    for graph in state.graphs:
        for (path, name), site in _all_sites(graph, sites).items():
            if path == graph.path and name in graph.producers:
                _disturb(graph, name, site, rng)
    state.write()
    return copy


def _all_sites(graph: Graph, sites: Sites) -> Sites:
    found: Sites = {}
    layers = Layers()
    for node in graph.nodes:
        if standard(node) not in LINEAR:
            continue
        try:
            layer = layers.beginning(graph, node, _data(graph, node), 2)
        except Stays:
            continue  # its weight is not constant: it has no site of its own
        if layer is not None:
            found[graph.path, layer.output] = Site.of(layer)
    return {**found, **{key: site for key, site in sites.items() if key[0] == graph.path}}


def _data(graph: Graph, node: NodeProto) -> int:
    return int(standard(node) == "MatMul" and graph.constant(node.input[1]) is None)


def _disturb(graph: Graph, name: str, site: Site, rng: np.random.Generator) -> None:
    """Put ``y + noise`` in the place of y."""
    kind = graph.element_type(name) or TensorProto.FLOAT
    wide = TensorProto.DOUBLE if kind == TensorProto.DOUBLE else TensorProto.FLOAT
    factors = site.factors(np.dtype(helper.tensor_dtype_to_np_dtype(kind)))
    fresh = graph.model.fresh
    producer = graph.producers[name]
    inner = fresh(f"{name}_quiet")
    producer.output[list(producer.output).index(name)] = inner
    nodes: list[NodeProto] = []

    def make(kind: str, *inputs: str, **attributes: Any) -> str:
        output = fresh(f"{name}_noise")
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(values: NDArray[np.float64]) -> str:
        tensor = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(wide)))
        return make("Constant", value=tensor)

    x, y = (make("Cast", value, to=wide) for value in (site.data, inner))
    magnitude = make("Abs", x)
    largest = make("ReduceMax", magnitude, keepdims=0)
    # Divided by the largest value before it is squared, which could leave the range otherwise.
    tiny = constant(np.asarray(np.finfo(np.float32).tiny))
    relative = make("Div", magnitude, make("Max", largest, tiny))
    mean_square = make("ReduceMean", make("Mul", relative, relative), keepdims=0)
    typical = make("Mul", make("Sqrt", mean_square), largest)
    size = make("Add", make("Mul", largest, constant(factors.largest)), constant(factors.one))
    size = make("Add", size, make("Mul", typical, constant(factors.typical)))
    size = make("Add", size, make("Mul", make("Abs", y), constant(np.asarray(factors.output))))
    channels = np.broadcast_shapes(factors.largest.shape, factors.one.shape)
    each = make(
        "RandomUniformLike",
        y,
        low=-UNIFORM,
        high=UNIFORM,
        dtype=wide,
        seed=float(rng.integers(10**6)),
    )
    sign = constant(rng.choice([-1.0, 1.0], channels))
    noisy = make("Add", y, make("Mul", size, make("Add", each, sign)))
    nodes.append(helper.make_node("Cast", [noisy], [name], to=kind))
    graph.insert_after(producer, nodes)
