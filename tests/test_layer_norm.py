"""Layer and root mean square normalization against their formulas, peers and promises."""

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers import row_reference as ref
from helpers.addresses import assert_untouched_beside, at_offset, unaligned
from helpers.bits import same
from helpers.halves import assert_one_unit, dtype_of, floats
from helpers.reference import assert_exact
from helpers.rows import NORMS, back, check, data, expected, outputs, run
from helpers.settings import THREADS, agree
from helpers.shapes import ORDERS, within
from helpers.slopes import assert_slopes

# (shape, axis), each with the reason why it is here.
CASES = {
    "a vector": ((7,), 0),
    "samples of one feature": ((5, 1), -1),
    "one sample": ((1, 9), -1),
    "short samples": ((300, 5), -1),
    "more rows than a tile holds": ((700, 17), -1),
    "a transformer's width": ((70, 768), -1),
    "a row longer than a tile": ((9, 9001), -1),
    "rows in several pieces": ((3, 20011), -1),
    "rows in pieces, worked on in one go": ((34, 8200), -1),
    "trailing axes": ((6, 3, 4, 5), (1, 2, 3)),
    "axes in any order": ((6, 3, 4, 5), (3, -2)),
    "all axes": ((3, 4, 5), (0, 1, 2)),
    "the first axis": ((33, 40), 0),
    "an axis in the middle": ((5, 19, 6), 1),
    "axes apart": ((3, 4, 5, 6), (0, 2)),
    "axes of one element": ((3, 1, 5, 1), (1, 2)),
    "8 dimensions": ((2, 3, 2, 1, 2, 3, 2, 2), (1, 4, 7)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@cases
def test_shapes_and_axes(case, norm, dtype):
    shape, axis = case
    saved = check(norm, *data(*case, dtype), axis)
    features, _ = ref.axes_of(axis, len(shape))
    assert (saved.axis, saved.shape, saved.eps) == (features, shape, 1e-5)
    assert saved.count == np.prod(ref.shape_along(shape, features))
    assert saved.reason is None
    assert saved.nbytes > 0


def test_lengths_about_the_lane_width(norm, dtype):
    for n in range(1, 34):
        with within(n):
            check(norm, *data((3, n), 1, dtype), 1)
            check(norm, *data((n, 3), 1, dtype), 1)


@pytest.mark.parametrize("std", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("mean", [0.0, 1.0, 1e2, 1e4, 1e6])
def test_exact_at_any_mean(mean, std, norm, dtype):
    check(norm, *data((11, 777), -1, dtype, mean=mean * std, std=std), -1, eps=0.0)


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 1e10])
def test_constant_samples_become_beta(value, dtype):
    x, gamma, beta, dy = data((4, 100), -1, dtype)
    x[:] = value
    for eps in (0.0, 1e-5):
        y, saved = bnpp.layer_norm(x, gamma, beta, eps=eps)
        assert np.array_equal(y, np.broadcast_to(beta, y.shape))
        assert not saved.var.any()
    y, saved = bnpp.layer_norm(x, gamma, beta, eps=0.0)
    assert not saved.inv_std.any()
    assert not bnpp.layer_norm_backward(dy, saved).dx.any()
    y, saved = bnpp.rms_norm(np.zeros_like(x), gamma, eps=0.0)
    assert not y.any()
    assert not bnpp.rms_norm_backward(dy, saved).dx.any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axis", [-1, 1, (0, 2), (1, 2)], ids=str)
def test_memory_orders(order, axis, norm, dtype):
    x, gamma, beta, dy = data((6, 5, 21), axis, dtype)
    x, dy = ORDERS[order](x), ORDERS[order](dy)
    check(norm, x, gamma, beta, dy, axis)
    check(norm, x, gamma, beta, np.ascontiguousarray(dy), axis)
    moved = unaligned(gamma), beta[..., ::-1].copy()[..., ::-1]
    check(norm, x, *moved, dy, axis)
    out = ORDERS["gaps"](np.zeros_like(x))
    y, saved = run(norm, x, gamma, beta, axis=axis, out=out)
    assert y is out
    assert np.array_equal(y, run(norm, x, gamma, beta, axis=axis)[0])
    back(norm, dy, saved, out=out)
    assert np.array_equal(out, back(norm, dy, saved).dx)


BITS = [
    ((37, 45), -1),
    ((700, 70), -1),
    ((90, 768), -1),
    ((5, 20011), -1),
    ((4, 6, 70), (0, 2)),
]


@pytest.mark.parametrize("case", BITS, ids=str)
def test_every_isa_and_number_of_threads(case, norm, dtype):
    inputs = data(*case, dtype, mean=1e3)
    agree(lambda: outputs(norm, *inputs, case[1]), THREADS)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("case", BITS, ids=str)
def test_alignment_streaming_and_out_do_not_matter(case, name, norm, isa):
    dtype = dtype_of(name)
    x, gamma, beta, dy = data(*case, dtype, mean=10)
    first = outputs(norm, x, gamma, beta, dy, case[1])
    moved = [unaligned(a) for a in (x, gamma, beta, dy)]
    same(first, outputs(norm, *moved, case[1]), "unaligned")
    out, dx = np.full_like(x, 7), np.full_like(x, 7)
    same(first, outputs(norm, x, gamma, beta, dy, case[1], out=out, dx=dx), "out")
    _core.set_stream_above(0)
    same(first, outputs(norm, x, gamma, beta, dy, case[1]), "streamed")
    for shift in (1, 5):
        (m1, out), (m2, dx) = (at_offset(x.shape, dtype, shift) for _ in "yd")
        found = outputs(norm, x, gamma, beta, dy, case[1], out=out, dx=dx)
        same(first, found, f"{shift} elements off a cache line")
        assert_untouched_beside(m1, out)
        assert_untouched_beside(m2, dx)


@pytest.mark.parametrize("case", [((33, 45), -1), ((5, 20, 7), 1), ((40, 768), -1)], ids=str)
def test_halves(case, half, norm):
    x, gamma, beta, dy = data(*case, half)

    def call():
        y, saved = run(norm, x, gamma, beta, axis=case[1])
        return y, back(norm, dy, saved)

    y, got = agree(call)
    wide = [floats(a) for a in (x, gamma, beta, dy)]
    f, g = expected(norm, *wide, case[1])
    assert_one_unit(y, ref.tensor(f.y, *case).astype(float), half, "y")
    assert_one_unit(got.dx, ref.tensor(g.dx, *case).astype(float), half, "dx")
    for field in got._fields[1:]:
        value, exact = getattr(got, field), getattr(g, field).reshape(gamma.shape)
        assert_exact(value, exact, g.sizes[field].reshape(gamma.shape), np.float32, field)


@pytest.mark.parametrize("axis", [-1, 1, (0, 2)], ids=str)
def test_central_differences(axis, norm):
    """Each gradient is the slope of L = sum(c*y), found without any formula of the backward."""
    x, gamma, beta, c = data((3, 4, 5), axis, np.float64, mean=0.5, std=1)
    inputs = {"x": x, "gamma": gamma} | ({} if norm == "rms" else {"beta": beta})
    keywords = {"axis": axis, "eps": 1e-3}
    _, saved = run(norm, **inputs, **keywords)
    gradients = back(norm, c, saved)
    assert_slopes(gradients, lambda v: np.sum(c * run(norm, **v, **keywords)[0]), inputs)


def test_parameters_are_optional(norm, dtype):
    x, _, _, dy = data((6, 33), -1, dtype)
    plain = outputs(norm, x, None, None, dy, -1)
    same(plain, outputs(norm, x, np.ones(33), np.zeros(33), dy, -1), "given")


def test_equal_gradients_add_up_exactly(norm, dtype):
    """Rounding errors of equal terms all have the same sign: nothing but short sums hides them."""
    for shape in ((20000, 3), (300, 768), (2, 40000)):
        x, gamma, beta, dy = data(shape, -1, dtype)
        dy[:] = 0.1
        check(norm, x, gamma, beta, dy, -1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_sample(value, norm, dtype):
    x, gamma, beta, dy = data((21, 50), -1, dtype)
    clean = run(norm, x, gamma, beta)
    clean_dx = back(norm, dy, clean[1]).dx
    x = x.copy()
    x[7, 13] = value
    y, saved = run(norm, x, gamma, beta)
    got = back(norm, dy, saved)
    others = np.arange(21) != 7
    assert np.isnan(y[7]).any()
    assert np.array_equal(y[others], clean[0][others])
    assert np.array_equal(got.dx[others], clean_dx[others])
    assert np.isnan(got.dgamma).any()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_dy_gives_infinite_gradients_of_its_parameters(value, norm, dtype):
    """Not NaN, as Inf - Inf in the compensation of a sum would be; and of no other parameter."""
    x, gamma, beta, dy = data((40, 9), -1, dtype)
    dy[3, 2] = value
    saved = run(norm, x, gamma, beta)[1]
    got = agree(lambda: back(norm, dy, saved))
    assert np.isinf(got.dgamma[2])
    assert np.isfinite(np.delete(got.dgamma, 2)).all()
    if norm == "layer":
        assert got.dbeta[2] == value
        assert np.isfinite(np.delete(got.dbeta, 2)).all()


def test_saved_can_be_used_again(norm, dtype):
    x, gamma, beta, dy = data((6, 33), -1, dtype)
    _, saved = run(norm, x, gamma, beta)
    gamma[:] = np.nan  # what the forward used counts, not what the array holds now
    first, second = back(norm, dy, saved), back(norm, dy, saved)
    assert np.isfinite(first.dx).all()
    same(first, second, "again")


def test_out_may_be_dy(norm, dtype):
    x, gamma, beta, dy = data((6, 33), -1, dtype)
    _, saved = run(norm, x, gamma, beta)
    first = back(norm, dy.copy(), saved)
    got = back(norm, dy, saved, out=dy)
    assert got.dx is dy
    same(first, got, "out=dy")


def test_overwritten_x_serves_no_backward(norm, dtype):
    x, gamma, beta, dy = data((6, 33), -1, dtype)
    first = run(norm, x, gamma, beta)[0]
    y, saved = run(norm, x, gamma, beta, out=x)
    assert y is x
    assert np.array_equal(y, first)
    assert "overwritten" in saved.reason
    with pytest.raises(ValueError, match=rf"{norm}_norm_backward: x was overwritten by out=x"):
        back(norm, dy, saved)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0), (0,)], ids=str)
