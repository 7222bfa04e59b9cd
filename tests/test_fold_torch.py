"""PyTorch as a second opinion on convolutions, and its own fold as a peer, where it is installed."""

import bnpp
import numpy as np
import pytest
from helpers import convolution
from helpers.fold_cases import batch_norm, fold, make

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def run(p, x, weight, bias):
    """PyTorch's layer for a problem in PyTorch's own weight order."""
    rank = x.ndim - 2
    name = f"conv_transpose{rank}d" if p.transposed else f"conv{rank}d"
    x, weight, bias = (torch.from_numpy(np.asarray(v, np.float64)) for v in (x, weight, bias))
    return getattr(torch.nn.functional, name)(
        x, weight, bias, stride=p.stride, padding=p.pad, dilation=p.dilation, groups=p.groups
    ).numpy()


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", ["W", "HW", "DHW"])
def test_convolutions(kernel, groups, transposed):
    """The reference convolution is PyTorch's, and so a folded layer runs there as it should."""
    layout = ("IO" if transposed else "OI") + kernel
    for stride, dilation, pad in [(1, 1, 0), (2, 1, 1), (3, 2, 2)]:
        p = make(layout, 6, 4, groups=groups, transposed=transposed, dtype=np.float64, size=6,
                 stride=stride, dilation=dilation, pad=pad)  # fmt: skip
        theirs = run(p, p.x, p.weight, p.bias)
        ours = convolution.layer(p, p.x, p.weight, p.bias).astype(float)
        assert np.allclose(ours, theirs, **CLOSE)
        folded = fold(p)
        expected = convolution.mapped(p.after, theirs).astype(float)
        assert np.allclose(run(p, p.x, folded.weight, folded.bias), expected, **CLOSE)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_its_own_fold_agrees(transposed):
    """In float64 and without groups, where it is right (with groups and transposed it is not)."""
    rng = np.random.default_rng(0)
    layout = "IOHW" if transposed else "OIHW"
    p = make(layout, 6, 4, transposed=transposed, dtype=np.float64)
    gamma, beta, mean, var = batch_norm(rng, 6, np.float64)
    ours = bnpp.fold_conv(
        p.weight, p.bias, after=bnpp.affine(gamma, beta, mean, var), transposed=transposed
    )
    tensors = [torch.from_numpy(v) for v in (p.weight, p.bias, mean, var)]
    weight, bias = torch.nn.utils.fusion.fuse_conv_bn_weights(
        *tensors, 1e-5, torch.from_numpy(gamma), torch.from_numpy(beta), transpose=transposed
    )
    assert np.allclose(ours.weight, weight.detach().numpy(), rtol=1e-14)
    assert np.allclose(ours.bias, bias.detach().numpy(), rtol=1e-13, atol=1e-14)


def test_closer_than_its_float32_fold():
    """Folded in float32 a weight passes several roundings, here one: the sum of all errors shows it."""
    p = make("OIHW", 64, 32)
    gamma, beta, mean, var = batch_norm(np.random.default_rng(0), 64)
    ours = bnpp.fold_conv(p.weight, p.bias, after=bnpp.affine(gamma, beta, mean, var)).weight
    tensors = [torch.from_numpy(v) for v in (p.weight, p.bias, mean, var)]
    theirs, _ = torch.nn.utils.fusion.fuse_conv_bn_weights(
        *tensors, 1e-5, torch.from_numpy(gamma), torch.from_numpy(beta)
    )
    scale = gamma.astype("f8") / np.sqrt(var.astype("f8") + 1e-5)
    exact = p.weight * scale[:, None, None, None]
    error, theirs_error = (np.abs(w - exact).sum() for w in (ours, theirs.detach().numpy()))
    assert error < 0.7 * theirs_error
