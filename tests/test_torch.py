"""PyTorch's batch_norm as a peer, where it is installed."""

import bnpp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CLOSE = {
    np.dtype("f4"): {"rtol": 2e-4, "atol": 2e-5},
    np.dtype("f8"): {"rtol": 1e-9, "atol": 1e-11},
}


def tensor(rng, dtype, memory_format):
    """A random image batch."""
    values = torch.from_numpy(rng.standard_normal((6, 5, 8, 9)).astype(dtype))
    return values.contiguous(memory_format=FORMATS[memory_format])


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0, None])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_three_steps_and_eval(memory_format, momentum, dtype):
    rng = np.random.default_rng(4)
    theirs = torch.nn.BatchNorm2d(5, momentum=momentum, dtype=getattr(torch, dtype.name))
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(rng.uniform(0.5, 2, 5)))
        theirs.bias.copy_(torch.from_numpy(rng.standard_normal(5)))
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    ours = bnpp.BatchNorm.like("torch", 5, momentum=momentum, dtype=dtype)
    ours.load_state_dict(state, convention="torch")
    for step in range(4):
        if step == 3:
            theirs.eval()
            ours.eval()
        x = tensor(rng, dtype, memory_format).requires_grad_()
        dy = tensor(rng, dtype, memory_format)
        expected = theirs(x)
        theirs.zero_grad()
        expected.backward(dy)
        y = ours(x.detach().numpy())
        got = ours.backward(dy.numpy())
        pairs = [
            (y, expected.detach()),
            (got.dx, x.grad),
            (got.dgamma, theirs.weight.grad),
            (got.dbeta, theirs.bias.grad),
            (ours.running_mean, theirs.running_mean),
            (ours.running_var, theirs.running_var),
        ]
        for mine, other in pairs:
            np.testing.assert_allclose(mine, other.numpy(), **CLOSE[dtype])
    found = ours.state_dict("torch")
    assert list(found) == list(theirs.state_dict())
    assert found["num_batches_tracked"] == 3


@pytest.mark.parametrize("memory_format", FORMATS)
def test_add_and_relu(memory_format, dtype):
    rng = np.random.default_rng(5)
    x, residual, dy = (tensor(rng, dtype, memory_format) for _ in range(3))
    for t in (x, residual):
        t.requires_grad_()
    z = torch.nn.functional.batch_norm(x, None, None, training=True) + residual
    torch.relu(z).backward(dy)
    arrays = [t.detach().numpy() for t in (x, residual)]
    y, saved = bnpp.batch_norm(arrays[0], residual=arrays[1], activation="relu")
    got = bnpp.batch_norm_backward(dy.numpy(), saved)
    np.testing.assert_allclose(y, torch.relu(z).detach().numpy(), **CLOSE[dtype])
    np.testing.assert_allclose(got.dx, x.grad.numpy(), **CLOSE[dtype])
    assert np.array_equal(got.dresidual, residual.grad.numpy())
