"""What the tests of folding share: layers of every kind, maps to fold, and the comparison."""

import bnpp
import numpy as np

from helpers import convolution
from helpers.convolution import WIDE, Problem

# Unit roundoff and smallest step of each dtype, by name because bfloat16 is not NumPy's own.
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
STEP = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}


def batch_norm(rng, channels, dtype=np.float32):
    """The parameters of a batch normalization: gamma, beta, mean, var."""
    gamma, beta, mean = rng.standard_normal((3, channels)).astype(dtype)
    return gamma, beta, mean, rng.uniform(0.1, 4, channels).astype(dtype)


def some_map(rng, channels, dtype=np.float32):
    """Make the map of such a batch normalization."""
    return bnpp.affine(*batch_norm(rng, channels, dtype))


def grouped(p):
    """The weight of a problem in PyTorch's order, put into the problem's own layout."""
    letters = ("IO" if p.transposed else "OI") + "".join(k for k in "DHW" if k in p.layout)
    weight = p.weight
    if "G" in p.layout:
        weight = weight.reshape(p.groups, -1, *weight.shape[1:])
        letters = "G" + letters
        for letter in [k for k in letters if k not in p.layout]:
            weight = weight.squeeze(letters.index(letter))
            letters = letters.replace(letter, "")
    order = [letters.index(k) for k in p.layout]
    return p._replace(weight=np.ascontiguousarray(np.transpose(weight, order)))


def make(
    layout="OIHW",
    outputs=6,
    inputs=4,
    *,
    groups=1,
    transposed=False,
    bias=True,
    after=True,
    before=False,
    dtype=np.float32,
    kernel=3,
    size=7,
    seed=0,
    **geometry,
):
    """Make a layer of any kind with random values, and maps where asked for."""
    rng = np.random.default_rng(seed)
    rank = sum(k in "DHW" for k in layout)
    channels = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    p = Problem(
        x=rng.standard_normal((2, inputs) + (size,) * rank).astype(dtype),
        weight=rng.standard_normal(channels + (kernel,) * rank).astype(dtype),
        bias=rng.standard_normal(outputs).astype(dtype) if bias else None,
        after=some_map(rng, outputs) if after else None,
        before=some_map(rng, inputs) if before else None,
        layout=layout,
        groups=groups,
        transposed=transposed,
        **geometry,
    )
    return grouped(p)


def fold(p, **keywords):
    """Fold a problem with the function for its kind of layer."""
    given = {"after": p.after, "before": p.before, "layout": p.layout} | keywords
    if p.layout in ("OI", "IO"):
        return bnpp.fold_linear(p.weight, p.bias, **given)
    if "G" not in p.layout:
        given["groups"] = p.groups
    given.setdefault("padding", p.pad)
    return bnpp.fold_conv(p.weight, p.bias, transposed=p.transposed, **given)


def difference(p, folded):
    """The largest difference of the outputs in each output channel, in exact enough arithmetic."""
    change = np.abs(convolution.unfolded(p) - convolution.refolded(p, folded))
    return change.max(axis=tuple(i for i in range(change.ndim) if i != 1), initial=0)


def assert_folds(p, **keywords):
    """Folding changes the output by no more than the report says, and leaves its inputs alone."""
    arrays = {"x": p.x, "weight": p.weight, "bias": p.bias}
    before = {name: a.copy() for name, a in arrays.items() if a is not None}
    folded = fold(p, **keywords)
    for name, array in before.items():
        assert np.array_equal(array, arrays[name]), f"{name} was changed"
    assert folded.weight.shape == p.weight.shape
    assert folded.weight.dtype == p.weight.dtype
    assert folded.bias.dtype == (p.weight if p.bias is None else p.bias).dtype
    values = [np.abs(p.x).max(initial=0)]
    if folded.pad_value is not None:
        values.append(np.abs(folded.pad_value).max(initial=0))
    bound = folded.report.bound(float(max(values)))
    # The reference rounds too, and so did pad_value.
    size = folded.report.weight_sum * max(values) + folded.report.constant_sum
    slack = folded.report.terms * np.finfo(WIDE).eps
    if folded.pad_value is not None:
        slack += 2.0**-52
    change = difference(p, folded)
    assert np.all(change <= bound + slack * size), f"{change} exceeds {bound}"
    # A bound that promises nothing would always hold: it is a few roundings of what is added up.
    units = 1.01 * UNIT[p.weight.dtype.name] * size
    loosest = units + STEP[p.weight.dtype.name] * (1 + folded.report.terms * max(values))
    assert np.all(bound <= loosest), f"{bound} is more than {loosest}"
    return folded
