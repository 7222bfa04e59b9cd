"""Every pattern that folds gives the same float64 outputs without the batch norm, and every pattern that
does not fold stays and says why."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
from helpers.onnx_nets import Net, assert_same, operators

IMAGE = ("N", 4, 7, 6)


def after_conv(n, **more):
    return n.bn(n.conv(n.x, 4, 6, **more), 6)


def gemm(n, x, k, m, bias=True, **more):
    weight = n.normal(m, k) if more.get("transB") else n.normal(k, m)
    return n.node("Gemm", x, weight, *([n.normal(m)] if bias else []), **more)


def channels(n, c, rank=4):
    return n.normal(c, *(1,) * (rank - 2))


def fork(n, y):
    return n.node("Add", n.conv(y, 4, 6), n.conv(y, 4, 6))


def doubled(n, y):
    return n.node("Concat", y, n.node("Mul", y, n.normal(4, 1, 1)), axis=1)


FOLDS = {
    "conv": (IMAGE, after_conv),
    "conv without bias": (IMAGE, lambda n: after_conv(n, bias=False)),
    "conv 1-D": (("N", 4, 9), lambda n: n.bn(n.conv(n.x, 4, 6, 3), 6)),
    "conv 3-D": (("N", 4, 5, 4, 3), lambda n: n.bn(n.conv(n.x, 4, 6, 3, 2, 1), 6)),
    "conv padded, strided, dilated": (
        IMAGE, lambda n: after_conv(n, pads=[1, 2, 0, 1], strides=[2, 1], dilations=[1, 2])),
    "conv grouped": (IMAGE, lambda n: after_conv(n, group=2)),
    "conv depthwise": (IMAGE, lambda n: n.bn(n.conv(n.x, 4, 8, group=4), 8)),
    "conv transposed": (IMAGE, lambda n: after_conv(n, transposed=True, strides=[2, 1])),
    "conv transposed, grouped": (
        IMAGE, lambda n: after_conv(n, transposed=True, group=2, pads=[1, 1, 0, 0])),
    "conv transposed, depthwise": (
        IMAGE, lambda n: n.bn(n.conv(n.x, 4, 8, transposed=True, group=4, bias=False), 8)),
    "conv transposed, Add": (
        IMAGE, lambda n: n.bn(n.node("Add", n.conv(n.x, 4, 6, transposed=True, bias=False),
                                     channels(n, 6)), 6)),
    "gemm": (("N", 5), lambda n: n.bn(gemm(n, n.x, 5, 3), 3)),
    "gemm alpha beta": (("N", 5), lambda n: n.bn(gemm(n, n.x, 5, 3, alpha=0.3, beta=-1.7), 3)),
    "gemm transB": (("N", 5), lambda n: n.bn(gemm(n, n.x, 5, 3, transB=1, alpha=2.0), 3)),
    "gemm transA": ((5, 4), lambda n: n.bn(gemm(n, n.x, 5, 3, transA=1), 3)),
    "gemm no bias": (("N", 5), lambda n: n.bn(gemm(n, n.x, 5, 3, bias=False, beta=3.0), 3)),
    "gemm scalar bias": (
        ("N", 5), lambda n: n.bn(n.node("Gemm", n.x, n.normal(5, 3), n.normal()), 3)),
    "gemm bias (1, 1)": (
        ("N", 5), lambda n: n.bn(n.node("Gemm", n.x, n.normal(5, 3), n.normal(1, 1)), 3)),
    "gemm bias of rows": (
        (4, 5), lambda n: n.bn(n.node("Gemm", n.x, n.normal(5, 3), n.normal(4, 1), beta=2.0), 3)),
    "gemm bias in full": (
        (4, 5), lambda n: n.bn(n.node("Gemm", n.x, n.normal(5, 3), n.normal(4, 3)), 3)),
    "matmul": (("N", 5), lambda n: n.bn(n.node("MatMul", n.x, n.normal(5, 3)), 3)),
    "matmul Add": (
        ("N", 5), lambda n: n.bn(n.node("Add", n.node("MatMul", n.x, n.normal(5, 3)),
                                        n.normal(3)), 3)),
    "matmul Add, turned": (
        ("N", 5), lambda n: n.bn(n.node("Add", n.normal(3),
                                        n.node("MatMul", n.x, n.normal(5, 3))), 3)),
    "matmul Transpose": (
        ("N", 4, 5), lambda n: n.bn(n.node("Transpose", n.node("MatMul", n.x, n.normal(5, 3)),
                                           perm=[0, 2, 1]), 3)),
    "matmul from the left": (
        ("N", 5, 4), lambda n: n.bn(n.node("MatMul", n.normal(3, 5), n.x), 3)),
    "matmul from the left, Add": (
        ("N", 5, 4), lambda n: n.bn(n.node("Add", n.node("MatMul", n.normal(3, 5), n.x),
                                           n.normal(3, 1)), 3)),
    "matmul, a matrix for each channel": (
        ("N", 3, 4, 5), lambda n: n.bn(n.node("MatMul", n.x, n.normal(3, 5, 2)), 3)),
    "matmul of rank 4, Transpose": (
        ("N", 3, 4, 5), lambda n: n.bn(n.node("Transpose", n.node("MatMul", n.x, n.normal(5, 2)),
                                              perm=[0, 3, 1, 2]), 2)),
    "matmul Reshape": (
        ("N", 5), lambda n: n.bn(n.node("Reshape", n.node("MatMul", n.x, n.normal(5, 12)),
                                        np.array([0, 3, 2, 2])), 3)),
    "constants between": (
        IMAGE, lambda n: n.bn(n.node("Div", n.node("Mul", n.node("Sub", n.node(
            "Add", n.conv(n.x, 4, 6), channels(n, 6)), channels(n, 6)), n.normal(1, 6, 1, 1)),
            n.normal()), 6)),
    "constant minus": (IMAGE, lambda n: n.bn(n.node("Sub", channels(n, 6), n.conv(n.x, 4, 6)), 6)),
    "conv before": (IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6)),
    "conv before, grouped": (IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, group=2, bias=False)),
    "conv before, depthwise": (IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 8, group=4)),
    "conv before, VALID": (IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, auto_pad="VALID")),
    "conv before, SAME of 1": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, 1, 1, auto_pad="SAME_UPPER", strides=[2, 2])),
    "conv before, padded without shift": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4, beta=np.zeros(4), mean=np.zeros(4)), 4, 6,
                                pads=[1, 1, 1, 1])),
    "conv transposed before, 1 by 1": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, 1, 1, transposed=True, group=2)),
    "conv transposed before, no shift": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4, beta=np.zeros(4), mean=np.zeros(4)), 4, 6,
                                transposed=True, strides=[2, 2])),
    "gemm before": (("N", 5), lambda n: gemm(n, n.bn(n.x, 5), 5, 3, alpha=0.5, beta=2.0)),
    "gemm before, no bias": (
        ("N", 5), lambda n: gemm(n, n.bn(n.x, 5), 5, 3, transB=1, alpha=0.5, bias=False)),
    "matmul before": (("N", 5), lambda n: n.node("MatMul", n.bn(n.x, 5), n.normal(5, 3))),
    "matmul before, Add": (
        ("N", 5), lambda n: n.node("Add", n.node("MatMul", n.bn(n.x, 5), n.normal(5, 3)),
                                   n.normal(3))),
    "matmul before, from the left": (
        ("N", 5, 4), lambda n: n.node("MatMul", n.normal(3, 5), n.bn(n.x, 5))),
    "matmul before, a matrix for each channel": (
        ("N", 3, 4, 5), lambda n: n.node("MatMul", n.bn(n.x, 3), n.normal(3, 5, 2))),
    "Flatten before gemm": (
        ("N", 3, 2, 2), lambda n: gemm(n, n.node("Flatten", n.bn(n.x, 3)), 12, 4)),
    "Reshape before gemm": (
        ("N", 3, 2, 2), lambda n: gemm(n, n.node("Reshape", n.bn(n.x, 3), np.array([-1, 12])),
                                       12, 4)),
    "Flatten before matmul": (
        ("N", 3, 2, 2), lambda n: n.node("MatMul", n.node("Flatten", n.bn(n.x, 3)),
                                         n.normal(12, 4))),
    "Mul, Add before conv": (
        IMAGE, lambda n: n.conv(n.node("Add", n.node("Mul", n.bn(n.x, 4), channels(n, 4)),
                                       channels(n, 4)), 4, 6)),
    "two consumers before": (
        IMAGE, lambda n: fork(n, n.bn(n.x, 4))),
    "Concat after": (
        IMAGE, lambda n: n.bn(n.node("Concat", n.conv(n.x, 4, 2), n.conv(n.x, 4, 5), axis=1), 7)),
    "Concat after, other axis": (
        IMAGE, lambda n: n.bn(n.node("Concat", n.conv(n.x, 4, 5), n.conv(n.x, 4, 5), axis=-1), 5)),
    "Concat before": (
        IMAGE, lambda n: n.conv(n.node("Concat", n.bn(n.x, 4), n.node("Relu", n.x), axis=1), 8, 3)),
    "Transpose after": (
        ("N", 3, 4, 5), lambda n: n.bn(n.node("Transpose", n.node("MatMul", n.x, n.normal(5, 6)),
                                              perm=[0, 3, 2, 1]), 6)),
    "Transpose before": (
        ("N", 5, 4), lambda n: n.node("MatMul", n.node("Transpose", n.bn(n.x, 5), perm=[0, 2, 1]),
                                      n.normal(5, 3))),
    "Transpose to channels last before": (
        IMAGE, lambda n: n.node("MatMul", n.node("Transpose", n.bn(n.x, 4), perm=[0, 2, 3, 1]),
                                n.normal(4, 3))),
    "DepthToSpace DCR": (
        IMAGE, lambda n: n.bn(n.node("DepthToSpace", n.conv(n.x, 4, 12), blocksize=2), 3)),
    "DepthToSpace CRD": (
        IMAGE, lambda n: n.bn(n.node("DepthToSpace", n.conv(n.x, 4, 12), blocksize=2, mode="CRD"),
                              3)),
    "SpaceToDepth before": (
        ("N", 3, 4, 4), lambda n: n.conv(n.node("SpaceToDepth", n.bn(n.x, 3), blocksize=2), 12, 5,
                                         1, 1)),
    "channel shuffle": (
        ("N", 4, 5, 5), lambda n: n.bn(n.node("Reshape", n.node("Transpose", n.node(
            "Reshape", n.conv(n.x, 4, 6), np.array([0, 2, 3, 3, 3])), perm=[0, 2, 1, 3, 4]),
            np.array([0, 6, 3, 3])), 6)),
    "MaxPool, positive scales": (
        IMAGE, lambda n: n.bn(n.node("MaxPool", n.conv(n.x, 4, 6), kernel_shape=[2, 2],
                                     pads=[1, 0, 0, 1]), 6, gamma=n.rng.uniform(0.1, 2, 6))),
    "MaxPool before, positive scales": (
        IMAGE, lambda n: n.conv(n.node("MaxPool", n.bn(n.x, 4, gamma=n.rng.uniform(0.1, 2, 4)),
                                       kernel_shape=[2, 2]), 4, 6)),
    "Relu, positive scales, no shift": (
        IMAGE, lambda n: n.bn(n.node("Relu", n.conv(n.x, 4, 6)), 6,
                              gamma=n.rng.uniform(0.1, 2, 6), beta=np.zeros(6), mean=np.zeros(6))),
    "AveragePool": (
        IMAGE, lambda n: n.bn(n.node("AveragePool", n.conv(n.x, 4, 6), kernel_shape=[3, 3],
                                     pads=[1, 1, 1, 1]), 6)),
    "GlobalAveragePool, Flatten before gemm": (
        IMAGE, lambda n: gemm(n, n.node("Flatten", n.node("GlobalAveragePool", n.bn(n.x, 4))), 4,
                              3)),
    "Dropout and Identity": (
        IMAGE, lambda n: n.bn(n.node("Identity", n.node("Dropout", n.conv(n.x, 4, 6))), 6)),
    "Dropout in inference by its input": (
        IMAGE, lambda n: n.bn(n.node("Dropout", n.conv(n.x, 4, 6), np.float64(0.5),
                                     np.array(False)), 6)),
    "Squeeze and Unsqueeze": (
        ("N", 4, 7, 1), lambda n: n.bn(n.node("Unsqueeze", n.node(
            "Squeeze", n.conv(n.x, 4, 6, 3, 1), np.array([3])), np.array([2])), 6)),
    "PRelu, positive scales, no shift": (
        IMAGE, lambda n: n.bn(n.node("PRelu", n.conv(n.x, 4, 6), channels(n, 6)), 6,
                              gamma=n.rng.uniform(0.1, 2, 6), beta=np.zeros(6), mean=np.zeros(6))),
    "GlobalMaxPool, positive scales": (
        IMAGE, lambda n: n.bn(n.node("GlobalMaxPool", n.conv(n.x, 4, 6)), 6,
                              gamma=n.rng.uniform(0.1, 2, 6))),
    "SpaceToDepth after": (
        ("N", 4, 6, 6), lambda n: n.bn(n.node("SpaceToDepth", n.conv(n.x, 4, 3), blocksize=2),
                                       12, *(np.tile(v, 4) for v in n.rng.uniform(0.5, 2, (4, 3))))),
    "Pad by reflection": (
        IMAGE, lambda n: n.conv(n.node("Pad", n.bn(n.x, 4), np.array([0, 0, 1, 1, 0, 0, 1, 1]),
                                       mode="reflect"), 4, 6)),
    "Pad with zeros, no shift": (
        IMAGE, lambda n: n.conv(n.node("Pad", n.bn(n.x, 4, beta=np.zeros(4), mean=np.zeros(4)),
                                       np.array([0, 0, 1, 1, 0, 0, 1, 1])), 4, 6)),
    "Flatten of a negative axis before gemm": (
        ("N", 3, 2, 2), lambda n: gemm(n, n.node("Flatten", n.bn(n.x, 3), axis=-3), 12, 4)),
    "BN BN conv": (IMAGE, lambda n: n.conv(n.bn(n.bn(n.x, 4), 4), 4, 6)),
    "conv BN BN": (IMAGE, lambda n: n.bn(n.bn(n.conv(n.x, 4, 6), 6), 6)),
    "both sides": (IMAGE, lambda n: n.bn(n.conv(n.bn(n.x, 4), 4, 6), 6)),
    "both sides of matmul": (
        ("N", 5), lambda n: n.bn(n.node("MatMul", n.bn(n.x, 5), n.normal(5, 3)), 3)),
    "gamma 0": (IMAGE, lambda n: n.bn(n.conv(n.x, 4, 6), 6, gamma=np.zeros(6))),
    "variance near 1e8": (IMAGE, lambda n: n.bn(n.conv(n.x, 4, 6), 6, var=np.full(6, 9.8e7))),
    "variance 0 and denormal": (
        IMAGE, lambda n: n.bn(n.conv(n.x, 4, 6), 6, var=np.array([0, 6e-45, 1, 0, 1e-40, 2]))),
    "epsilon 0": (IMAGE, lambda n: n.bn(n.conv(n.x, 4, 6), 6, epsilon=0.0)),
}  # fmt: skip


@pytest.mark.parametrize("what", FOLDS)
def test_folds(what):
    shape, build = FOLDS[what]
    net = Net(*shape, seed=sum(map(ord, what)))
    before = net.proto(build(net))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert "BatchNormalization" not in operators(after), report.batch_norms
    assert report.batch_norms_after == 0
    assert all(entry.status in ("folded", "merged") for entry in report.batch_norms)
    assert len(operators(after)) <= len(operators(before))
    assert_same(before, after)
    again, _ = bnpp.onnx.fold(after, verify=False)
    assert again.SerializeToString() == after.SerializeToString()


# Shape, how to build it, words of the reason, and the opset where it is not the usual one.
STAYS = {
    "ReLU between": (
        IMAGE, lambda n: n.bn(n.node("Relu", n.conv(n.x, 4, 6)), 6,
                              gamma=n.rng.uniform(0.1, 2, 6)), ["Relu", "shift"]),
    "ReLU, negative scale": (
        IMAGE, lambda n: n.bn(n.node("Relu", n.conv(n.x, 4, 6)), 6, beta=np.zeros(6),
                              mean=np.zeros(6), gamma=-np.ones(6)), ["Relu", "6", "negative"]),
    "MaxPool, negative scale": (
        IMAGE, lambda n: n.bn(n.node("MaxPool", n.conv(n.x, 4, 6), kernel_shape=[2, 2]), 6,
                              gamma=np.array([1, 1, -1, 1, 1, 1.0])), ["MaxPool", "1", "negative"]),
    "MaxPool, indices used": (
        IMAGE, lambda n: n.node("Mul", n.bn(n.node("MaxPool", n.conv(n.x, 4, 6), outputs=["p", "i"],
                                                   kernel_shape=[2, 2]), 6, gamma=np.ones(6)),
                                n.node("Cast", "i", to=11)), ["MaxPool", "indices"]),
    "AveragePool counts zeros": (
        IMAGE, lambda n: n.bn(n.node("AveragePool", n.conv(n.x, 4, 6), kernel_shape=[3, 3],
                                     pads=[1, 1, 1, 1], count_include_pad=1), 6), ["AveragePool"]),
    "padded conv": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, pads=[1, 1, 1, 1]), ["padding", "border"]),
    "SAME conv": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, auto_pad="SAME_LOWER"), ["padding"]),
    "conv transposed": (
        IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, transposed=True), ["border"]),
    "Pad and conv": (
        IMAGE, lambda n: n.conv(n.node("Pad", n.bn(n.x, 4), np.array([0, 0, 1, 1, 0, 0, 1, 1])), 4,
                                6), ["Pad"]),
    "matmul of rank 3": (
        ("N", 3, 5), lambda n: n.bn(n.node("MatMul", n.x, n.normal(5, 4)), 3), ["rows"]),
    "matmul of rank 4, one matrix": (
        ("N", 3, 4, 5), lambda n: n.bn(n.node("MatMul", n.x, n.normal(5, 3)), 3), ["axis 1"]),
    "matmul before, rows": (
        ("N", 3, 5), lambda n: n.node("MatMul", n.bn(n.x, 3), n.normal(5, 4)), ["rows"]),
    "matmul of two inputs": (
        ("N", 5, 5), lambda n: n.bn(n.node("MatMul", n.x, n.x), 5), ["not constant"]),
    "gemm transA before": (
        (5, 4), lambda n: n.node("Gemm", n.bn(n.x, 4), n.normal(5, 3), transA=1), ["rows"]),
    "gemm, live bias": (
        (3, 3), lambda n: n.bn(n.node("Gemm", n.x, n.normal(3, 3), n.x), 3), ["not constant"]),
    "conv, live weights": (
        (2, 4, 5, 5), lambda n: n.bn(n.node("Conv", n.x, n.x), 2), ["not constant"]),
    "residual": (
        IMAGE, lambda n: n.bn(n.node("Add", n.conv(n.x, 4, 6), n.conv(n.x, 4, 6)), 6),
        ["Add", "constant"]),
    "Div by the data": (
        IMAGE, lambda n: n.bn(n.node("Div", n.normal(6, 1, 1), n.conv(n.x, 4, 6)), 6), ["Div"]),
    "constant of each position": (
        IMAGE, lambda n: n.bn(n.node("Add", n.conv(n.x, 4, 6), n.normal(5, 4)), 6), ["axis 2"]),
    "constant larger than its input": (
        ("N", 4, 1, 1), lambda n: n.bn(n.node("Add", n.conv(n.x, 4, 6, 1, 1), n.normal(6, 3, 3)),
                                       6), ["larger"]),
    "another operator": (IMAGE, lambda n: n.bn(n.node("Sigmoid", n.conv(n.x, 4, 6)), 6),
                         ["Sigmoid"]),
    "between inputs and outputs": (IMAGE, lambda n: n.bn(n.x, 4), ["input", "output"]),
    "two ways to one layer": (
        IMAGE, lambda n: n.conv(doubled(n, n.bn(n.x, 4)), 8, 3), ["two ways"]),
    "half of a Concat": (
        IMAGE, lambda n: n.bn(n.node("Concat", n.conv(n.x, 4, 4, 1, 1), n.x, axis=1), 8),
        ["input of the graph"]),
    "channels split over positions": (
        ("N", 12, 2, 2), lambda n: n.conv(n.node("DepthToSpace", n.bn(n.x, 12), blocksize=2), 3, 5,
                                          1, 1), ["DepthToSpace"]),
    "channels split over axes": (
        ("N", 6, 2), lambda n: n.node("MatMul", n.node("Reshape", n.bn(n.x, 6),
                                                       np.array([0, 2, 3, 2])), n.normal(2, 3)),
        ["rows|axis"]),
    "AveragePool whose last windows hang over": (
        IMAGE, lambda n: n.bn(n.node("AveragePool", n.conv(n.x, 4, 6), kernel_shape=[2, 2],
                                     strides=[2, 2], ceil_mode=1, count_include_pad=1), 6),
        ["AveragePool"], 19),
    "Pad with a value of its own": (
        IMAGE, lambda n: n.conv(n.node("Pad", n.bn(n.x, 4, beta=np.zeros(4), mean=np.zeros(4)),
                                       pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0), 4, 6),
        ["Pad"], 9),
    "Dropout that drops": (
        IMAGE, lambda n: n.bn(n.node("Dropout", n.conv(n.x, 4, 6), np.float64(0.5),
                                     np.array(True), seed=3), 6), ["Dropout"]),
    "constant that is not finite": (
        IMAGE, lambda n: n.bn(n.node("Add", n.conv(n.x, 4, 6),
                                     np.where(channels(n, 6) > 0, np.nan, 1.0)), 6), ["NaN"]),
}  # fmt: skip


@pytest.mark.parametrize("what", STAYS)
def test_stays_with_its_reason(what):
    shape, build, words, *opset = STAYS[what]
    net = Net(*shape, opset=opset[0] if opset else 17, seed=sum(map(ord, what)))
    before = net.proto(build(net))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert after.SerializeToString() == before.SerializeToString()
    (entry,) = report.batch_norms
    assert entry.status == "stays"
    for word in words:
        assert any(w in entry.where for w in word.split("|")), entry.where
    # As Mul and Add, if asked.
    replaced, report = bnpp.onnx.fold(before, verify=False, leftover="mul_add")
    assert "BatchNormalization" not in operators(replaced)
    assert report.batch_norms[0].status == "replaced"
    assert_same(before, replaced)


PADDED = {
    "pads": ({"pads": [1, 2, 0, 1]}, False),
    "strides, dilations": ({"pads": [2, 1, 2, 1], "strides": [2, 3], "dilations": [2, 1]}, False),
    "SAME_UPPER": ({"auto_pad": "SAME_UPPER", "strides": [2, 1]}, False),
    "SAME_LOWER": ({"auto_pad": "SAME_LOWER", "strides": [3, 2]}, False),
    "groups": ({"pads": [1, 1, 1, 1], "group": 2}, False),
    "transposed": ({}, True),
    "transposed, strides": (
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}, True),
    "transposed, groups": ({"dilations": [2, 1], "group": 2, "strides": [1, 2]}, True),
}  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("what", PADDED)
def test_padding_is_corrected_exactly(what, bias):
    attributes, transposed = PADDED[what]
    net = Net("N", 4, 9, 8)
    y = net.conv(net.bn(net.x, 4), 4, 6, bias=bias, transposed=transposed, **attributes)
    before = net.proto(net.bn(y, 6))
    after, _ = bnpp.onnx.fold(before, verify=False, padded="correct")
    assert operators(after) == ["ConvTranspose" if transposed else "Conv", "Add"]
    assert_same(before, after)
    again, _ = bnpp.onnx.fold(after, verify=False, padded="correct")
    assert again.SerializeToString() == after.SerializeToString()


def test_the_border_of_a_transposed_conv_with_an_output_shape_is_not_corrected():
    """Its padding follows from the shape, which no attribute tells."""
    net = Net(*IMAGE)
    y = net.bn(net.x, 4)
    y = net.conv(y, 4, 6, transposed=True, strides=[2, 2], output_shape=[15, 13])
    before = net.proto(y)
    after, report = bnpp.onnx.fold(before, verify=False, padded="correct")
    assert after.SerializeToString() == before.SerializeToString()
    assert report.batch_norms[0].status == "stays"
    assert "output_shape" in report.batch_norms[0].where


def test_the_border_needs_a_known_size():
    net = Net("N", 4, "H", "W")
    before = net.proto(net.conv(net.bn(net.x, 4), 4, 6, pads=[1, 1, 1, 1]))
    _, report = bnpp.onnx.fold(before, verify=False, padded="correct")
    assert "size of its input" in report.batch_norms[0].where


def test_the_border_would_be_wrong_otherwise():
    """What the refusal is about: the shift is missing where zeros are padded."""
    net = Net("N", 4, 9, 8, seed=1)
    before = net.proto(net.conv(net.bn(net.x, 4), 4, 6, pads=[1, 1, 1, 1]))
    after, _ = bnpp.onnx.fold(before, verify=False, padded="correct")
    (added,) = (t for t in after.graph.initializer if t.name.endswith("_border"))
    from onnx import numpy_helper

    values = numpy_helper.to_array(added)
    inside = values[..., 1:-1, 1:-1]
    assert np.ptp(inside, axis=(2, 3)).max() < 1e-12
    assert np.abs(values - inside.mean(axis=(2, 3), keepdims=True)).max() > 0.5


def test_two_batch_norms_without_a_layer_are_merged():
    net = Net(*IMAGE)
    before = net.proto(net.bn(net.node("Mul", net.bn(net.x, 4), channels(net, 4)), 4))
    after, report = bnpp.onnx.fold(before, verify=False)
    assert operators(after) == ["BatchNormalization"]
    assert [entry.status for entry in report.batch_norms] == ["merged", "stays"]
    assert_same(before, after)
