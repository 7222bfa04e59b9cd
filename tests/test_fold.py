"""A folded layer computes what the layer with its batch normalizations computed.

The expected outputs are those of helpers/convolution.py; `assert_folds` holds the difference against the
report's bound. Tests named after a bug are those that other tools have shipped.
"""

from importlib.util import find_spec

import bnpp
import numpy as np
import pytest
from helpers import convolution
from helpers.fold_cases import assert_folds, batch_norm, difference, fold, make, some_map
from helpers.shapes import ORDERS

KERNELS = {1: "W", 2: "HW", 3: "DHW"}
SIDES = {"after": (True, False), "before": (False, True), "both": (True, True)}
sides = pytest.mark.parametrize(("after", "before"), SIDES.values(), ids=SIDES)


@sides
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("layout", ["OI", "IO"])
def test_linear(layout, bias, after, before, dtype):
    assert_folds(make(layout, bias=bias, after=after, before=before, dtype=dtype))


@sides
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("rank", KERNELS)
def test_conv(rank, groups, after, before, dtype):
    p = make("OI" + KERNELS[rank], 8, 4, groups=groups, after=after, before=before, dtype=dtype,
             stride=2, size=5)  # fmt: skip
    assert_folds(p)
    assert_folds(p, layout=None)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("rank", KERNELS)
def test_transposed_conv_with_groups(rank, groups, dtype):
    """The groups split the input axis, and the output axis holds those of one group (PyTorch #180995)."""
    p = make("IO" + KERNELS[rank], 8, 4, groups=groups, transposed=True, dtype=dtype, stride=2,
             size=4, pad=1)  # fmt: skip
    assert_folds(p)
    assert_folds(p, layout=None)


@sides
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_with_bias(multiplier, bias, after, before):
    """The bias of a depthwise layer was lost (ncnn #1339)."""
    assert_folds(make("OIHW", 4 * multiplier, 4, groups=4, bias=bias, after=after, before=before))


@sides
@pytest.mark.parametrize("layout", ["HWIO", "OHWI", "IOHW", "HWOI", "WHOI", "GOIHW", "HWGO", "HWG"])
def test_layouts(layout, after, before):
    """Each letter order, and groups with an axis of their own; square kernels hide nothing here."""
    depthwise = "G" in layout and "I" not in layout
    outputs = 4 if layout == "HWG" else 8
    p = make(layout, outputs, 4, groups=4 if depthwise else 2, after=after, before=before)
    if "G" not in layout:
        assert p.weight.shape[layout.index("O")] == 8
        assert p.weight.shape[layout.index("I")] == 2
    assert_folds(p)


@pytest.mark.parametrize("layout", ["HWOI", "OIHW", "GIOHW", "GOIHW", "HWGOI"])
def test_transposed_layouts(layout):
    assert_folds(make(layout, 8, 6, groups=2, transposed=True, stride=2))


@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(order):
    p = make("OIHW", 6, 4, groups=2, before=True)
    want = fold(p)
    given = ORDERS[order](p.weight)
    if order == "broadcast":
        p = p._replace(weight=given.copy())
        want = fold(p)
    got = fold(p._replace(weight=given))
    assert np.array_equal(got.weight, want.weight)
    assert np.array_equal(got.bias, want.bias)
    assert not np.shares_memory(got.weight, given)
    if order in ("fortran", "channels_last"):
        assert got.weight.strides == given.strides


def test_same_bits_on_any_number_of_threads():
    p = make("OIHW", 24, 16, before=True, size=3)
    with bnpp.thread_limit(1):
        one = fold(p)
    bnpp._core.set_min_work(1)
    with bnpp.thread_limit(7):
        many = fold(p)
    assert np.array_equal(one.weight, many.weight)
    assert np.array_equal(one.bias, many.bias)
    assert one.report.to_dict() == many.report.to_dict()


def test_float64_rounded_once():
    """Both maps in one rounding: no value is more than half a step from the exact one."""
    p = make("OIHW", after=True, before=True)
    s, t = (v.astype(np.longdouble) for v in (p.after.scale, p.before.scale))
    exact = p.weight * s[:, None, None, None] * t[:, None, None]
    assert np.array_equal(fold(p).weight, exact.astype("f4"))