def test_empty(shape, norm, dtype):
    x = np.empty(shape, dtype)
    gamma = np.ones(shape[-1])
    y, saved = run(norm, x, gamma, gamma)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert saved.mean.shape == saved.var.shape == saved.inv_std.shape == shape[:-1]
    assert saved.count == shape[-1]
    got = back(norm, x, saved)
    assert got.dx.shape == shape
    for value in got[1:]:
        assert np.array_equal(value, np.zeros(shape[-1]))


def test_the_two_kinds_of_saved_are_not_mixed():
    x, gamma, beta, dy = data((6, 33), -1)
    _, layer = bnpp.layer_norm(x, gamma, beta)
    _, rms = bnpp.rms_norm(x, gamma)
    _, batch = bnpp.batch_norm(x)
    with pytest.raises(ValueError, match=r"^rms_norm_backward: saved comes from layer_norm, whose"):
        bnpp.rms_norm_backward(dy, layer)
    with pytest.raises(ValueError, match=r"^layer_norm_backward: saved comes from rms_norm, whose"):
        bnpp.layer_norm_backward(dy, rms)
    with pytest.raises(TypeError, match=r"^layer_norm_backward: saved is of type Saved"):
        bnpp.layer_norm_backward(dy, batch)


X = np.ones((5, 13, 7), np.float32)
REFUSED = {
    "short gamma": (
        {"gamma": np.ones(6)},
        ValueError,
        r"gamma has shape \(6,\), .* \(7,\) along axis 2",
    ),
    "long beta": ({"beta": np.ones((1, 7))}, ValueError, r"beta has shape \(1, 7\), .* \(7,\)"),
    "tuple": (
        {"gamma": np.ones((7, 13)), "axis": (2, 1)},
        ValueError,
        r"gamma has shape \(7, 13\), but it needs x's \(13, 7\) along axis \(1, 2\)",
    ),
    "integers": ({"gamma": np.ones(7, int)}, TypeError, "gamma has dtype int64"),
    "no axis": ({"axis": ()}, ValueError, r"axis is \(\)"),
    "axis 3": ({"axis": 3}, ValueError, "axis is 3, but x has 3 dimensions.*-3 to 2"),
    "axis twice": ({"axis": (1, -2)}, ValueError, "axis names axis 1 twice"),
    "axis 1.0": ({"axis": 1.0}, TypeError, "axis is 1.0"),
    "axis None": ({"axis": None}, TypeError, "axis is None"),
    "eps": ({"eps": -1.0}, ValueError, "eps is -1"),
    "out shape": ({"out": np.ones((5, 13, 6), "f4")}, ValueError, r"out has shape \(5, 13, 6\)"),
    "out dtype": ({"out": np.ones((5, 13, 7))}, TypeError, "out has dtype float64"),
    "out list": ({"out": [1.0]}, TypeError, "out is of type list"),
    "x": ({"x": None}, TypeError, "x is None"),
    "x int": ({"x": X.astype(int)}, TypeError, "x has dtype int64"),
    "0-D": ({"x": np.float32(1)}, ValueError, "x is a single number"),
    "9-D": ({"x": np.ones((1,) * 9)}, ValueError, "x has 9 dimensions"),
}


