"""Verification: inputs that suit the model, a bound that holds, and errors that say what is wrong."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
from bnpp.onnx import VerificationError, _files, _inputs, _run
from bnpp.onnx._noise import disturbed
from bnpp.onnx._sites import Site
from bnpp.onnx.layers import _layer
from helpers.onnx_nets import Net, feeds, operators, run
from onnx import TensorProto, helper

IMAGE = ("N", 4, 7, 6)


def chain(dtype="f4", shape=IMAGE, **more):
    net = Net(*shape, dtype=dtype, **more)
    y = net.node("Relu", net.bn(net.conv(net.x, 4, 6), 6))
    return net.proto(net.bn(net.conv(y, 6, 4, bias=False), 4))


@pytest.fixture(params=["onnxruntime", "onnx.reference"])
def runtime(request, monkeypatch):
    """Each runtime alone."""
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    monkeypatch.setattr(_run, "runtimes", lambda: [request.param])
    return request.param


def test_the_verification_says_what_was_run(runtime):
    _, report = bnpp.onnx.fold(chain(), seed=7)
    found = report.verification
    assert found.runtime.startswith(runtime)
    assert (found.seed, found.runs) == (7, 3)
    assert found.inputs == {"x": (2, 4, 7, 6)}
    (output,) = found.outputs
    assert 0 < output.difference <= output.bound < 1e-3 * output.magnitude


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_every_dtype(runtime, dtype):
    _, report = bnpp.onnx.fold(chain(dtype))
    assert report.verification.passed


def test_float64_goes_to_the_reference_where_onnxruntime_cannot():
    _, report = bnpp.onnx.fold(chain("f8"))
    assert report.verification.runtime.startswith("onnx.reference")
    assert report.verification.outputs[0].bound < 1e-10


@pytest.mark.parametrize("factor", [1.001, 0.0, -1.0])
@pytest.mark.parametrize("what", ["weight", "bias"])
def test_a_wrong_fold_is_an_error(runtime, monkeypatch, what, factor):
    right = _layer.rounded

    def wrong(exact, dtype, name):
        return right(exact * (factor if what in name else 1.0), dtype, name)

    monkeypatch.setattr(_layer, "rounded", wrong)
    with pytest.raises(VerificationError, match="beyond the predicted bound"):
        bnpp.onnx.fold(chain())


def test_epsilon_that_was_forgotten_is_an_error(monkeypatch):
    from bnpp.onnx import _batch_norm

    monkeypatch.setattr(_batch_norm, "attribute", lambda node, name, default=None: default)
    net = Net(*IMAGE, dtype="f4")
    model = net.proto(net.bn(net.conv(net.x, 4, 6), 6, epsilon=1e-2))
    with pytest.raises(VerificationError, match="beyond"):
        bnpp.onnx.fold(model)


def test_subgraphs_are_verified_too(monkeypatch):
    net = Net(*IMAGE, dtype="f4")
    net.input("flag", kind=TensorProto.BOOL)
    outer, net.nodes = net.nodes, []
    output = net.bn(net.conv(net.x, 4, 6), 6)
    info = helper.make_tensor_value_info(output, net.kind, None)
    branch = helper.make_graph(net.nodes, "branch", [], [info])
    net.nodes = outer
    model = net.proto(net.node("If", "flag", then_branch=branch, else_branch=branch))
    _, report = bnpp.onnx.fold(model)
    assert report.batch_norms_after == 0
    assert report.verification.outputs[0].difference > 0
    right = _layer.rounded
    monkeypatch.setattr(_layer, "rounded", lambda e, d, n: right(e * 1.001, d, n))
    with pytest.raises(VerificationError, match="beyond"):
        bnpp.onnx.fold(model)


def test_open_lengths_are_tried_and_symbols_agree():
    net = Net("N", 4, "S", "S", dtype="f4")
    y = net.conv(net.bn(net.x, 4), 4, 6)
    # Only a multiple of 48 can be reshaped so.
    model = net.proto(net.node("Reshape", net.node("MaxPool", y, kernel_shape=[1, 1]),
                               np.array([0, 6, -1, 23])))  # fmt: skip
    _, report = bnpp.onnx.fold(model)
    _, c, h, w = report.verification.inputs["x"]
    assert (c, h) == (4, w)
    assert (h - 2) % 23 == 0


def test_lengths_of_minus_one_are_open():
    model = chain()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    for k in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[k].dim_value = -1
        model.graph.output[0].type.tensor_type.shape.dim[k].dim_param = "?"
    _, report = bnpp.onnx.fold(model)
    assert report.verification.inputs["x"][0] == 2
    assert operators(bnpp.onnx.fold(model)[0]) == ["Conv", "Relu", "Conv"]


def test_shapes_can_be_given():
    _, report = bnpp.onnx.fold(chain(shape=("N", 4, "H", "W")), shapes={"x": (1, 4, 9, 11)})
    assert report.verification.inputs == {"x": (1, 4, 9, 11)}


BAD = {
    "another input": ({"y": (1,)}, "shapes names 'y', but the inputs of the model are x"),
    "another rank": ({"x": (1, 4, 7)}, r"shape \(1, 4, 7\), but the model declares"),
    "another length": ({"x": (1, 5, 7, 6)}, r"shape \(1, 5, 7, 6\), but the model declares"),
    "a negative length": ({"x": (-1, 4, 7, 6)}, "but the model declares"),
}


@pytest.mark.parametrize("what", BAD)
def test_shapes_that_do_not_suit(what):
    shapes, words = BAD[what]
    with pytest.raises(ValueError, match=words):
        bnpp.onnx.fold(chain(), shapes=shapes)


def test_inputs_without_a_shape_need_one():
    model = chain()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ValueError, match=r"declares no shape|'shape' of 'type' is required"):
        bnpp.onnx.fold(model)


def test_text_and_whole_numbers_as_inputs():
    net = Net(*IMAGE, dtype="f4")
    net.input("ids", "N", kind=TensorProto.INT64)
    y = net.bn(net.conv(net.x, 4, 6), 6)
    table = net.const(net.normal(2, 1, 1, 1))
    model = net.proto(net.node("Mul", y, net.node("Gather", table, "ids")))
    _, report = bnpp.onnx.fold(model)
    assert report.verification.passed
    net.input("text", 2, kind=TensorProto.STRING)
    with pytest.raises(ValueError, match="text"):
        bnpp.onnx.fold(net.proto(model.graph.output[0].name))


def test_models_that_cannot_run():
    net = Net(*IMAGE, dtype="f4")
    net.nodes.append(helper.make_node("Mystery", [net.bn(net.conv(net.x, 4, 6), 6)], ["y"],
                                      domain="mine"))  # fmt: skip
    model = net.proto("y")
    model.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(VerificationError, match=r"could not be run.*--no-verify") as caught:
        bnpp.onnx.fold(model)
    assert "\n" not in str(caught.value)
    assert operators(bnpp.onnx.fold(model, verify=False)[0]) == ["Conv", "Mystery"]


def test_a_model_that_differs_from_itself_is_named():
    pytest.importorskip("onnxruntime", reason="only its random numbers differ from run to run")
    net = Net(*IMAGE, dtype="f4")
    y = net.bn(net.conv(net.x, 4, 6), 6)
    model = net.proto(net.node("Add", y, net.node("RandomNormalLike", y)))
    with pytest.raises(VerificationError, match="from one run to the next"):
        bnpp.onnx.fold(model)


def test_nan_and_infinity_may_be_equal():
    net = Net(*IMAGE, dtype="f4")
    y = net.bn(net.conv(net.x, 4, 6), 6)
    _, report = bnpp.onnx.fold(net.proto(net.node("Log", y), net.node("Div", y, np.zeros(1))))
    assert all(np.isfinite(output.difference) for output in report.verification.outputs)


def test_large_models_are_run_from_files(monkeypatch):
    model = chain()
    monkeypatch.setattr(_files, "LARGE", 100)
    monkeypatch.setattr(_files, "SMALL_TENSOR", 16)
    _, report = bnpp.onnx.fold(model)
    assert report.verification.passed


def test_inputs_are_seeded():
    model = chain()
    shapes = next(_inputs.candidates(model, {}))
    first, again, other = (_inputs.make(model, shapes, seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_noise_is_as_large_as_the_sums_that_are_rounded():
    """Where terms cancel, the output says nothing about their size."""
    net = Net("N", 1, 40, 40)
    weight = net.normal(3, 18, 1, 1)
    weight[:, 9:] = -weight[:, :9]
    model = net.proto(net.node("Conv", net.node("Concat", *[net.x] * 18, axis=1), weight))
    given = feeds(model)
    (quiet,), (noisy,) = (run(m, given).values() for m in (model, disturbed(model, {}, 0)))
    assert np.abs(quiet).max() < 1e-14
    rms = np.sqrt((given["x"] ** 2).mean())
    sizes = (np.sqrt(18) * 2.0**-53 + 4 * 2.0**-53) * np.sqrt((weight**2).sum((1, 2, 3))) * rms
    # A sign for each channel, of size 1, and uniform noise of variance 1 on it.
    np.testing.assert_allclose(
        np.sqrt(((noisy - quiet) ** 2).mean((0, 2, 3))), np.sqrt(2) * sizes, rtol=0.1
    )


WINDOWS = {
    "transposed": {"transposed": True, "strides": [2, 3], "dilations": [2, 1],
                   "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
    "pads": {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "VALID": {"auto_pad": "VALID", "strides": [1, 2]},
}  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("what", WINDOWS)
def test_the_reference_operators_agree_with_onnxruntime(what, groups):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net = Net(*IMAGE, dtype="f4", opset=9)
    y = net.conv(net.x, 4, 6, 3, 2, group=groups, **WINDOWS[what])
    model = net.proto(net.bn(y, 6, epsilon=1e-2))
    name = model.graph.output[0].name
    a, b = (run(model, runtime=r)[name] for r in ("onnxruntime", "onnx.reference"))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_the_noise_of_a_site_knows_the_terms_of_its_bias():
    """They may cancel, but were rounded: here to 0, from 1e6 each."""
    zero = np.zeros((1, 1))
    site = Site("x", zero + 1, 9, zero, zero, zero + 1e6)
    assert site.factors(np.dtype(np.float32)).one[0, 0] >= 1e6 * 2.0**-24
