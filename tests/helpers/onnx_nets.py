"""Small ONNX models for the tests of folding, built in a line or two, and their evaluation."""

import contextlib

import numpy as np
import onnx
from bnpp.onnx import _run
from onnx import TensorProto, helper, numpy_helper

#: How weights are kept: as initializers, as Constant nodes, as initializers that are also inputs.
STYLES = ("initializer", "constant", "input")


class Net:
    """A graph that grows by calls; arrays among the inputs of a node become constants."""

    def __init__(self, *shape, opset=17, dtype="f8", style="initializer", ir=8, seed=0):
        self.opset, self.dtype, self.style, self.ir = opset, np.dtype(dtype), style, ir
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers, self.inputs, self.count = [], [], [], 0
        self.kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.input("x", *shape)
        self.x = "x"

    def input(self, name, *shape, kind=None):
        self.inputs.append(helper.make_tensor_value_info(name, kind or self.kind, shape))
        return name

    def name(self, hint):
        self.count += 1
        return f"{hint}{self.count}"

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def const(self, array, name=None):
        array = np.asarray(array)
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        name = name or self.name("c")
        tensor = numpy_helper.from_array(array, name)
        if self.style == "constant":
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            return name
        self.initializers.append(tensor)
        if self.style == "input" or self.ir < 4:
            self.inputs.append(helper.make_tensor_value_info(name, tensor.data_type, array.shape))
        return name

    def node(self, kind, *inputs, outputs=None, name=None, **attributes):
        names = [i if isinstance(i, str) else self.const(i) for i in inputs]
        name = name or self.name(kind.lower())
        outputs = outputs or [f"{name}_y"]
        self.nodes.append(helper.make_node(kind, names, outputs, name, **attributes))
        return outputs[0]

    def bn(self, x, channels, gamma=None, beta=None, mean=None, var=None, **more):
        given = (gamma, beta, mean, var)
        made = self.normal(channels), self.normal(channels), self.normal(channels), 0
        parameters = [m if g is None else g for g, m in zip(given, made, strict=True)]
        if var is None:
            parameters[3] = self.rng.uniform(0.3, 3, channels).astype(self.dtype)
        return self.node("BatchNormalization", x, *parameters, **more)

    def conv(self, x, inputs, outputs, *kernel, group=1, bias=True, transposed=False, **more):
        kernel = kernel or (3, 3)
        shape = (inputs, outputs // group) if transposed else (outputs, inputs // group)
        parts = [self.normal(*shape, *kernel)] + ([self.normal(outputs)] if bias else [])
        kind = "ConvTranspose" if transposed else "Conv"
        return self.node(kind, x, *parts, group=group, **more)

    def proto(self, *outputs):
        infos = []
        for output in outputs:
            info = onnx.ValueInfoProto(name=output)
            info.type.tensor_type.elem_type = self.kind
            infos.append(info)
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.initializers)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir
        )
        # The checker wants the shapes of outputs.
        with contextlib.suppress(onnx.shape_inference.InferenceError):
            inferred = onnx.shape_inference.infer_shapes(made)
            for mine, found in zip(made.graph.output, inferred.graph.output, strict=True):
                mine.type.CopyFrom(found.type)
        for info in made.graph.output:
            if not info.type.tensor_type.HasField("shape"):
                for symbol in "abcd":
                    info.type.tensor_type.shape.dim.add().dim_param = symbol
        return made


def feeds(model, seed=0, batch=2):
    """Normal values for the inputs without defaults."""
    rng = np.random.default_rng(seed)
    defaults = {t.name for t in model.graph.initializer}
    made = {}
    for info in model.graph.input:
        if info.name in defaults:
            continue
        shape = [d.dim_value or batch for d in info.type.tensor_type.shape.dim]
        kind = info.type.tensor_type.elem_type
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        made[info.name] = (
            rng.integers(0, 2, shape).astype(dtype)
            if kind in (TensorProto.BOOL, TensorProto.INT64)
            else rng.standard_normal(shape).astype(dtype)
        )
    return made


def run(model, given=None, runtime="onnx.reference"):
    """The outputs of a model, by name."""
    with _run.runner(model, runtime) as runner:
        return runner(given or feeds(model))


def operators(model):
    """The operators of a model in order, constants left out."""
    return [node.op_type for node in model.graph.node if node.op_type != "Constant"]


def assert_same(before, after, tolerance=1e-12, seeds=2):
    """Both models give the same float64 outputs, up to the rounding of their values' own terms."""
    onnx.checker.check_model(after, full_check=True)
    for attribute in ("input", "output"):
        names = [[i.name for i in getattr(m.graph, attribute)] for m in (before, after)]
        defaults = {t.name for t in before.graph.initializer}
        assert [n for n in names[0] if n not in defaults] == [
            n for n in names[1] if n not in defaults
        ]
    for seed in range(seeds):
        given = feeds(before, seed)
        expected, found = run(before, given), run(after, given)
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            scale = max(1.0, float(np.abs(values).max(initial=0)))
            np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance * scale)
