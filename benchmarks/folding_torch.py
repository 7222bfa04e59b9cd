"""PyTorch's own folds on modules of the patterns: torch.fx and torch.nn.utils.fusion."""

# ruff: noqa: BLE001, PLC0415 - PyTorch is imported where it is tried

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def outcome(case: str, seed: int) -> str:
    """One of: folds, stays, wrong, fails; empty where the pattern is none of PyTorch's."""
    import torch

    if case not in CASES:
        return ""
    torch.manual_seed(seed)
    shape, make = CASES[case]
    module = randomized(make(torch.nn)).eval().double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = module(x)
    try:
        folded = fuse(module)
        found = folded(x)
    except Exception:  # whatever it is, it is no fold
        return "fails"
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=1e-6):
        return "wrong"
    left = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    return "stays" if left else "folds"


def fuse(module: Any) -> Any:
    """Use torch.fx for all it knows, and the function for single pairs where a pair is all there is."""
    import torch
    from torch.fx.experimental import optimization
    from torch.nn.utils import fusion

    if isinstance(module, torch.nn.Sequential) and len(module) == 2:
        first, second = module
        if isinstance(first, torch.nn.Linear):
            return fusion.fuse_linear_bn_eval(first, second)
        if isinstance(first, torch.nn.modules.conv._ConvTransposeNd):
            return fusion.fuse_conv_bn_eval(first, second, transpose=True)
    return optimization.fuse(module)


def randomized(module: Any) -> Any:
    import torch

    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 3)
    return module


def _between(nn: Any) -> Any:
    import torch

    class Between(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
            self.register_buffer("scale", torch.randn(6, 1, 1))

        def forward(self, x: Any) -> Any:
            return self.bn(self.conv(x) * self.scale)

    return Between()


def _concat(nn: Any) -> Any:
    import torch

    class Concat(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.bn = nn.Conv2d(4, 2, 3), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(7)

        def forward(self, x: Any) -> Any:
            return self.bn(torch.cat([self.a(x), self.b(x)], 1))

    return Concat()


IMAGE = (2, 4, 7, 6)
CASES: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "conv": (IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))),
    "conv without bias": (
        IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6))),
    "conv 1-D": ((2, 4, 9), lambda nn: nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6))),
    "conv padded, strided, dilated": (
        IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, (1, 2)), nn.BatchNorm2d(6))),
    "conv grouped": (
        IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))),
    "conv depthwise": (
        IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8))),
    "conv transposed": (
        IMAGE, lambda nn: nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6))),
    "conv transposed, grouped": (
        IMAGE, lambda nn: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))),
    "conv transposed, depthwise": (
        IMAGE, lambda nn: nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=4), nn.BatchNorm2d(8))),
    "gemm": ((8, 5), lambda nn: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))),
    "gemm transB": ((8, 5), lambda nn: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))),
    "gemm no bias": (
        (8, 5), lambda nn: nn.Sequential(nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3))),
    "constants between": (IMAGE, _between),
    "Concat after": (IMAGE, _concat),
    "MaxPool, positive scales": (
        IMAGE, lambda nn: nn.Sequential(nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.BatchNorm2d(6))),
    "DepthToSpace CRD": (
        IMAGE,
        lambda nn: nn.Sequential(nn.Conv2d(4, 12, 3), nn.PixelShuffle(2), nn.BatchNorm2d(3))),
    "conv before": (IMAGE, lambda nn: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3))),
    "padded": (
        IMAGE, lambda nn: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1))),
    "gemm before": ((8, 5), lambda nn: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))),
    "Flatten before gemm": (
        (8, 3, 2, 2),
        lambda nn: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))),
    "BN BN conv": (
        IMAGE, lambda nn: nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3))),
    "both sides": (
        IMAGE, lambda nn: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))),
}  # fmt: skip
