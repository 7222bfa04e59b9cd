"""The formulas, as one writes them in NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.python.problem import EPS, Array, Problem, Variant


def variants(p: Problem) -> Iterator[Variant]:
    shape = [-1 if d == p.axis else 1 for d in range(p.x.ndim)]
    gamma, beta, mean, var = (v.reshape(shape) for v in (p.gamma, p.beta, p.mean, p.var))
    axes = p.reduced

    def forward() -> tuple[Array, Array, Array]:
        x_hat = p.x - p.x.mean(axes, keepdims=True)
        inv_std = 1 / np.sqrt(p.x.var(axes, keepdims=True) + EPS)
        x_hat *= inv_std
        return gamma * x_hat + beta, x_hat, inv_std

    _, x_hat, inv_std = forward()

    def backward() -> tuple[Array, Array, Array]:
        dbeta = p.dy.sum(axes, keepdims=True)
        dgamma = (p.dy * x_hat).sum(axes, keepdims=True)
        m = p.x.size // dbeta.size
        dx = gamma * inv_std * (p.dy - dbeta / m - x_hat * (dgamma / m))
        return dx, dgamma, dbeta

    def inference() -> tuple[Array]:
        return (gamma * (p.x - mean) / np.sqrt(var + EPS) + beta,)

    calls = {"forward": forward, "backward": backward, "inference": inference}
    yield Variant("numpy", calls, lambda result: result[0])