@pytest.mark.parametrize(
    ("what", "norm"),
    [
        (w, n)
        for w, (given, *_) in REFUSED.items()
        for n in NORMS
        if n == "layer" or "beta" not in given
    ],
)
def test_refusals(what, norm):
    given, error, words = REFUSED[what]
    keywords = {"x": X.copy(), "out": np.full_like(X, 7)} | given
    before = {k: v.copy() for k, v in keywords.items() if isinstance(v, np.ndarray)}
    function = bnpp.rms_norm if norm == "rms" else bnpp.layer_norm
    with pytest.raises(error, match=rf"^{norm}_norm: .*{words}"):
        function(**keywords)
    for name, value in before.items():
        assert np.array_equal(keywords[name], value)


def test_refusals_of_the_backward(norm):
    x, gamma, beta, dy = data((6, 33), -1)
    _, saved = run(norm, x, gamma, beta)
    where = f"^{norm}_norm_backward: "
    big = np.zeros(x.size + 1, x.dtype)
    shifted = big[1:].reshape(x.shape)
    shifted[:] = x
    _, of_shifted = run(norm, shifted, gamma, beta)
    for wrong, error, words in (
        ((dy[:5], saved), ValueError, r"dy has shape \(5, 33\)"),
        ((dy.astype(float), saved), TypeError, "dy has dtype float64"),
        ((None, saved), TypeError, "dy is None"),
        ((dy, None), TypeError, "saved is of type NoneType"),
        ((dy, saved, dy[:, 1:]), ValueError, "out has shape"),
        ((dy, saved, x), ValueError, "out shares memory with saved's x"),
        ((dy, of_shifted, big[:-1].reshape(x.shape)), ValueError, "out shares memory with saved's"),
    ):
        *positional, out = (*wrong, None)[:3]
        with pytest.raises(error, match=where + words):
            back(norm, *positional, out=out)


@pytest.mark.parametrize("axis", [-1, (1, 2)], ids=str)
def test_torch_is_a_peer(axis, norm, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, gamma, beta, dy = data((6, 5, 48), axis, dtype)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, gamma, beta)]
    function = torch.nn.functional
    if norm == "rms":
        theirs = function.rms_norm(leaves[0], gamma.shape, leaves[1], 1e-5)
    else:
        theirs = function.layer_norm(leaves[0], gamma.shape, *leaves[1:], 1e-5)
    theirs.backward(torch.from_numpy(dy))
    y, saved = run(norm, x, gamma, beta, axis=axis)
    got = back(norm, dy, saved)
    close = {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y, theirs.detach().numpy(), **close)
    for mine, leaf in zip(got, leaves, strict=False):
        np.testing.assert_allclose(mine, leaf.grad.numpy(), **close)