HALVES = ["float16", pytest.param("bfloat16", marks=pytest.mark.skipif(
    find_spec("ml_dtypes") is None, reason="ml_dtypes is not installed"))]  # fmt: skip


@sides
@pytest.mark.parametrize("name", HALVES)
def test_halves(name, after, before):
    """Widened exactly, folded in float64, rounded once: nothing passes through float32."""
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401, because it gives NumPy the dtype
    dtype = np.dtype(name)
    p = make(groups=2, after=after, before=before, dtype=dtype)
    folded = assert_folds(p)
    bare = assert_folds(p._replace(bias=None))
    assert (folded.bias.dtype, bare.bias.dtype) == (dtype, dtype)
    scale = p.after.scale if after else np.ones(6)
    scale_in = p.before.scale.reshape(2, 1, 2) if before else 1
    exact = p.weight.astype(float).reshape(2, 3, 2, 9) * np.expand_dims(scale_in, -1)
    exact = (exact * scale.reshape(2, 3, 1, 1)).reshape(p.weight.shape)
    assert np.array_equal(folded.weight, exact.astype(dtype))
    assert fold(p._replace(bias=p.bias.astype("f4"))).bias.dtype == np.float32


def test_float16_overflow_is_refused():
    with pytest.raises(
        ValueError, match=r"folded weight of output channel 0 is 100000, too large for float16"
    ):
        bnpp.fold_linear(np.full((1, 1), 1e4, "f2"), after=bnpp.Affine([10.0], [0.0]))


# ---- What others got wrong.


def test_conv_without_bias():
    """The layer gets one: b' = t, not nothing."""
    p = make(bias=False)
    folded = assert_folds(p)
    assert np.array_equal(folded.bias, p.after.shift.astype("f4"))


def test_shared_weight_is_copied():
    """One weight in front of two batch normalizations: each gets its own copy (PyTorch #124808, TNN #808)."""
    p = make()
    other = p._replace(after=some_map(np.random.default_rng(1), 6))
    first, second = assert_folds(p), assert_folds(other)
    assert not np.shares_memory(first.weight, second.weight)
    assert np.array_equal(first.weight, fold(p).weight)


def test_conv_used_with_and_without_batch_norm():
    """The bare use must stay what it was (PyTorch #197539)."""
    p = make()
    bare = convolution.layer(p, p.x, p.weight, p.bias)
    fold(p)
    assert np.array_equal(convolution.layer(p, p.x, p.weight, p.bias), bare)


def test_bias_counts_once():
    """As with Gemm's beta, which onnxscript #3027 applied twice."""
    bn = bnpp.affine([3.0], [1.0], [2.0], [9.0], eps=0.0)
    folded = bnpp.fold_linear([[0.0]], [5.0], after=bn, before=bnpp.Affine([2.0], [7.0]))
    assert folded.bias.tolist() == [(5 - 2) * 3 / 3 + 1]


def test_linear_weight_of_rank_3_is_refused():
    """A stack of matrices is no matrix (onnxruntime #22762)."""
    with pytest.raises(ValueError, match="2 axes, but weight has 3 dimensions"):
        bnpp.fold_linear(np.ones((2, 3, 3), "f4"), after=bnpp.Affine.identity(3))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv_add_batch_norm_with_groups(groups):
    """A constant added in between, with groups (onnxruntime #12498)."""
    p = make(outputs=8, groups=groups)
    added = bnpp.Affine(np.ones(8), np.random.default_rng(5).standard_normal(8))
    assert_folds(p._replace(after=p.after @ added))


def test_folding_again_gives_the_same():
    """Folded weights were multiplied again at each step (darknet #5069)."""
    p = make()
    first = fold(p)
    for _ in range(3):
        again = fold(p)
        assert np.array_equal(again.weight, first.weight)
        assert np.array_equal(again.bias, first.bias)


