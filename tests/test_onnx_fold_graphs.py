"""What real graphs hold: ways to keep weights, opsets, dtypes, subgraphs, shared and odd values."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
import onnx
from helpers.onnx_nets import STYLES, Net, assert_same, feeds, operators, run
from onnx import TensorProto, helper, numpy_helper

IMAGE = ("N", 4, 7, 6)
OPSETS = range(7, onnx.defs.onnx_opset_version() + 1)


def chain(**more):
    """Conv, batch norm, ReLU, a grouped conv, batch norm: both have weights of both kinds."""
    net = Net(*IMAGE, **more)
    y = net.node("Relu", net.bn(net.conv(net.x, 4, 6), 6))
    return net.proto(net.bn(net.conv(y, 6, 4, group=2, bias=False), 4))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ir", [3, 8])
def test_weights_are_kept_in_any_way(style, ir):
    before = chain(style=style, ir=ir)
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert operators(after) == ["Conv", "Relu", "Conv"]
    assert_same(before, after)
    assert after.ir_version == ir
    # No initializer that was folded can be overridden any more, and none is left over.
    assert [i.name for i in after.graph.input] == ["x"]
    constants = len(after.graph.initializer) + sum(
        node.op_type == "Constant" for node in after.graph.node
    )
    assert constants == 4
    again, _ = bnpp.onnx.fold(after, verify=False)
    assert again.SerializeToString() == after.SerializeToString()


def test_an_input_that_is_no_weight_of_a_fold_keeps_its_default():
    net = Net(*IMAGE, style="input")
    y = net.node("Mul", net.bn(net.conv(net.x, 4, 6), 6), net.const(net.normal(6, 1, 1), "factor"))
    after, _ = bnpp.onnx.fold(net.proto(net.node("Sigmoid", y)), verify=False)
    assert [i.name for i in after.graph.input] == ["x", "factor"]


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(opset):
    before = chain(opset=opset)
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert operators(after) == ["Conv", "Relu", "Conv"]
    assert_same(before, after)
    before = chain(opset=opset, dtype="f4")
    _, report = bnpp.onnx.fold(before)
    assert report.verification.passed


def test_opset_6_is_refused():
    before = chain()
    before.opset_import[0].version = 6
    with pytest.raises(ValueError, match=r"opset 6, but 7 or later is needed|not valid ONNX"):
        bnpp.onnx.fold(before)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_dtypes(dtype):
    before = chain(dtype=dtype)
    after, report = bnpp.onnx.fold(before)
    assert report.verification.passed
    assert {t.data_type for t in after.graph.initializer} == {
        helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    }
    # One rounding of the float64 result, no more.
    exact = bnpp.onnx.fold(as_float64(before), verify=False)[0]
    for rounded, wide in zip(after.graph.initializer, exact.graph.initializer, strict=True):
        expected = numpy_helper.to_array(wide).astype(dtype)
        np.testing.assert_array_equal(numpy_helper.to_array(rounded), expected)


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes", reason="it comes with onnx").bfloat16
    before = chain(dtype=bfloat16, opset=22)
    after, report = bnpp.onnx.fold(before)
    assert operators(after) == ["Conv", "Relu", "Conv"]
    assert report.verification.passed
    assert {t.data_type for t in after.graph.initializer} == {TensorProto.BFLOAT16}


def as_float64(model):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for info in (*copy.graph.input, *copy.graph.output):
        info.type.tensor_type.elem_type = TensorProto.DOUBLE
    return copy


def test_half_that_would_overflow_stays():
    net = Net(*IMAGE, dtype="f2")
    y = net.bn(net.conv(net.x, 4, 6), 6, gamma=np.full(6, 6e4), var=np.full(6, 1e-4))
    _, report = bnpp.onnx.fold(net.proto(y), verify=False)
    assert "beyond the range of float16" in report.batch_norms[0].where


def test_parameters_of_another_dtype():
    """From opset 15 on, the parameters may be float32 beside float16 data."""
    net = Net(*IMAGE, dtype="f2")
    y = net.conv(net.x, 4, 6)
    given = [np.float32(v) for v in ([1] * 6, [2] * 6, [0.5] * 6, [3] * 6)]
    names = []
    for k, array in enumerate(given):
        net.initializers.append(numpy_helper.from_array(array, f"p{k}"))
        names.append(f"p{k}")
    before = net.proto(net.node("BatchNormalization", y, *names))
    after, report = bnpp.onnx.fold(before)
    assert operators(after) == ["Conv"]
    assert report.verification.passed
    net.nodes = [n for n in net.nodes if n.op_type == "BatchNormalization"]
    net.nodes[0].input[0] = "x4"
    net.input("x4", "N", 6, 3, 3)
    replaced, _ = bnpp.onnx.fold(net.proto(net.nodes[0].output[0]), leftover="mul_add")
    assert operators(replaced) == ["Mul", "Add"]


def test_outputs_without_a_name_are_none():
    net = Net(*IMAGE, opset=9, dtype="f4")
    y = net.bn(net.conv(net.x, 4, 6), 6, outputs=["y", "", "", "", ""])
    after, report = bnpp.onnx.fold(net.proto(y))
    assert operators(after) == ["Conv"]
    assert report.verification.passed


def test_unused_outputs():
    """In inference they mean nothing from opset 14 on; before, they say that it is training."""
    outputs = ["y", "mean", "var"]
    net = Net(*IMAGE, opset=14, dtype="f4")
    before = net.proto(net.bn(net.conv(net.x, 4, 6), 6, outputs=outputs))
    after, report = bnpp.onnx.fold(before)
    assert operators(after) == ["Conv"]
    assert report.verification.passed

    net = Net(*IMAGE, opset=9, dtype="f4")
    before = net.proto(net.bn(net.conv(net.x, 4, 6), 6, outputs=[*outputs, "m", "v"]))
    after, report = bnpp.onnx.fold(before)
    assert "5 outputs" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_used_second_outputs_stay():
    net = Net(*IMAGE, opset=14)
    y = net.bn(net.conv(net.x, 4, 6), 6, outputs=["y", "mean", "var"])
    before = net.proto(y)
    before.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.DOUBLE, [6]))
    _, report = bnpp.onnx.fold(before, verify=False)
    assert "second output 'mean' is used" in report.batch_norms[0].where


def test_training_mode_is_refused():
    net = Net(*IMAGE, dtype="f4")
    y = net.bn(net.conv(net.x, 4, 6), 6, outputs=["y", "mean", "var"], training_mode=1)
    before = net.proto(y)
    for leftover in ("keep", "mul_add"):
        after, report = bnpp.onnx.fold(before, verify=False, leftover=leftover)
        assert "training_mode is 1" in report.batch_norms[0].where
        assert after.SerializeToString() == before.SerializeToString()


def test_statistics_of_each_position_are_refused():
    net = Net(*IMAGE, opset=7)
    y = net.node("BatchNormalization", net.conv(net.x, 4, 6), *[np.ones((6, 5, 4))] * 4, spatial=0)
    _, report = bnpp.onnx.fold(net.proto(y), verify=False)
    assert "spatial is 0" in report.batch_norms[0].where


REFUSED = {
    "variance -1": ({"var": -np.ones(6)}, "variance + epsilon is -"),
    "variance and epsilon 0": ({"var": np.zeros(6), "epsilon": 0.0}, "variance + epsilon is 0"),
    "NaN": ({"gamma": np.full(6, np.nan)}, "scale holds NaN"),
    "infinite": ({"mean": np.full(6, np.inf)}, "mean holds NaN or infinity"),
    "live": ({"beta": "beta"}, "B 'beta' is not constant"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_odd_parameters_stay(what):
    given, words = REFUSED[what]
    net = Net(*IMAGE)
    net.input("beta", 6)
    before = net.proto(net.bn(net.conv(net.x, 4, 6), 6, **given))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert words in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_the_report_notes_odd_channels():
    net = Net(*IMAGE)
    gamma = np.array([0, 1, 1, -1, 1, 1.0])
    var = np.array([1, 0, 6e-45, 1, 0, 1e-40])
    _, report = bnpp.onnx.fold(
        net.proto(net.bn(net.conv(net.x, 4, 6), 6, gamma=gamma, var=var)), verify=False
    )
    (entry,) = report.batch_norms
    assert (entry.dead_channels, entry.zero_variances, entry.denormal_variances) == (1, 2, 2)
    assert "1 dead, 2 of variance 0, 2 of denormal variance" in " ".join(str(report).split())


def test_the_output_of_the_graph_keeps_its_name():
    net = Net(*IMAGE)
    before = net.proto(net.bn(net.conv(net.x, 4, 6), 6, outputs=["result"]))
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert after.graph.node[-1].output == ["result"]
    assert_same(before, after)


def test_an_output_ahead_of_the_batch_norm_stops_it():
    net = Net(*IMAGE)
    z = net.conv(net.x, 4, 6)
    before = net.proto(net.bn(z, 6), z)
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "also an output of the graph" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_several_consumers_behind():
    net = Net(*IMAGE)
    y = net.bn(net.x, 4)
    z = net.node("Add", net.conv(y, 4, 6), net.node("Sigmoid", net.conv(y, 4, 6)))
    before = net.proto(z)
    after, report = bnpp.onnx.fold(before, verify=False)
    assert operators(after).count("Conv") == 2
    assert len(report.batch_norms[0].layers) == 2
    assert_same(before, after)

    net = Net(*IMAGE)
    y = net.bn(net.x, 4)
    before = net.proto(net.conv(y, 4, 6), net.node("Sigmoid", y))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "Sigmoid" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_a_value_joined_with_itself():
    """The one behind folds; the one ahead would reach the concat, and so the layer, twice."""
    net = Net(*IMAGE)
    first = net.bn(net.x, 4)
    joined = net.node("Concat", first, first, axis=1)
    before = net.proto(net.conv(net.bn(joined, 8), 8, 3))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert [entry.status for entry in report.batch_norms] == ["stays", "folded"]
    assert "two ways" in report.batch_norms[0].where
    assert_same(before, after)
    again, _ = bnpp.onnx.fold(after, verify=False)
    assert again.SerializeToString() == after.SerializeToString()


def test_one_batch_norm_beside_another():
    """The second is merged with the first, and both go into the same layer by two inputs of a concat."""
    net = Net(*IMAGE)
    first = net.bn(net.x, 4)
    joined = net.node("Concat", first, net.bn(first, 4), axis=1)
    before = net.proto(net.conv(joined, 8, 3))
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert operators(after) == ["Concat", "Conv"]
    assert_same(before, after)


def rearranged(net, kind):
    """Weights behind operators that only rearrange a constant."""
    if kind == "Transpose":
        return net.node("Transpose", net.normal(4, 6, 3, 3), perm=[1, 0, 2, 3])
    if kind == "Reshape":
        return net.node("Reshape", net.normal(6, 36), np.array([6, 4, 3, 3]))
    if kind == "Cast":
        return net.node("Cast", net.normal(6, 4, 3, 3), to=net.kind)
    return net.node("Identity", net.node("Identity", net.normal(6, 4, 3, 3)))


@pytest.mark.parametrize("kind", ["Transpose", "Reshape", "Cast", "Identity"])
def test_weights_behind_what_rearranges_them(kind):
    net = Net(*IMAGE)
    y = net.bn(net.node("Conv", net.x, rearranged(net, kind)), 6)
    before = net.proto(y)
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert operators(after) == ["Conv"]
    assert len(after.graph.initializer) == 2
    assert_same(before, after)


def body(net, build, name, inputs=()):
    """A graph for an attribute, with the nodes that `build` adds to the net."""
    outer = net.nodes
    net.nodes = []
    output = build()
    info = helper.make_tensor_value_info(output, net.kind, None)
    graph = helper.make_graph(net.nodes, name, list(inputs), [info])
    net.nodes = outer
    return graph


@pytest.mark.parametrize("ir", [3, 8])
@pytest.mark.parametrize("style", ["initializer", "constant"])
def test_branches_of_an_if(style, ir):
    net = Net(*IMAGE, style=style, ir=ir)
    net.input("flag", kind=TensorProto.BOOL)
    shared = net.const(net.normal(6, 4, 3, 3), "shared")
    branches = {
        "then_branch": body(net, lambda: net.bn(net.node("Conv", net.x, shared), 6), "then"),
        "else_branch": body(
            net, lambda: net.bn(net.node("Relu", net.node("Conv", net.x, shared)), 6), "else"
        ),
    }
    before = net.proto(net.node("If", "flag", name="if", outputs=["y"], **branches))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert [entry.status for entry in report.batch_norms] == ["stays", "folded"] or [
        entry.status for entry in report.batch_norms
    ] == ["folded", "stays"]
    assert all(entry.name.startswith("if/") for entry in report.batch_norms)
    onnx.checker.check_model(after)
    for flag in (True, False):
        given = feeds(before) | {"flag": np.array(flag)}
        np.testing.assert_allclose(run(after, given)["y"], run(before, given)["y"], atol=1e-12)


def test_the_body_of_a_loop_and_what_it_captures():
    net = Net(2, 4, 5, 5)
    z = net.conv(net.x, 4, 4, 1, 1)
    y = net.bn(z, 4)  # used inside the loop too: nothing behind it may change
    names = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("s", net.kind, None)]
    infos = [helper.make_tensor_value_info(*n) for n in names]

    def step():
        inner = net.bn(net.conv("s", 4, 4, 1, 1), 4)
        return net.node("Add", inner, y)

    graph = body(net, step, "body", infos)
    graph.node.append(helper.make_node("Identity", ["go"], ["go_on"]))
    graph.output.insert(0, helper.make_tensor_value_info("go_on", TensorProto.BOOL, []))
    count = net.const(np.array(2))
    start = net.const(np.array(True))
    before = net.proto(net.node("Loop", count, start, net.x, body=graph, name="loop"))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert [entry.status for entry in report.batch_norms] == ["folded", "folded"]
    assert_same(before, after)
    # Behind a value that a subgraph captures nothing is folded.
    assert operators(after) == ["Conv", "Loop"]


def test_a_value_captured_by_a_subgraph_is_not_folded_through():
    net = Net(*IMAGE)
    net.input("flag", kind=TensorProto.BOOL)
    z = net.conv(net.x, 4, 6)
    y = net.bn(z, 6)
    branch = {f"{n}_branch": body(net, lambda: net.node("Relu", z), n) for n in ("then", "else")}
    w = net.node("Add", y, net.node("If", "flag", **branch))
    before = net.proto(w)
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "inside a subgraph" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_a_batch_norm_whose_output_a_subgraph_captures_is_not_folded_behind():
    net = Net(*IMAGE)
    net.input("flag", kind=TensorProto.BOOL)
    y = net.bn(net.x, 4)
    branch = {f"{n}_branch": body(net, lambda: net.node("Relu", y), n) for n in ("then", "else")}
    before = net.proto(net.conv(y, 4, 6), net.node("If", "flag", **branch))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "inside a subgraph" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_functions_of_the_model_are_left_alone():
    net = Net(*IMAGE)
    names = [net.const(net.normal(4)) for _ in range(3)] + [net.const(np.ones(4))]
    net.nodes.append(helper.make_node("Block", ["x", *names], ["y"], domain="mine"))
    before = net.proto("y")
    inputs = ["a", "s", "b", "m", "v"]
    function = helper.make_function(
        "mine", "Block", inputs, ["r"], [helper.make_node("BatchNormalization", inputs, ["r"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    before.functions.append(function)
    before.opset_import.append(helper.make_opsetid("mine", 1))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "function" in report.batch_norms[0].where
    assert after.SerializeToString() == before.SerializeToString()


def test_an_operator_of_another_domain_is_another_operator():
    net = Net(*IMAGE)
    net.nodes.append(helper.make_node("Conv", ["x", net.const(net.normal(6, 4, 1, 1))], ["z"],
                                      domain="mine"))  # fmt: skip
    before = net.proto(net.bn("z", 6))
    before.opset_import.append(helper.make_opsetid("mine", 1))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert report.batch_norms[0].status == "stays"
    assert after.SerializeToString() == before.SerializeToString()


def test_the_given_model_is_not_changed():
    before = chain()
    kept = before.SerializeToString()
    bnpp.onnx.fold(before, verify=False)
    assert before.SerializeToString() == kept


def test_unused_constants_that_were_there_before_stay():
    net = Net(*IMAGE)
    net.const(net.normal(3), "mine")
    after, _ = bnpp.onnx.fold(net.proto(net.bn(net.conv(net.x, 4, 6), 6)), verify=False)
    assert "mine" in {t.name for t in after.graph.initializer}


def test_names_of_weights_are_kept():
    net = Net(*IMAGE)
    weight, bias = net.const(net.normal(6, 4, 3, 3), "w"), net.const(net.normal(6), "b")
    before = net.proto(net.bn(net.node("Conv", net.x, weight, bias), 6))
    after, _ = bnpp.onnx.fold(before, verify=False)
    assert {t.name for t in after.graph.initializer} == {"w", "b"}


BAD = {
    "no model": (lambda m: 3, TypeError, "model is int, but a ModelProto or path is needed"),
    "an invalid model": (lambda m: m.graph.node[0].ClearField("output"), ValueError, "not valid"),
    "no opset": (lambda m: m.ClearField("opset_import"), ValueError, "opset"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_models(what):
    spoil, exception, words = BAD[what]
    model = chain()
    spoiled = spoil(model)
    with pytest.raises(exception, match=words) as caught:
        bnpp.onnx.fold(model if spoiled is None else spoiled)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("padded", "zero"), ("leftover", "drop")])
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}', but"):
        bnpp.onnx.fold(chain(), **{name: value})
