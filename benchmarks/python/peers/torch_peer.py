"""PyTorch, contiguous or channels-last: as its users call it, and with its own ``out=`` where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import batch_norm

from benchmarks.python.problem import EPS, Array, Problem, Variant

MOMENTUM = 0.1


def variants(p: Problem) -> Iterator[Variant]:
    torch.set_num_threads(p.threads)
    name = "torch-channels-last" if p.layout == "nhwc" else "torch"
    yield Variant(name, _autograd(p), lambda result: _array(p, result))
    yield Variant(f"{name} out=", _preallocated(p), lambda result: _array(p, result))


def _autograd(p: Problem) -> dict[str, Any]:
    """A training step's forward, which keeps what its backward needs; an evaluation."""
    x, dy, gamma, beta, mean, var = _tensors(p)
    leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
    running = mean.clone(), var.clone()  # training moves them

    def forward() -> torch.Tensor:
        return batch_norm(leaves[0], *running, leaves[1], leaves[2], True, MOMENTUM, EPS)

    y = forward()
    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True),
        "inference": lambda: batch_norm(x, mean, var, gamma, beta, False, MOMENTUM, EPS),
    }


def _preallocated(p: Problem) -> dict[str, Any]:
    """The operator below; it has no backward that writes where it is told to without a copy."""
    x, _, gamma, beta, mean, var = _tensors(p)
    running = mean.clone(), var.clone()
    y, none = torch.empty_like(x), torch.empty(0, dtype=gamma.dtype)
    saved = torch.empty_like(gamma), torch.empty_like(gamma)

    def forward() -> Any:
        return torch.native_batch_norm(
            x, gamma, beta, *running, True, MOMENTUM, EPS, out=(y, *saved)
        )

    def inference() -> Any:
        return torch.native_batch_norm(
            x, gamma, beta, mean, var, False, MOMENTUM, EPS, out=(y, none, none.clone())
        )

    return {"forward": forward, "inference": inference}


def _tensors(p: Problem) -> list[torch.Tensor]:
    """Share the arrays' memory; channels-last ones as (N, C, H, W) views, as PyTorch has them."""
    x, dy = (_tensor(a).movedim(p.axis, 1) for a in (p.x, p.dy))
    return [x, dy, *map(torch.from_numpy, (p.gamma, p.beta, p.mean, p.var))]


def _tensor(a: Array) -> torch.Tensor:
    if a.dtype.name == "bfloat16":  # from_numpy does not know ml_dtypes
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def _array(p: Problem, result: Any) -> Array:
    y = result if isinstance(result, torch.Tensor) else result[0]
    y = y.detach().movedim(1, p.axis)
    if y.dtype == torch.bfloat16:
        y = y.float()
    return y.numpy()