def test_difference_in_float32_has_a_bound():
    """A change of 3.8e-6 was reported as a bug, because nobody said what to expect (onnx/optimizer #255)."""
    p = make(outputs=16, inputs=32, size=9)
    folded = fold(p)
    f4 = np.float32

    def run(weight, bias):
        w = weight.reshape(16, -1)
        columns = [p.x[0, :, i : i + 3, j : j + 3].reshape(-1) for i in range(7) for j in range(7)]
        return (np.stack(columns) @ w.T + bias).astype(f4)

    gamma, beta, mean, var = batch_norm(np.random.default_rng(9), 16)
    folded = bnpp.fold_conv(p.weight, p.bias, after=bnpp.affine(gamma, beta, mean, var))
    apart = (run(p.weight, p.bias) - mean) / np.sqrt(var + f4(1e-5)) * gamma + beta
    change = np.abs(apart - run(folded.weight, folded.bias)).max(0)
    bound = folded.report.bound(float(np.abs(p.x).max()), unit_roundoff=2.0**-24)
    assert change.max() > folded.report.bound(np.abs(p.x).max()).max() / 100
    assert np.all(change <= bound)


def test_naive_fold_before_zero_padding_is_far_off():
    """The zeros of the border would have to be shifted too; what everybody's formula gives is wrong."""
    p = make(after=False, before=True, pad=1)
    with pytest.raises(ValueError, match="zeros of the padding"):
        fold(p)
    naive = fold(p, padding=0)
    assert difference(p, naive).max() > 5
    exact = assert_folds(p, padding="pad_value")
    assert np.array_equal(exact.pad_value, -p.before.shift / p.before.scale)


@pytest.mark.parametrize(
    "padding", [0, (0, 0), ((0, 0), (0, 0)), "valid", np.int64(0), np.zeros(4, int), []]
)
def test_no_padding(padding):
    assert_folds(make(after=False, before=True), padding=padding)


@pytest.mark.parametrize(
    "padding", [1, (0, 1), ((0, 0), (0, 1)), "same", -1, True, np.array([0, 1])]
)
def test_zero_padding_refused(padding):
    p = make(after=False, before=True, pad=1)
    with pytest.raises(ValueError, match=r"before has shift .* channel 0"):
        fold(p, padding=padding)


@pytest.mark.parametrize("padding", [1, "same", "pad_value"])
def test_zero_padding_without_shift_is_exact(padding):
    p = make(after=True, before=True, pad=1)
    p = p._replace(before=bnpp.Affine(p.before.scale, np.zeros(4)))
    folded = assert_folds(p, padding=padding)
    if padding == "pad_value":
        assert folded.pad_value.tolist() == [0] * 4


def test_padding_does_not_concern_a_map_after():
    assert_folds(make(pad=1))


def test_pad_value_of_a_dead_channel():
    """Scale 0 leaves nothing that a border could be multiplied with."""
    p = make(after=False, before=True, pad=1)
    scale, shift = p.before.scale.copy(), p.before.shift.copy()
    scale[2] = 0
    with pytest.raises(ValueError, match=r"scale 0 and shift .* channel 2"):
        fold(p._replace(before=bnpp.Affine(scale, shift)), padding="pad_value")
    shift[2] = 0
    p = p._replace(before=bnpp.Affine(scale, shift))
    assert assert_folds(p, padding="pad_value").pad_value[2] == 0


def test_before_a_transposed_conv():
    """Its outputs do not all see the same kernel positions, so a shift is no constant there."""
    p = make("IOHW", after=False, before=True, transposed=True, stride=2)
    with pytest.raises(ValueError, match="transposed convolution does not spread"):
        fold(p)
    for pad in (0, 1):
        without = p._replace(before=bnpp.Affine(p.before.scale, np.zeros(4)), pad=pad)
        assert_folds(without)


# ---- Odd statistics that real models hold.


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("var", [0.0, 6e-45, 1e-30, 9.8e7, 3e38])
def test_odd_variances(var, eps):
    p = make()
    gamma, beta, mean, _ = batch_norm(np.random.default_rng(2), 6)
    variances = np.full(6, 2, np.float32)
    variances[3] = var
    bn = bnpp.affine(gamma, beta, mean, variances, eps)
    folded = assert_folds(p._replace(after=bn))
    assert np.isfinite(folded.weight).all()
    assert folded.report.zero_variances == ((3,) if var == 0 else ())
    assert folded.report.denormal_variances == ((3,) if var == 6e-45 else ())
    assert folded.report.dead_channels == ((3,) if var == 0 and eps == 0 else ())


