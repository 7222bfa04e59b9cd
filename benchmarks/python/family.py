"""The other norms, masks and fused maps: single cases beside batch norm's networks, with PyTorch's calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

import bnpp
import numpy as np

from benchmarks.python.problem import EPS, Array

Calls = dict[tuple[str, str], Callable[[], Any]]

NETWORK = "family"


@dataclass(frozen=True)
class Case:
    """One tensor and what is done to it; `floors` are multiples of a copy, by the name of the pass."""

    name: str
    shape: tuple[int, ...]
    calls: Callable[[Array, Array], Calls]
    floors: tuple[float, float] = (1.0, 1.5)
    layout: str = "nchw"


def cases() -> list[Case]:
    """Give all cases; each has its own way to call bnpp and PyTorch."""
    rows = [(4096, 768), (8192, 4096)]
    masks = [
        ((32, 512, 256), (32, 1, 256), 1),
        ((32, 256, 512), (32, 256, 1), -1),
    ]
    return [
        *(Case("layer_norm", shape, _layer_norm, layout="nc") for shape in rows),
        *(Case("rms_norm", shape, _rms_norm, layout="nc") for shape in rows),
        Case("group_norm_32", (8, 320, 64, 64), partial(_group_norm, groups=32)),
        Case("instance_norm", (32, 64, 56, 56), partial(_group_norm, groups=64)),
        *(
            Case(
                "masked_batch_norm",
                shape,
                partial(_masked, mask=mask, axis=axis),
                layout="ncl" if axis == 1 else "nlc",
            )
            for shape, mask, axis in masks
        ),
        # x and the residual are read and y is written; x and dy, dx and the residual's gradient.
        Case("add_relu", (32, 256, 56, 56), partial(_add_relu, axis=1), (1.5, 2.0)),
        Case("add_relu", (32, 56, 56, 256), partial(_add_relu, axis=-1), (1.5, 2.0), "nhwc"),
    ]


def choose(names: Collection[str]) -> list[Case]:
    """Give the cases with these names (``*`` matches anything), all if there are none."""
    chosen = [c for c in cases() if any(fnmatch(c.name, name) for name in names or ["*"])]
    if not chosen:
        raise SystemExit(f"no case is called {' '.join(names)}")
    return chosen


def _vectors(n: int) -> tuple[Array, Array]:
    gamma, beta = np.random.default_rng(1).uniform(0.5, 1.5, (2, n)).astype(np.float32)
    return gamma, beta


def _torch() -> Any:
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return None
    return torch


def _both(
    forward: Callable[..., Any], backward: Callable[..., Any], x: Array, dy: Array
) -> Iterator[tuple[tuple[str, str], Callable[[], Any]]]:
    """bnpp's calls, with new outputs and with given ones."""
    saved = forward(x)[1]
    out = np.empty_like(x)
    yield ("bnpp", "forward"), partial(forward, x)
    yield ("bnpp", "backward"), partial(backward, dy, saved)
    yield ("bnpp out=", "forward"), partial(forward, x, out=out)
    yield ("bnpp out=", "backward"), partial(backward, dy, saved, out=out)


def _peer(forward: Callable[..., Any], inputs: list[Array], dy: Array) -> Calls:
    """PyTorch's calls by autograd; none without PyTorch."""
    torch = _torch()
    if torch is None:
        return {}
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in inputs]
    y, dy = forward(torch, *leaves), torch.from_numpy(dy)
    return {
        ("torch", "forward"): partial(forward, torch, *leaves),
        ("torch", "backward"): partial(torch.autograd.grad, y, leaves, dy, retain_graph=True),
    }


def _layer_norm(x: Array, dy: Array) -> Calls:
    gamma, beta = _vectors(x.shape[-1])
    forward = partial(bnpp.layer_norm, gamma=gamma, beta=beta, eps=EPS)

    def torch_forward(torch: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, EPS)

    calls = dict(_both(forward, bnpp.layer_norm_backward, x, dy))
    return calls | _peer(torch_forward, [x, gamma, beta], dy)


def _rms_norm(x: Array, dy: Array) -> Calls:
    gamma, _ = _vectors(x.shape[-1])

    def torch_forward(torch: Any, x: Any, gamma: Any) -> Any:
        return torch.nn.functional.rms_norm(x, gamma.shape, gamma, EPS)

    forward = partial(bnpp.rms_norm, gamma=gamma, eps=EPS)
    return dict(_both(forward, bnpp.rms_norm_backward, x, dy)) | _peer(
        torch_forward, [x, gamma], dy
    )


def _group_norm(x: Array, dy: Array, *, groups: int) -> Calls:
    gamma, beta = _vectors(x.shape[1])

    def forward(x: Array, **out: Array) -> Any:
        return bnpp.group_norm(x, groups, gamma, beta, eps=EPS, **out)

    def torch_forward(torch: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return torch.nn.functional.group_norm(x, groups, gamma, beta, EPS)

    calls = dict(_both(forward, bnpp.group_norm_backward, x, dy))
    return calls | _peer(torch_forward, [x, gamma, beta], dy)


def _masked(x: Array, dy: Array, *, mask: tuple[int, ...], axis: int) -> Calls:
    gamma, beta = _vectors(x.shape[axis])
    plain = partial(bnpp.batch_norm, gamma=gamma, beta=beta, axis=axis, eps=EPS)
    lengths = np.random.default_rng(2).integers(mask[2 if axis == 1 else 1] // 2, 257, mask[0])
    along = np.arange(256).reshape((1, 1, 256) if axis == 1 else (1, 256, 1))
    weights = (along < lengths.reshape(-1, 1, 1)).astype(np.float32)
    calls = dict(_both(plain, bnpp.batch_norm_backward, x, dy))
    masked = dict(_both(partial(plain, weights=weights), bnpp.batch_norm_backward, x, dy))
    return calls | {(f"{peer} masked", what): call for (peer, what), call in masked.items()}


def _add_relu(x: Array, dy: Array, *, axis: int) -> Calls:
    gamma, beta = _vectors(x.shape[axis])
    residual = dy[::-1].copy()
    forward = partial(
        bnpp.batch_norm,
        gamma=gamma,
        beta=beta,
        axis=axis,
        eps=EPS,
        residual=residual,
        activation="relu",
    )

    def torch_forward(torch: Any, x: Any, gamma: Any, beta: Any, residual: Any) -> Any:
        f = torch.nn.functional
        x, residual = x.movedim(axis, 1), residual.movedim(axis, 1)
        y = f.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)
        return f.relu(y + residual).movedim(1, axis)

    calls = dict(_both(forward, bnpp.batch_norm_backward, x, dy))
    return calls | _peer(torch_forward, [x, gamma, beta, residual], dy)
