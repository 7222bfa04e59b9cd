"""JAX: the formulas, compiled by ``jax.jit``; the backward is that of ``jax.vjp``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.python.problem import EPS, Problem, Variant

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


def variants(p: Problem) -> Iterator[Variant]:
    shape = [-1 if d == p.axis else 1 for d in range(p.x.ndim)]
    x, dy = jnp.asarray(p.x), jnp.asarray(p.dy)
    gamma, beta, mean, var = (
        jnp.asarray(v.reshape(shape)) for v in (p.gamma, p.beta, p.mean, p.var)
    )

    def normalize(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        return ((x - mean) * (gamma * jax.lax.rsqrt(var + EPS)) + beta).astype(x.dtype)

    def train(x: Any, gamma: Any, beta: Any) -> Any:
        wide = x.astype(gamma.dtype)
        mean, var = wide.mean(p.reduced, keepdims=True), wide.var(p.reduced, keepdims=True)
        return normalize(x, gamma, beta, mean, var)

    # A training step's forward: y, and what the backward needs.
    forward = jax.jit(lambda *args: jax.vjp(train, *args))
    _, pull = forward(x, gamma, beta)
    backward = jax.jit(lambda pull, dy: pull(dy))
    inference = jax.jit(normalize)
    calls = {
        "forward": _wait(forward, x, gamma, beta),
        "backward": _wait(backward, pull, dy),
        "inference": _wait(inference, x, gamma, beta, mean, var),
    }
    yield Variant("jax", calls, lambda r: np.asarray(r[0] if isinstance(r, tuple) else r))


def _wait(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(function(*args))
