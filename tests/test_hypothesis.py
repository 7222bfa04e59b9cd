"""Shapes, strides, axes, dtypes and values that nobody thought of, against the reference."""

import bnpp
import numpy as np
import pytest
from helpers.reference import assert_exact, backward, forward, moments

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

# The same examples on every run: what fails here can be run again.
examples = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@st.composite
def strided(draw, shape, dtype, seed):
    """Values of a shape in some permuted order, with gaps, reversed axes and an odd offset."""
    rng = np.random.default_rng(seed)
    order = draw(st.permutations(range(len(shape))))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, -1, -2]), min_size=len(shape),
                          max_size=len(shape)))  # fmt: skip
    stored = [shape[i] * abs(steps[i]) for i in order]
    offset = draw(st.sampled_from([0, 0, 1, dtype.itemsize]))
    size = int(np.prod(stored))
    base = np.zeros(size * dtype.itemsize + offset, np.uint8)[offset:].view(dtype)
    view = np.transpose(base.reshape(stored), np.argsort(order))
    view = view[tuple(slice(None, None, s) for s in steps)]
    assert view.shape == tuple(shape)
    scale, shift = draw(st.sampled_from([1e-3, 1, 1e3])), draw(st.sampled_from([0, 1, -1e3, 1e5]))
    view[...] = (rng.standard_normal(shape) + shift) * scale
    return view


@st.composite
def problems(draw):
    """x, residual and dy of one shape, gamma and beta, and the other arguments."""
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=8))
    while np.prod(shape) > 20000:
        shape[int(np.argmax(shape))] = 1
    if draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 70))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    dtype = np.dtype(draw(st.sampled_from([np.float32, np.float64])))
    seed = draw(st.integers(0, 2**32))
    x, residual, dy = (draw(strided(shape, dtype, seed + i)) for i in range(3))
    gamma, beta = np.random.default_rng(seed).standard_normal((2, shape[axis])).astype(dtype)
    keywords = {
        "axis": axis,
        "eps": draw(st.sampled_from([0.0, 1e-5, 1.0])),
        "activation": draw(st.sampled_from([None, "relu"])),
        "residual": residual if draw(st.booleans()) else None,
    }
    return x, gamma, beta, dy, keywords


@examples
@given(problems())
def test_training(problem):
    x, gamma, beta, dy, keywords = problem
    f = forward(x, gamma, beta, **keywords)
    y, saved = bnpp.batch_norm(x, gamma, beta, on_single="biased", **keywords)
    assert_exact(y, f.y, f.size, x.dtype, "y")
    expected = backward(dy, f, gamma, axis=keywords["axis"])
    check_gradients(bnpp.batch_norm_backward(dy, saved), expected)


@examples
@given(problems())
def test_frozen(problem):
    x, gamma, beta, dy, keywords = problem
    mean, var = beta + 1, gamma * gamma
    f = forward(x, gamma, beta, mean=mean, var=var, **keywords)
    y, saved = bnpp.batch_norm_inference(x, gamma, beta, mean, var, save=True, **keywords)
    assert_exact(y, f.y, f.size, x.dtype, "y")
    expected = backward(dy, f, gamma, axis=keywords["axis"], frozen=True)
    check_gradients(bnpp.batch_norm_inference_backward(dy, saved), expected)


def check_gradients(got, expected):
    """Every gradient within contract 1."""
    for name in got._fields:
        size = expected.sizes[name]
        assert_exact(getattr(got, name), getattr(expected, name), size, got.dx.dtype, name)


@examples
@given(problems(), st.integers(0, 6))
def test_moments(problem, cut):
    x, keywords = problem[0], problem[4]
    axis = keywords["axis"]
    m, (count, mean, m2) = bnpp.moments(x, axis=axis), moments(x, axis, np.longdouble)
    assert np.array_equal(m.count, np.full(x.shape[axis], count))
    root = np.sqrt(mean**2 + m2 / max(count, 1))
    assert_exact(m.mean, mean, root, np.float64, "mean")
    assert_exact(m.m2, m2, m2, np.float64, "m2")
    other = (axis + 1) % x.ndim
    parts = np.split(x, [min(cut, x.shape[other])], axis=other)
    both = bnpp.moments(parts[0], axis=axis) + bnpp.moments(parts[1], axis=axis)
    assert np.all(np.abs(both.m2 - m.m2) <= np.spacing(m.m2))


@examples
@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
        min_size=2,
        max_size=40,
    )
)
def test_any_bits_at_all(rows):
    """Whatever the values: channels with NaN or Inf are NaN, the others are right."""
    x = np.array(rows, np.float32)
    y, saved = bnpp.batch_norm(x)
    dx = bnpp.batch_norm_backward(np.ones_like(x), saved).dx
    finite = np.isfinite(x).all(0)
    assert np.isnan(y[:, ~finite]).all()
    assert np.isnan(dx[:, ~finite]).all()
    f = forward(x[:, finite])
    assert_exact(y[:, finite], f.y, f.size, np.float32)
