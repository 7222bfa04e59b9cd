"""Operators for ONNX's reference evaluator, whose own are wrong in cases that matter here.

Its ``BatchNormalization`` is wrong before opset 14, and its ``ConvTranspose`` with more than one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array: TypeAlias = NDArray[np.floating[Any]]


class BatchNormalization(OpRun):
    """Inference, in all opsets."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        mean: Array,
        var: Array,
        epsilon: float | None = None,
        training_mode: int = 0,
        **_: object,
    ) -> tuple[Array]:
        if training_mode or sum(map(bool, self.onnx_node.output)) > 1:
            raise NotImplementedError("BatchNormalization in training mode is not evaluated")
        wide: Any = np.float64 if x.dtype == np.float64 else np.float32
        shape = (1, -1) + (1,) * (x.ndim - 2)
        s, b, m, v = (p.astype(wide).reshape(shape) for p in (scale, shift, mean, var))
        eps = np.asarray(1e-5 if epsilon is None else epsilon, np.float32).astype(wide)
        return (((x.astype(wide) - m) / np.sqrt(v + eps) * s + b).astype(x.dtype),)


class ConvTranspose(OpRun):
    """Any number of groups and of spatial dimensions; the padding must be explicit."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        auto_pad: str | None = None,
        dilations: Sequence[int] | None = None,
        group: int | None = None,
        kernel_shape: Sequence[int] | None = None,  # noqa: ARG002 - the weights have it
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[Array]:
        if auto_pad not in (None, "NOTSET", "VALID") or output_shape:
            raise NotImplementedError("ConvTranspose is evaluated with explicit padding only")
        n, kernel, groups = x.ndim - 2, weight.shape[2:], group or 1
        step, dilate = strides or [1] * n, dilations or [1] * n
        pad, extra = pads or [0] * (2 * n), output_padding or [0] * n
        if auto_pad == "VALID":
            pad = [0] * (2 * n)
        full = [
            (size - 1) * s + (k - 1) * d + 1 + e
            for size, s, k, d, e in zip(x.shape[2:], step, kernel, dilate, extra, strict=True)
        ]
        wide: Any = np.float64 if x.dtype == np.float64 else np.float32
        split = x.astype(wide).reshape(len(x), groups, -1, *x.shape[2:])
        weights = weight.astype(wide).reshape(groups, -1, *weight.shape[1:])
        y = np.zeros((len(x), groups, weight.shape[1], *full), wide)
        for tap in product(*map(range, kernel)):
            # (N, G, I, ...) with (G, I, O): one tap of the kernel reaches a grid of positions.
            one: Any = (..., *tap)
            part = np.einsum("ngi...,gio->ngo...", split, weights[one])
            grid: Any = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, size, s in zip(tap, dilate, x.shape[2:], step, strict=True)
            )
            y[(..., *grid)] += part
        inside: Any = tuple(slice(pad[k], full[k] - pad[n + k]) for k in range(n))
        y = y.reshape(len(x), -1, *full)[(..., *inside)]
        if bias is not None:
            y = y + bias.astype(wide).reshape(-1, *(1,) * n)
        return (y.astype(x.dtype),)
