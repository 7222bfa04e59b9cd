"""The bugs that other tools shipped in this place: each is a test that would have caught it."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
from helpers.onnx_nets import Net, assert_same, operators
from onnx import numpy_helper

IMAGE = ("N", 4, 7, 6)


def folded(net, *outputs, left=0, **options):
    """Fold, and compare the float64 outputs before and after."""
    before = net.proto(*outputs)
    after, report = bnpp.onnx.fold(before, verify=False, **options)
    assert operators(after).count("BatchNormalization") == left, report.batch_norms
    assert_same(before, after)
    return after, report


def test_bias_is_not_dropped_where_there_was_none():
    net = Net(*IMAGE)
    after, _ = folded(net, net.bn(net.conv(net.x, 4, 6, bias=False), 6))
    assert len(after.graph.node[0].input) == 3


def test_ncnn_1339_depthwise_with_bias():
    net = Net(*IMAGE)
    folded(net, net.bn(net.conv(net.x, 4, 4, group=4, bias=True), 4))


@pytest.mark.parametrize("style", ["initializer", "constant"])
def test_pytorch_124808_and_tnn_808_shared_weights_are_not_fused_twice(style):
    net = Net(*IMAGE, style=style)
    weight, bias = net.const(net.normal(6, 4, 3, 3), "w"), net.const(net.normal(6), "b")
    ends = [net.bn(net.node("Conv", net.x, weight, bias), 6) for _ in range(2)]
    after, _ = folded(net, *ends)
    first, second = after.graph.node[-2:]
    assert first.input[1] != second.input[1]
    assert first.input[2] != second.input[2]


def test_pytorch_197539_weights_used_with_and_without_batch_norm():
    net = Net(*IMAGE)
    weight = net.const(net.normal(6, 4, 3, 3), "w")
    plain = net.node("Conv", net.x, weight)
    after, _ = folded(net, net.bn(net.node("Conv", net.x, weight), 6), plain)
    kept = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}["w"]
    np.testing.assert_array_equal(kept, numpy_helper.to_array(net.initializers[0]))


def test_pytorch_197539_one_conv_used_with_and_without_batch_norm():
    net = Net(*IMAGE)
    z = net.conv(net.x, 4, 6)
    _, report = folded(net, net.bn(z, 6), net.node("Relu", z), left=1)
    assert "2 consumers" in report.batch_norms[0].where


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_onnxscript_3027_beta_of_gemm_is_not_applied_twice(beta):
    net = Net("N", 5)
    gemm = net.node("Gemm", net.x, net.normal(5, 3), net.normal(3), alpha=0.5, beta=beta)
    after, _ = folded(net, net.bn(gemm, 3))
    assert not {a.name for a in after.graph.node[0].attribute} & {"alpha", "beta"}


@pytest.mark.parametrize("size", [3, 4])
def test_onnxruntime_22762_matmul_of_rank_3_is_not_folded_as_if_of_rank_2(size):
    """The channels are the rows; with as many columns as rows a wrong fold would even fit."""
    net = Net("N", 3, 5)
    _, report = folded(net, net.bn(net.node("MatMul", net.x, net.normal(5, size)), 3), left=1)
    assert "rows" in report.batch_norms[0].where


@pytest.mark.parametrize("group", [1, 2, 4])
def test_pytorch_180995_and_optimizer_106_layout_of_a_transposed_conv(group):
    """With 4 inputs and 4 outputs, weights of the wrong layout would fit."""
    net = Net(*IMAGE)
    folded(net, net.bn(net.conv(net.x, 4, 4, transposed=True, group=group), 4))


@pytest.mark.parametrize("opset", [14, 15, 16, 17, 21])
def test_onnxruntime_11960_opset_15_is_not_ignored(opset):
    net = Net(*IMAGE, opset=opset)
    folded(net, net.bn(net.conv(net.x, 4, 6), 6))


@pytest.mark.parametrize("group", [2, 4])
def test_onnxruntime_12498_conv_and_add_with_groups(group):
    net = Net(*IMAGE)
    y = net.node("Add", net.conv(net.x, 4, 8, group=group), net.normal(8, 1, 1))
    after, _ = folded(net, net.bn(y, 8))
    assert operators(after) == ["Conv"]


def test_darknet_5069_a_folded_model_is_not_folded_again():
    net = Net(*IMAGE, dtype="f4")
    model = net.proto(net.bn(net.conv(net.x, 4, 6), 6))
    once, _ = bnpp.onnx.fold(model)
    for _ in range(3):
        again, report = bnpp.onnx.fold(once)
        assert report.batch_norms == []
        assert again.SerializeToString() == once.SerializeToString()
    other, _ = bnpp.onnx.fold(model)  # the model given is as it was
    assert other.SerializeToString() == once.SerializeToString()


def test_optimizer_255_a_difference_comes_with_its_bound():
    net = Net(*IMAGE, dtype="f4")
    y = net.node("Relu", net.bn(net.conv(net.x, 4, 6), 6))
    _, report = bnpp.onnx.fold(net.proto(net.bn(net.conv(y, 6, 4), 4)))
    (output,) = report.verification.outputs
    assert 0 < output.difference <= output.bound < 1e-3 * output.magnitude
    assert f"{output.bound:.2g}" in str(report)


def test_weight_ranges_that_widen_are_reported():
    """What quantization feels later: one channel with a small variance stretches the range."""
    net = Net(*IMAGE)
    var = np.array([1, 1, 1e-4, 1, 1, 1])
    gamma = np.ones(6)
    after, report = folded(net, net.bn(net.conv(net.x, 4, 6), 6, gamma=gamma, var=var, epsilon=0.0))
    (layer,) = report.layers
    np.testing.assert_allclose(layer.channel_growth, [1, 1, 100, 1, 1, 1], rtol=1e-12)
    old, new = (
        np.abs(numpy_helper.to_array(t)).max()
        for t in (net.initializers[0], after.graph.initializer[0])
    )
    assert layer.range_growth == pytest.approx(new / old, rel=1e-12)
    weights = [numpy_helper.to_array(t) for t in (net.initializers[0], after.graph.initializer[0])]
    assert layer.max_weight_change == pytest.approx(np.abs(weights[1] - weights[0]).max())


def test_the_shift_ahead_of_a_padded_conv_is_not_ignored():
    net = Net(*IMAGE)
    y = net.conv(net.bn(net.x, 4), 4, 6, pads=[1, 1, 1, 1])
    folded(net, y, left=1)
    folded(net, y, padded="correct")


def test_conv_relu_batch_norm_does_not_fold_back():
    net = Net(*IMAGE)
    y = net.bn(net.node("Relu", net.conv(net.x, 4, 6)), 6, gamma=np.ones(6))
    folded(net, y, left=1)


def test_folding_in_the_dtype_of_the_weights_would_round_more_than_once():
    """With a mean far away, float32 arithmetic loses what one rounding keeps."""
    net = Net(*IMAGE, dtype="f4")
    mean = np.full(6, 1e4)
    model = net.proto(net.bn(net.conv(net.x, 4, 6), 6, mean=mean, var=np.full(6, 1e-3)))
    after, report = bnpp.onnx.fold(model)
    parts = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    _, bias, gamma, beta, mean, var = parts.values()
    scale = gamma / np.sqrt(var + np.float32(1e-5))
    exact = ((bias - mean) * scale + beta).astype(np.float32)
    found = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    bias_name = model.graph.node[0].input[2]
    np.testing.assert_array_equal(found[bias_name], exact)
    assert report.verification.passed
