"""The layers of group, instance, layer and RMS normalization: their functions with parameters kept."""

import copy
import pickle

import bnpp
import numpy as np
import pytest

SHAPE = (3, 6, 4, 5)
C = SHAPE[1]

# The layer, its function of (x, gamma, beta, residual, activation), and the parameters' shape.
LAYERS = {
    "GroupNorm": (
        lambda **k: bnpp.GroupNorm(C, 3, **k),
        lambda x, g, b, r, a: bnpp.group_norm(x, 3, g, b, residual=r, activation=a),
        bnpp.group_norm_backward,
    ),
    "InstanceNorm": (
        lambda **k: bnpp.InstanceNorm(C, **k),
        lambda x, g, b, r, a: bnpp.instance_norm(x, g, b, residual=r, activation=a),
        bnpp.instance_norm_backward,
    ),
    "LayerNorm": (
        lambda **k: bnpp.LayerNorm((4, 5), **k),
        lambda x, g, b, r, a: bnpp.layer_norm(x, g, b, axis=(-2, -1)),
        bnpp.layer_norm_backward,
    ),
    "RMSNorm": (
        lambda **k: bnpp.RMSNorm((4, 5), **k),
        lambda x, g, b, r, a: bnpp.rms_norm(x, g, axis=(2, 3)),
        bnpp.rms_norm_backward,
    ),
}
PARAMETERS = {name: ["gamma", "beta"][: 1 if name == "RMSNorm" else 2] for name in LAYERS}
every_layer = pytest.mark.parametrize("name", LAYERS)


def random(dtype=np.float32, seed=0):
    """Inputs, residual and gradient."""
    return np.random.default_rng(seed).standard_normal((3, *SHAPE)).astype(dtype) + 2


def made(name, dtype=np.float32, **settings):
    """A layer whose parameters are not those of a new one."""
    layer = LAYERS[name][0](dtype=dtype, **settings)
    rng = np.random.default_rng(7)
    for parameter in PARAMETERS[name]:
        values = rng.uniform(0.5, 2, getattr(layer, parameter).shape)
        setattr(layer, parameter, values.astype(dtype))
    return layer


def values(layer):
    """Copies of all that a call or a load could change."""
    kept = {k: v.copy() for k, v in layer.state_dict().items()}
    return kept | {k: v for k, v in vars(layer).items() if k.startswith("d") or k == "_saved"}


def assert_unchanged(layer, before):
    after = values(layer)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value is after[key] or np.array_equal(value, after[key]), key


@pytest.mark.parametrize("fused", [False, True])
@every_layer
def test_a_layer_is_its_function(name, fused, dtype):
    x, r, dy = random(dtype)
    layer, (_, function, backward) = made(name, dtype), LAYERS[name]
    fused = fused and name in ("GroupNorm", "InstanceNorm")
    extra = (r, "relu") if fused else (None, None)
    y = layer(x, *extra) if fused else layer(x)
    z, saved = function(x, layer.gamma, getattr(layer, "beta", None), *extra)
    assert np.array_equal(y, z)
    assert type(layer.saved) is type(saved)
    assert layer.dgamma is None
    got, expected = layer.backward(dy), backward(dy, saved)
    assert type(got) is type(expected)
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(a, b)
    for parameter in PARAMETERS[name]:
        assert getattr(layer, f"d{parameter}") is getattr(got, f"d{parameter}")
        assert getattr(got, f"d{parameter}").shape == getattr(layer, parameter).shape
    assert layer.backward(dy, out=dy).dx is dy
    out = np.empty_like(x)
    assert layer(x, out=out) is out


@every_layer
def test_without_parameters(name, dtype):
    x, _, dy = random(dtype)
    layer = LAYERS[name][0](affine=False)
    assert layer.gamma is None
    assert layer.state_dict() == {}
    assert np.array_equal(layer(x), LAYERS[name][1](x, None, None, None, None)[0])
    layer.backward(dy)
    assert layer.dgamma is None
    with pytest.raises(ValueError, match=f"{name}.*: x has .*but the layer has"):
        layer(x[:, :5, :3])
    with pytest.raises(ValueError, match=r"x has 1 dimension|axis"):
        layer(x[0, 0, 0])


@every_layer
def test_saving(name):
    x, _, dy = random()
    layer = made(name)
    with pytest.raises(RuntimeError, match=f"^{name}.backward: nothing is saved"):
        layer.backward(dy)
    layer(x)
    assert layer.saved is not None
    layer(x, save=False)
    assert layer.saved is None


