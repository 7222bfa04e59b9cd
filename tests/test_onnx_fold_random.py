"""Random graphs of the patterns: the float64 outputs are the same before and after, whatever folds."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
from helpers.onnx_nets import STYLES, Net, assert_same, operators
from hypothesis import given, settings
from hypothesis import strategies as st


class Walk:
    """A value in a growing graph, of shape (N, c, h, w) or (N, c)."""

    def __init__(self, net):
        self.net, self.rng = net, net.rng
        self.value, self.c, self.size = net.x, 4, (6, 6)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def flat(self):
        return self.size is None

    def bn(self):
        ones, zeros = np.ones(self.c), np.zeros(self.c)
        kind = self.pick("any", "any", "positive", "scale only", "dead")
        given = {"gamma": ones * 0.7} if kind in ("positive", "scale only") else {}
        given |= {"beta": zeros, "mean": zeros} if kind == "scale only" else {}
        given |= {"gamma": self.rng.integers(0, 2, self.c) * 1.0} if kind == "dead" else {}
        self.value = self.net.bn(self.value, self.c, **given)

    def conv(self):
        if self.flat():
            self.gemm()
            return
        group = self.pick(1, 2) if self.c % 2 == 0 else 1
        out, k = 2 * group, self.pick(1, 2, 3)
        pads = self.pick([0] * 4, [1, 0, 1, 1])
        sizes = [n + pads[i] + pads[i + 2] - k + 1 for i, n in enumerate(self.size)]
        if min(sizes) < 1:
            self.relu()
            return
        bias = bool(self.pick(0, 1))
        self.value = self.net.conv(self.value, self.c, out, k, k, group=group, bias=bias, pads=pads)
        self.c, self.size = out, tuple(sizes)

    def conv_transposed(self):
        if self.flat() or max(self.size) > 8:
            self.conv()
            return
        group = self.pick(1, 2) if self.c % 2 == 0 else 1
        out, k, s = 2 * group, self.pick(1, 2), self.pick(1, 2)
        self.value = self.net.conv(
            self.value, self.c, out, k, k, group=group, transposed=True, strides=[s, s]
        )
        self.c, self.size = out, tuple((n - 1) * s + k for n in self.size)

    def relu(self):
        self.value = self.net.node(self.pick("Relu", "LeakyRelu", "Sigmoid"), self.value)

    def constant(self):
        shape = (self.c,) if self.flat() else self.pick((self.c, 1, 1), (1, self.c, 1, 1), (1,))
        other = self.net.rng.uniform(0.5, 2, shape) * self.pick(-1, 1)
        inputs = [self.value, self.net.const(other)]
        kind = self.pick("Add", "Sub", "Mul", "Div")
        if kind != "Div" and self.pick(0, 1):
            inputs.reverse()
        self.value = self.net.node(kind, *inputs)

    def pool(self):
        if self.flat() or min(self.size) < 2:
            self.constant()
            return
        kind = self.pick("MaxPool", "AveragePool")
        self.value = self.net.node(kind, self.value, kernel_shape=[2, 2])
        self.size = tuple(n - 1 for n in self.size)

    def flatten(self):
        if self.flat():
            self.gemm()
            return
        if self.pick(0, 1):
            self.value = self.net.node("Flatten", self.value)
        else:
            self.value = self.net.node("Reshape", self.value, np.array([0, -1]))
        self.c, self.size = self.c * self.size[0] * self.size[1], None

    def gemm(self):
        if not self.flat():
            self.flatten()
            return
        out = self.pick(2, 3)
        kind = self.pick("Gemm", "GemmT", "MatMul", "MatMulAdd")
        if kind == "GemmT":
            weight = self.net.normal(out, self.c)
            self.value = self.net.node(
                "Gemm", self.value, weight, self.net.normal(out), transB=1, alpha=0.5, beta=1.5
            )
        else:
            weight = self.net.normal(self.c, out)
            self.value = self.net.node(kind[: 4 if kind == "Gemm" else 6], self.value, weight)
        if kind == "MatMulAdd":
            self.value = self.net.node("Add", self.value, self.net.normal(out))
        self.c = out

    def concat(self):
        """The value twice, on two ways."""
        start, c, size = self.value, self.c, self.size
        ends, channels = [], 0
        for steps in (("bn",), ("gemm", "bn") if size is None else ("one", "bn")):
            self.value, self.c, self.size = start, c, size
            for step in self.pick((), steps):
                getattr(self, step)()
            ends.append(self.value)
            channels += self.c
        self.value = self.net.node("Concat", *ends, axis=1)
        self.c = channels

    def one(self):
        self.value = self.net.conv(self.value, self.c, 3, 1, 1)
        self.c = 3

    def transposes(self):
        if self.flat():
            self.constant()
            return
        turned = self.net.node("Transpose", self.value, perm=[0, 2, 3, 1])
        turned = self.net.node("MatMul", turned, self.net.normal(self.c, 3))
        self.value = self.net.node("Transpose", turned, perm=[0, 3, 1, 2])
        self.c = 3


STEPS = ["bn", "bn", "bn", "conv", "conv_transposed", "relu", "constant", "pool", "flatten", "gemm",
         "concat", "transposes"]  # fmt: skip

GRAPHS = {
    "steps": st.lists(st.sampled_from(STEPS), min_size=2, max_size=8),
    "seed": st.integers(0, 1000),
    "style": st.sampled_from(STYLES),
}


def build(steps, seed, **more):
    net = Net("N", 4, 6, 6, seed=seed, **more)
    walk = Walk(net)
    for step in steps:
        getattr(walk, step)()
    # An output may not be an input.
    return net.proto(net.node("Identity", walk.value))


@given(**GRAPHS, padded=st.sampled_from(["refuse", "correct"]),
       leftover=st.sampled_from(["keep", "mul_add"]))  # fmt: skip
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_outputs_stay_the_same_in_float64(steps, seed, style, padded, leftover):
    before = build(steps, seed, style=style)
    options = {"padded": padded, "leftover": leftover, "verify": False}
    after, report = bnpp.onnx.fold(before, **options)
    assert len(report.batch_norms) == operators(before).count("BatchNormalization")
    left = operators(after).count("BatchNormalization")
    assert left == report.batch_norms_after
    assert left == [entry.status for entry in report.batch_norms].count("stays")
    assert leftover == "keep" or left == 0
    assert all(entry.reasons for entry in report.batch_norms if entry.status == "stays")
    assert_same(before, after, 1e-11)
    again, _ = bnpp.onnx.fold(after, **options)
    assert again.SerializeToString() == after.SerializeToString()


@given(**GRAPHS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_float32_outputs_stay_within_the_predicted_bound(steps, seed, style):
    _, report = bnpp.onnx.fold(build(steps, seed, style=style, dtype="f4"), padded="correct")
    assert report.verification.passed
