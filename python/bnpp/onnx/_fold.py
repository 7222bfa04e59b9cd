"""Folding all batch norms of a model, and what is done with those that stay."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from onnx import ModelProto, NodeProto, helper

from bnpp.onnx import _constants
from bnpp.onnx._batch_norm import BatchNorm, is_batch_norm, read
from bnpp.onnx._field import Field, Stays
from bnpp.onnx._files import check, load
from bnpp.onnx._graph import Graph, Model
from bnpp.onnx._proto import label
from bnpp.onnx._report import BatchNormEntry, LayerEntry, Report
from bnpp.onnx._sites import Site, Sites, one_rounding
from bnpp.onnx._verify import verify_fold
from bnpp.onnx._walk import Walk
from bnpp.onnx.layers import Layers
from bnpp.onnx.layers._layer import rounded

Padded: TypeAlias = Literal["refuse", "correct"]
Leftover: TypeAlias = Literal["keep", "mul_add"]


def fold(
    model: ModelProto | str | os.PathLike[str],
    *,
    verify: bool = True,
    padded: Padded = "refuse",
    leftover: Leftover = "keep",
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> tuple[ModelProto, Report]:
    """Fold the batch norms of an ONNX model into the layers beside them.

    In inference batch normalization is ``y = s * x + t`` for each channel, with
    ``s = scale / sqrt(var + epsilon)`` and ``t = B - mean * s`` (Ioffe & Szegedy 2015, Algorithm 2). Its
    neighbours ``Conv``, ``ConvTranspose``, ``Gemm`` and ``MatMul`` are linear too and take it in, through
    constants, reshapes, ``Concat``, pooling and activations where the result is the same function.
    All is computed in float64 from the original weights and rounded once.

    Parameters
    ----------
    model : onnx.ModelProto or path
        The model, opset 7 or later. It is not changed.
    verify : bool
        Whether to run both models on seeded inputs, in onnxruntime where it is installed and in ONNX's
        reference evaluator otherwise, and compare the outputs with the predicted bound.
    padded : {"refuse", "correct"}
        What to do with a batch norm ahead of a zero-padded convolution, where its shift is missing at the
        border: leave it, or add a constant of the size of one output that corrects the border.
    leftover : {"keep", "mul_add"}
        What to do with a batch norm that cannot be folded: leave it, or replace it by ``Mul`` and ``Add``.
    shapes : mapping of str to sequence of int, optional
        The shapes of inputs to verify with, where the model does not declare them.
    seed : int
        Of the inputs to verify with.

    Returns
    -------
    model : onnx.ModelProto
        The folded model, with the same inputs and outputs. Equal to the given one if nothing folds.
    report : Report
        A line for each batch norm, what each layer became, and the verification.

    Raises
    ------
    TypeError
        If `model` is neither a model nor a path.
    ValueError
        If it is not a valid model, has an opset before 7, or data in a file that was not read.
    VerificationError
        If the outputs differ by more than the bound, or the models cannot be run.

    Examples
    --------
    >>> import numpy as np, bnpp.onnx
    >>> from onnx import helper, numpy_helper
    >>> values = {"w": np.ones((2, 3, 1, 1)), "s": [1, 2], "b": [0, 1], "m": [3, 0], "v": [1, 4]}
    >>> model = helper.make_model(
    ...     helper.make_graph(
    ...         [
    ...             helper.make_node("Conv", ["x", "w"], ["z"], "conv"),
    ...             helper.make_node("BatchNormalization", ["z", "s", "b", "m", "v"], ["y"], "bn"),
    ...         ],
    ...         "example",
    ...         [helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
    ...         [helper.make_tensor_value_info("y", 1, ["N", 2, 8, 8])],
    ...         [numpy_helper.from_array(np.float32(v), n) for n, v in values.items()],
    ...     ),
    ...     opset_imports=[helper.make_opsetid("", 17)],
    ...     ir_version=8,
    ... )
    >>> folded, report = bnpp.onnx.fold(model)
    >>> [node.op_type for node in folded.graph.node]
    ['Conv']
    >>> report.batch_norms[0].where, report.verification.passed
    ("into Conv 'conv'", True)
    """
    if padded not in ("refuse", "correct"):
        raise ValueError(f"fold: padded is {padded!r}, but 'refuse' or 'correct' is needed")
    if leftover not in ("keep", "mul_add"):
        raise ValueError(f"fold: leftover is {leftover!r}, but 'keep' or 'mul_add' is needed")
    original, copy = _read(model)
    check(original, "fold: the model")
    state = Model(copy, padded)
    report = Report.of(copy)
    sites = _fold_all(state, report, leftover)
    state.write()
    report.count_after(copy)
    check(copy, "fold: the folded model")
    if verify:
        report.verification = verify_fold(original, copy, sites, shapes or {}, seed)
    return copy, report


def _read(model: ModelProto | str | os.PathLike[str]) -> tuple[ModelProto, ModelProto]:
    """Return the model and the copy that is worked on."""
    if isinstance(model, (str, os.PathLike)):
        model = load(Path(model))
    elif not isinstance(model, ModelProto):
        raise TypeError(
            f"fold: model is {type(model).__name__}, but a ModelProto or path is needed"
        )
    copy = ModelProto()
    copy.CopyFrom(model)
    return model, copy


def _fold_all(model: Model, report: Report, leftover: Leftover) -> Sites:
    layers = Layers()
    sites: Sites = {}
    for graph in model.graphs:
        waiting = [node for node in graph.nodes if is_batch_norm(node)]
        entries = {id(node): _entry(graph, node) for node in waiting}
        report.batch_norms += entries.values()
        progress = True
        # A batch norm that could not go anywhere may be able to once another one has gone.
        while progress:
            left = [n for n in waiting if not _fold_one(graph, layers, n, entries[id(n)])]
            progress, waiting = len(left) < len(waiting), left
        if leftover == "mul_add":
            for node in waiting:
                _replace(graph, layers, node, entries[id(node)], sites)
    for function in model.proto.functions:
        for node in filter(is_batch_norm, function.node):
            where = f"{function.domain}.{function.name}/"
            entry = BatchNormEntry(f"{where}{label(node)}", 0)
            entry.reasons = ["it is inside a function of the model, which may be called twice"]
            report.batch_norms.append(entry)
    for layer in layers.folded():
        folded = layer.folded
        assert folded is not None  # by folded()
        layer.write()
        sites[layer.graph.path, layer.output] = Site.of(layer)
        report.layers.append(LayerEntry.of(layer, folded))
    return sites


def _entry(graph: Graph, node: NodeProto) -> BatchNormEntry:
    scale = graph.constant(node.input[1])
    return BatchNormEntry(graph.path + label(node), 0 if scale is None else scale.size)


def _fold_one(graph: Graph, layers: Layers, node: NodeProto, entry: BatchNormEntry) -> bool:
    """Fold one batch norm, ahead if that is possible, or else behind. Tell whether it went."""
    try:
        bn, field = _field(graph, layers, node)
    except Stays as why:
        entry.reasons = [str(why)]
        return False
    entry.note(bn)
    reasons = []
    for direction in ("ahead", "behind"):
        walk = Walk(graph, layers, node)
        try:
            if direction == "ahead":
                walk.up(field)
            else:
                walk.down(field)
        except Stays as why:
            reasons.append(f"{direction}: {why}")
            continue
        entry.went(walk)
        walk.carry_out()
        return True
    entry.reasons = reasons
    return False


def _field(graph: Graph, layers: Layers, node: NodeProto) -> tuple[BatchNorm, Field]:
    """Return a batch norm, and its map with those that were merged into it."""
    bn = read(graph, node)
    field = bn.field(_rank(graph, node))
    merged = layers.of(node)
    if merged is not None and merged.folded is not None:
        field = field if merged.before is None else field.after(merged.before)
        field = field if merged.after is None else merged.after.after(field)
    return bn, field


def _rank(graph: Graph, node: NodeProto) -> int:
    for name in (node.input[0], node.output[0]):
        shape = graph.shape(name)
        if shape is not None:
            return len(shape)
    producer = graph.producers.get(node.input[0])
    if producer is not None and producer.op_type in ("Conv", "ConvTranspose"):
        weight = graph.constant(producer.input[1])
        if weight is not None:
            return weight.ndim
    raise Stays("the rank of its input is not known")


def _replace(
    graph: Graph, layers: Layers, node: NodeProto, entry: BatchNormEntry, sites: Sites
) -> None:
    """Replace a batch norm by ``Mul`` and ``Add``."""
    try:
        _, field = _field(graph, layers, node)
        dtype = _dtype(graph, node)
        scale = rounded(field.scale, dtype, "the scale")[0]
        shift = rounded(field.shift, dtype, "the shift")[0]
    except Stays as why:
        entry.reasons.append(str(why))
        return
    fresh = graph.model.fresh
    names = [graph.add_constant(a, fresh(f"{label(node)}_{k}")) for k, a in
             (("scale", scale), ("shift", shift))]  # fmt: skip
    inner = fresh(f"{label(node)}_scaled")
    mul = helper.make_node("Mul", [node.input[0], names[0]], [inner], fresh(f"{label(node)}_mul"))
    add = helper.make_node("Add", [inner, names[1]], [node.output[0]], fresh(f"{label(node)}_add"))
    graph.replace(node, [mul, add])
    layers.forget(node)
    errors = [one_rounding(part[0], dtype) for part in (field.scale, field.shift)]
    sites[graph.path, node.output[0]] = Site(
        node.input[0], np.abs(field.scale[0]), 1, errors[0], errors[1], field.size[0]
    )
    entry.replaced()


def _dtype(graph: Graph, node: NodeProto) -> np.dtype[np.generic]:
    kind = graph.element_type(node.input[0])
    if kind in _constants.UNITS:
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    scale = graph.constant(node.input[1])
    assert scale is not None  # the batch norm was read
    return scale.dtype