@every_layer
def test_a_failed_call_changes_nothing(name):
    x, _, dy = random()
    layer = made(name)
    layer(x)
    layer.backward(dy)
    before = values(layer)
    for bad in (x.astype(int), x[:, :5, :3], x[0, 0, 0]):
        with pytest.raises((TypeError, ValueError)):
            layer(bad)
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(dy[:1])
    for state in ({}, {"gamma": np.ones(17)}, {"gamma": layer.gamma, "alpha": layer.gamma}, 3):
        with pytest.raises((TypeError, ValueError), match=f"^{name}.load_state_dict: "):
            layer.load_state_dict(state)
    assert_unchanged(layer, before)


NAMES = {
    "bnpp": ["gamma", "beta"],
    "torch": ["weight", "bias"],
    "keras": ["gamma", "beta"],
    "onnx": ["scale", "B"],
}


@pytest.mark.parametrize("convention", NAMES)
@pytest.mark.parametrize("named", [True, False])
@every_layer
def test_state_dicts(name, convention, named):
    layer, twin = made(name), LAYERS[name][0]()
    state = layer.state_dict(convention)
    assert list(state) == NAMES[convention][: len(PARAMETERS[name])]
    twin(random()[0])
    twin.load_state_dict(state, convention if named else None)
    assert twin.saved is None
    for parameter in PARAMETERS[name]:
        assert np.array_equal(getattr(twin, parameter), getattr(layer, parameter))
    for value in state.values():
        value[...] = 9
    assert not (twin.gamma == 9).any()


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
@every_layer
def test_copies(name, copied):
    x, _, dy = random()
    layer = made(name)
    y = layer(x)
    layer.backward(dy)
    twin = copied(layer)
    assert repr(twin) == repr(layer)
    assert twin.saved is None
    assert twin.dgamma is None
    assert layer.saved is not None
    assert np.array_equal(twin(x), y)


def test_reprs_make_the_layer_again():
    for text in [
        "GroupNorm(6, 3, axis=1, eps=1e-05)",
        "GroupNorm(6, 6, axis=-1, eps=0.001, on_single='biased', affine=False, dtype='float64')",
        "InstanceNorm(6, axis=1, eps=1e-05)",
        "InstanceNorm(6, axis=2, eps=0.1, momentum=None, track_running_stats=True)",
        "LayerNorm(5, eps=1e-05)",
        "LayerNorm((4, 5), eps=1e-06, axis=(1, 2))",
        "RMSNorm(5, eps=0, affine=False)",
    ]:
        assert repr(eval(f"bnpp.{text}")) == text


@pytest.mark.parametrize("momentum", [0.1, 0.25, 1.0, 0.0, None])
def test_running_statistics_of_instance_norm(momentum, dtype):
    """The average over samples of mean and unbiased variance, moved towards by momentum."""
    layer = bnpp.InstanceNorm(C, momentum=momentum, track_running_stats=True, dtype=dtype)
    mean, var = np.zeros(C), np.ones(C)
    for k in range(1, 4):
        x = random(dtype, k)[0] * k
        layer(x)
        a = 1 / k if momentum is None else momentum
        wide = x.astype(float)
        mean = (1 - a) * mean + a * wide.mean((2, 3)).mean(0)
        var = (1 - a) * var + a * wide.var((2, 3), ddof=1).mean(0)
        assert layer.count == k
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    assert not layer.running_mean.flags.writeable
    before = values(layer)
    x, r, dy = random(dtype)
    y = layer.eval()(x, r, "relu")
    running = layer.running_mean, layer.running_var
    z, saved = bnpp.batch_norm_inference(
        x, layer.gamma, layer.beta, *running, residual=r, activation="relu", save=True
    )
    assert np.array_equal(y, z)
    got = layer.backward(dy)
    for a, b in zip(got, bnpp.batch_norm_inference_backward(dy, saved), strict=True):
        assert np.array_equal(a, b)
    assert layer.dgamma is got.dgamma
    assert np.array_equal(layer.state_dict()["running_mean"], before["running_mean"])
    layer.train()(x[:0])
    assert layer.count == 3
    state = layer.state_dict("torch")
    twin = bnpp.InstanceNorm(C, track_running_stats=True, dtype=dtype)
    twin.load_state_dict(state)
    assert twin.count == 3
    assert np.array_equal(twin.running_var, layer.running_var.astype(dtype))
    layer.reset_running_stats()
    assert (layer.count, layer.saved) == (0, None)


