"""TensorFlow: its fused batch normalization, channels last, and a gradient tape."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks.python.problem import EPS, Array, Problem, Variant


def variants(p: Problem) -> Iterator[Variant]:
    x, dy = (tf.constant(_four_d(a)) for a in (p.x, p.dy))
    gamma, beta, mean, var = (tf.constant(v) for v in (p.gamma, p.beta, p.mean, p.var))

    def normalize(x: Any, training: bool) -> Any:
        given = {} if training else {"mean": mean, "variance": var}
        fused = tf.compat.v1.nn.fused_batch_norm
        return fused(x, gamma, beta, epsilon=EPS, is_training=training, **given)[0]

    with tf.GradientTape(persistent=True) as tape:
        sources = [x, gamma, beta]
        tape.watch(sources)
        y = normalize(x, True)

    def forward() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(sources)
            return normalize(x, True)

    calls = {
        "forward": forward,
        "backward": lambda: tape.gradient(y, sources, output_gradients=dy),
        "inference": lambda: normalize(x, False),
    }
    yield Variant("tensorflow", calls, lambda r: _array(p, r))


def _four_d(a: Array) -> Array:
    return a if a.ndim == 4 else a.reshape(a.shape[0], 1, 1, -1)


def _array(p: Problem, result: Any) -> Array:
    y: Array = (result[0] if isinstance(result, list) else result).numpy()
    return y.reshape(p.x.shape)
