"""Bit for bit: when results are the same, and all results of batch norm that have to be."""

import bnpp
import numpy as np


def bits(array):
    """The bits of the elements, as unsigned integers: -0 is not 0, and NaN is itself."""
    return array.view(f"u{array.dtype.itemsize}")


def arrays(result, name="result"):
    """Yield the arrays of a result with their names, whether it is one, a list, a tuple or a dict."""
    if hasattr(result, "_asdict"):
        result = result._asdict()
    if isinstance(result, dict):
        for key, part in result.items():
            yield from arrays(part, f"{name}.{key}")
    elif isinstance(result, list | tuple):
        for i, part in enumerate(result):
            yield from arrays(part, f"{name}[{i}]")
    else:
        yield name, np.asarray(result)


def same(first, second, where=""):
    """Assert that two results hold the same bits, where any NaN is as good as another."""
    for (name, a), (_, b) in zip(arrays(first), arrays(second), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{name}: {where}"
        differ = bits(a) != bits(b)
        if differ.any():
            differ &= ~(np.isnan(a) & np.isnan(b))
        assert not differ.any(), f"{name} differs in {differ.sum()} values: {where}"


def outputs(x, gamma, beta, residual, dy, axis, out=None, dx=None):
    """Every array that the library computes from one set of inputs."""
    epilogue = {"axis": axis, "residual": residual, "activation": "relu"}
    running = (beta, gamma * gamma)
    m = bnpp.moments(x, axis=axis)
    found = [m.mean, m.m2, m._mean_low, m._m2_low]
    plain, saved = bnpp.batch_norm(x, gamma, beta, axis=axis)
    found += [plain, *bnpp.batch_norm_backward(dy, saved)]
    y, saved = bnpp.batch_norm(x, gamma, beta, **epilogue, out=out)
    found += [y.copy(), saved.mean, saved.var, saved.inv_std]
    found += [a.copy() for a in bnpp.batch_norm_backward(dy, saved, out=dx)]
    y, saved = bnpp.batch_norm_inference(x, gamma, beta, *running, **epilogue, save=True, out=out)
    found += [y.copy()]
    found += [a.copy() for a in bnpp.batch_norm_inference_backward(dy, saved, out=dx)]
    return found