def test_instance_norm_without_running_statistics_evaluates_as_it_trains():
    x = random()[0]
    layer = bnpp.InstanceNorm(C)
    assert (layer.running_mean, layer.running_var, layer.count) == (None, None, None)
    assert np.array_equal(layer.eval()(x), layer.train()(x))
    assert list(layer.state_dict("torch")) == ["weight", "bias"]


REFUSED = [
    (
        lambda: bnpp.GroupNorm(6, 4),
        ValueError,
        "GroupNorm: groups is 4, but a divisor of 6 channels",
    ),
    (lambda: bnpp.GroupNorm(6, 0), ValueError, "GroupNorm: groups is 0, but"),
    (lambda: bnpp.GroupNorm(0, 1), ValueError, "GroupNorm: channels is 0, but"),
    (lambda: bnpp.GroupNorm(6, 2.0), TypeError, "GroupNorm: groups is a float, but"),
    (lambda: bnpp.GroupNorm(6, 2, eps=-1), ValueError, "GroupNorm: eps is -1, but"),
    (lambda: bnpp.GroupNorm(6, 2, dtype=int), TypeError, "GroupNorm: dtype is"),
    (lambda: bnpp.GroupNorm(6, 2, on_single="x"), ValueError, "GroupNorm: on_single is 'x', but"),
    (lambda: bnpp.InstanceNorm(6, momentum=2), ValueError, "InstanceNorm: momentum is 2, but"),
    (lambda: bnpp.InstanceNorm(6, axis="x"), TypeError, "InstanceNorm: axis is a str, but"),
    (lambda: bnpp.LayerNorm(()), ValueError, r"LayerNorm: shape is \(\), but"),
    (lambda: bnpp.LayerNorm((4, 0)), ValueError, "LayerNorm: shape is 0, but"),
    (lambda: bnpp.LayerNorm((4, 5), axis=1), ValueError, "LayerNorm: axis has 1 axes, but"),
    (lambda: bnpp.RMSNorm(4, eps="x"), TypeError, "RMSNorm: eps is a str, but"),
]


@pytest.mark.parametrize(("make", "exception", "sentence"), REFUSED, ids=[r[2] for r in REFUSED])
def test_refused_settings(make, exception, sentence):
    with pytest.raises(exception, match=f"^{sentence}"):
        make()


@pytest.mark.parametrize("name", ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"])
def test_torch(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = getattr(torch, dtype.name)
    theirs = {
        "GroupNorm": lambda: torch.nn.GroupNorm(3, C, dtype=t),
        "InstanceNorm": lambda: torch.nn.InstanceNorm2d(
            C, affine=True, track_running_stats=True, dtype=t
        ),
        "LayerNorm": lambda: torch.nn.LayerNorm((4, 5), dtype=t),
        "RMSNorm": lambda: torch.nn.RMSNorm((4, 5), eps=1e-5, dtype=t),
    }[name]()
    more = {"track_running_stats": True} if name == "InstanceNorm" else {}
    ours = LAYERS[name][0](dtype=dtype, **more)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(
                torch.from_numpy(np.random.default_rng(1).uniform(1, 2, parameter.shape))
            )
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    close = {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    for seed in range(3):
        if seed == 2:
            theirs.eval()
            if name == "InstanceNorm":
                ours.eval()
        x, _, dy = random(dtype, seed)
        leaf = torch.from_numpy(x).requires_grad_()
        theirs.zero_grad()
        expected = theirs(leaf)
        expected.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(ours(x), expected.detach().numpy(), **close)
        np.testing.assert_allclose(ours.backward(dy).dx, leaf.grad.numpy(), **close)
        for parameter, name_ in zip(theirs.parameters(), PARAMETERS[name], strict=True):
            got = getattr(ours, f"d{name_}")
            np.testing.assert_allclose(got, parameter.grad.numpy(), rtol=1e-3, atol=1e-4)
    for key, value in theirs.state_dict().items():
        if key == "num_batches_tracked":
            continue  # PyTorch's instance norm has it, but does not count
        np.testing.assert_allclose(ours.state_dict("torch")[key], value.numpy(), **close)