def test_negative_gamma():
    p = make()
    gamma, beta, mean, var = batch_norm(np.random.default_rng(2), 6)
    assert_folds(p._replace(after=bnpp.affine(-np.abs(gamma), beta, mean, var)))


def test_nan_stays_in_its_channel():
    p = make()
    scale = p.after.scale.copy()
    scale[1] = np.nan
    folded = fold(p._replace(after=bnpp.Affine(scale, p.after.shift)))
    assert np.isnan(folded.weight[1]).all()
    assert np.isfinite(np.delete(folded.weight, 1, axis=0)).all()
    assert np.isnan(folded.report.weight_rounding).tolist() == [False, True] + [False] * 4
    assert np.isnan(folded.report.max_weight_change)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (6, 0, 3, 3), (6, 4, 0, 3)])
def test_empty_weight(shape):
    after = bnpp.Affine(np.full(shape[0], 2.0), np.ones(shape[0]))
    before = bnpp.Affine.identity(shape[1])
    folded = bnpp.fold_conv(np.ones(shape, "f4"), after=after, before=before)
    assert folded.weight.shape == shape
    assert np.array_equal(folded.bias, np.ones(shape[0], "f4"))
    assert folded.report.growth.tolist() == [1.0] * shape[0]
    assert str(folded.report)


# ---- Through the layers in between.


def test_flatten_repeats_channels():
    """BN -> Flatten -> Linear: each channel of the map stands for H * W inputs."""
    rng = np.random.default_rng(3)
    x, bn = rng.standard_normal((5, 3, 2, 4)), some_map(rng, 3)
    weight = rng.standard_normal((7, 24))
    folded = bnpp.fold_linear(weight, before=bn.repeat(8))
    expected = convolution.mapped(bn, x).reshape(5, -1) @ weight.T
    got = x.reshape(5, -1).astype(np.longdouble) @ folded.weight.T + folded.bias
    assert np.abs(got - expected).max() < 1e-13


def test_concat_splits_channels():
    """Concat -> BN: each branch folds its part of the map."""
    parts = [make(outputs=n, seed=n, after=False) for n in (2, 5, 3)]
    bn = some_map(np.random.default_rng(4), 10)
    together = np.concatenate([convolution.layer(p, p.x, p.weight, p.bias) for p in parts], axis=1)
    expected = convolution.mapped(bn, together)
    folded = [fold(p._replace(after=a)) for p, a in zip(parts, bn.split([2, 5, 3]), strict=True)]
    got = [convolution.refolded(p, f) for p, f in zip(parts, folded, strict=True)]
    assert np.abs(np.concatenate(got, axis=1) - expected).max() < 1e-5


def test_pixel_shuffle_repeats_channels():
    """Conv -> PixelShuffle(2) -> BN: four channels of the layer make one of the map."""
    p = make(outputs=12, after=False)
    bn = some_map(np.random.default_rng(6), 3)

    def shuffle(y):
        n, _, h, w = y.shape
        return y.reshape(n, 3, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, 3, 2 * h, 2 * w)

    expected = convolution.mapped(bn, shuffle(convolution.layer(p, p.x, p.weight, p.bias)))
    folded = fold(p._replace(after=bn.repeat(4)))
    assert np.abs(shuffle(convolution.refolded(p, folded)) - expected).max() < 1e-5


def test_lists_and_other_arrays():
    folded = bnpp.fold_linear([[1.0, 2.0]], [1.0], after=bnpp.Affine([2.0], [0.0]))
    assert folded.weight.tolist() == [[2.0, 4.0]]
    mixed = bnpp.fold_linear(np.ones((1, 2), "f4"), np.ones(1), after=bnpp.Affine([0.1], [0.0]))
    assert (mixed.weight.dtype, mixed.bias.dtype) == (np.float32, np.float64)
    assert mixed.bias[0] == 0.1
