"""Every refusal: its exception, and a sentence with the argument, what came and what is needed.

Nothing may have been changed by then: all arrays, `out` among them, hold what they held.
"""

import contextlib
import re
import types

import bnpp
import numpy as np
import pytest

C = 13


def overlap(x):
    """An array like x that shares memory with it, shifted by one element."""
    big = np.zeros(x.size + 1, x.dtype)
    big[1:] = x.ravel()
    return big[1:].reshape(x.shape), big[:-1].reshape(x.shape)


def kit():
    """Good arguments of every function; 13 channels, so that no number is told by chance."""
    rng = np.random.default_rng(0)
    x, dy, residual = rng.standard_normal((3, 5, C, 7)).astype(np.float32)
    k = types.SimpleNamespace(x=x, dy=dy, residual=residual, out=np.full_like(x, 7))
    k.gamma, k.beta, k.mean = rng.standard_normal((3, C)).astype(np.float32)
    k.var = np.abs(k.gamma)
    k.saved = bnpp.batch_norm(x, k.gamma, k.beta)[1]
    k.frozen = bnpp.batch_norm_inference(x, k.gamma, k.beta, k.mean, k.var, save=True)[1]
    k.shifted_x, k.shifted_out = overlap(x)
    return k


FUNCTIONS = {
    "batch_norm": ["x", "gamma", "beta"],
    "batch_norm_inference": ["x", "gamma", "beta", "mean", "var"],
    "batch_norm_backward": ["dy", "saved"],
    "batch_norm_inference_backward": ["dy", "frozen"],
    "moments": ["x"],
}
TAKES_OUT = [name for name in FUNCTIONS if name != "moments"]
FORWARD = ["batch_norm", "batch_norm_inference"]
TAKES_X = [*FORWARD, "moments"]
BACKWARD = ["batch_norm_backward", "batch_norm_inference_backward"]

# (functions, argument, what is given for it, exception, words that the sentence must hold)
REFUSED = {
    "short": (FORWARD, "gamma", lambda k: k.gamma[:11], ValueError, ["11", "13"]),
    "long beta": (FORWARD, "beta", lambda k: np.ones(17), ValueError, ["17", "13"]),
    "2-D gamma": (FORWARD, "gamma", lambda k: np.ones((C, 1)), ValueError, ["one dimension", r"\(13, 1\)"]),
    "0-D gamma": (FORWARD, "gamma", lambda k: np.float32(1), ValueError, ["single number"]),
    "integer beta": (FORWARD, "beta", lambda k: np.ones(C, int), TypeError, ["int64", "float32"]),
    "short mean": (FORWARD[1:], "mean", lambda k: k.mean[:12], ValueError, ["12", "13"]),
    "short var": (FORWARD[1:], "var", lambda k: k.var[:12], ValueError, ["12", "13"]),
    "no mean": (FORWARD[1:], "mean", lambda k: None, TypeError, ["None"]),
    "no var": (FORWARD[1:], "var", lambda k: None, TypeError, ["None"]),
    "negative var": (FORWARD[1:], "var", lambda k: k.var - 9 * (k.var == k.var[5]), ValueError,
                     ["channel 5|5", "-[0-9]"]),
    "integers": (TAKES_X, "x", lambda k: np.ones((5, C), "i4"), TypeError, ["int32", "float32"]),
    "booleans": (TAKES_X, "x", lambda k: np.ones((5, C), bool), TypeError, ["bool", "float32"]),
    "complex": (TAKES_X, "x", lambda k: k.x * 1j, TypeError, ["complex64", "float32"]),
    "longdouble": (TAKES_X, "x", lambda k: k.x.astype("g"), TypeError, ["float128|longdouble"]),
    "object": (TAKES_X, "x", lambda k: k.x.astype(object), TypeError, ["object", "float32"]),
    "strings": (TAKES_X, "x", lambda k: "spam", TypeError, ["str|<U4", "float32"]),
    "None": (TAKES_X, "x", lambda k: None, TypeError, ["None|object"]),
    "ragged": (TAKES_X, "x", lambda k: [[1.0], [1.0, 2.0]], (TypeError, ValueError), ["x"]),
    "swapped": (TAKES_X, "x", lambda k: k.x.astype(">f4"), TypeError, [">f4|byte"]),
    "masked": (TAKES_X, "x", lambda k: np.ma.masked_less(k.x, 0), TypeError, ["[Mm]asked"]),
    "0-D": (TAKES_X, "x", lambda k: np.float32(1), ValueError, ["single number"]),
    "1-D": (TAKES_X, "x", lambda k: np.ones(C), ValueError, ["1", "2", "8"]),
    "9-D": (TAKES_X, "x", lambda k: np.ones((1, C) + (1,) * 7), ValueError, ["9", "2", "8"]),
    "axis 3": (TAKES_X, "axis", lambda k: 3, ValueError, ["3"]),
    "axis -4": (TAKES_X, "axis", lambda k: -4, ValueError, ["-4", "3"]),
    "axis 2**40": (TAKES_X, "axis", lambda k: 2**40, (ValueError, TypeError, OverflowError), []),
    "axis 1.0": (TAKES_X, "axis", lambda k: 1.0, TypeError, ["float|1.0"]),
    "axis pair": (TAKES_X, "axis", lambda k: (0, 1), TypeError, ["tuple|int"]),
    "eps -1": (FORWARD, "eps", lambda k: -1.0, ValueError, ["-1", "0"]),
    "eps NaN": (FORWARD, "eps", lambda k: np.nan, ValueError, ["nan", "0"]),
    "eps infinite": (FORWARD, "eps", lambda k: np.inf, ValueError, ["inf"]),
    "eps text": (FORWARD, "eps", lambda k: "1e-5", TypeError, ["str|1e-5"]),
    "activation": (FORWARD, "activation", lambda k: "gelu", ValueError, ["gelu", "relu"]),
    "activation 1": (FORWARD, "activation", lambda k: 1, (TypeError, ValueError), ["relu"]),
    "on_single": (FORWARD[:1], "on_single", lambda k: "skip", ValueError, ["skip", "biased"]),
    "inference": (FORWARD[:1], "on_single", lambda k: "inference", ValueError, ["running"]),
    "one value": (FORWARD[:1], "x", lambda k: k.x[:1, :, :1], ValueError, ["one value|1 value"]),
    "residual shape": (FORWARD, "residual", lambda k: k.x[:4], ValueError, ["4", "5"]),
    "residual dims": (FORWARD, "residual", lambda k: k.x[0], ValueError, ["13", "5"]),
    "residual dtype": (FORWARD, "residual", lambda k: k.x.astype("f8"), TypeError,
                       ["float64", "float32"]),
    "dy shape": (BACKWARD, "dy", lambda k: k.dy[:4], ValueError, ["4", "5"]),
    "dy dtype": (BACKWARD, "dy", lambda k: k.dy.astype("f8"), TypeError, ["float64", "float32"]),
    "dy integers": (BACKWARD, "dy", lambda k: k.dy.astype(int), TypeError, ["int64", "float32"]),
    "dy turned": (BACKWARD, "dy", lambda k: k.dy.transpose(0, 2, 1), ValueError, ["7", "13"]),
    "saved array": (BACKWARD, "saved", lambda k: k.x, TypeError, ["ndarray", "[Ss]aved"]),
    "saved None": (BACKWARD, "saved", lambda k: None, TypeError, ["None", "[Ss]aved"]),
    "out shape": (TAKES_OUT, "out", lambda k: k.out[:4], ValueError, ["4", "5"]),
    "out dtype": (TAKES_OUT, "out", lambda k: k.out.astype("f8"), TypeError,
                  ["float64", "float32"]),
    "out list": (TAKES_OUT, "out", lambda k: [1.0], TypeError, ["list", "ndarray|array"]),
    "out read-only": (TAKES_OUT, "out", lambda k: np.broadcast_to(k.out, k.out.shape), ValueError,
                      ["read-only|write"]),
    "out repeats itself": (TAKES_OUT, "out", lambda k: np.lib.stride_tricks.as_strided(
        k.out, k.out.shape, (0, 28, 4)), ValueError, ["itself|each other|overlap"]),
    "out overlaps itself": (TAKES_OUT, "out", lambda k: np.lib.stride_tricks.as_strided(
        k.out, k.out.shape, (4, 4, 4)), ValueError, ["itself|each other|overlap"]),
    "out swapped": (TAKES_OUT, "out", lambda k: k.out.astype(">f4"), TypeError, [">f4|byte"]),
    "out on x": (BACKWARD, "out", lambda k: k.x, ValueError, ["x"]),
}  # fmt: skip

TABLE = [(what, function) for what, row in REFUSED.items() for function in row[0]]


def refused(call, exception, words, k):
    """The call raises it in one sentence with all the words, and leaves every array as it was."""
    before = {name: v.copy() for name, v in vars(k).items() if isinstance(v, np.ndarray)}
    with pytest.raises(exception) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert re.search(word, message), f"no {word!r} in: {message}"
    assert "\n" not in message
    for name, array in before.items():
        assert np.array_equal(array, getattr(k, name)), f"{name} was changed"


@pytest.mark.parametrize(("what", "function"), TABLE, ids=[f"{f}: {w}" for w, f in TABLE])
def test_refused(what, function):
    _, argument, make, exception, words = REFUSED[what]
    k = kit()
    positional = FUNCTIONS[function]
    given = {name: getattr(k, name) for name in positional}
    # An x of another shape would not fit out either.
    keywords = {"out": k.out} if function in TAKES_OUT and argument != "x" else {}
    value = make(k)
    k.given = value if isinstance(value, np.ndarray) else None
    name = {"saved": positional[-1]}.get(argument, argument)
    (given if name in given else keywords)[name] = value
    refused(
        lambda: getattr(bnpp, function)(*given.values(), **keywords),
        exception,
        [f"^{function}: ", rf"\b{argument}\b", *words],
        k,
    )


OVERLAPS = {
    "x": lambda k: bnpp.batch_norm(k.shifted_x, k.gamma, k.beta, out=k.shifted_out),
    "residual": lambda k: bnpp.batch_norm(k.x, residual=k.shifted_x, out=k.shifted_out),
    "gamma": lambda k: bnpp.batch_norm(k.x, k.out[0, :, 0], k.beta, out=k.out),
    "beta": lambda k: bnpp.batch_norm(k.x, k.gamma, k.out[0, :, 0], out=k.out),
    "mean": lambda k: bnpp.batch_norm_inference(k.x, None, None, k.out[1, :, 0], k.var, out=k.out),
    "var": lambda k: bnpp.batch_norm_inference(k.x, None, None, k.mean, k.out[0, :, 1], out=k.out),
    "dy": lambda k: bnpp.batch_norm_backward(k.shifted_x, k.saved, out=k.shifted_out),
}  # fmt: skip


@pytest.mark.parametrize("argument", OVERLAPS)
def test_out_may_not_overlap(argument):
    k = kit()
    words = [r"\bout\b", rf"\b{argument}\b", "overlap|shares? memory"]
    refused(lambda: OVERLAPS[argument](k), ValueError, words, k)


def test_out_may_not_be_x_transposed():
    x = np.random.default_rng(0).standard_normal((6, 6))
    before = x.copy()
    with pytest.raises(ValueError, match=r"out.*x"):
        bnpp.batch_norm(x, out=x.T)
    assert np.array_equal(x, before)


def test_an_overlap_that_cannot_be_decided_is_one():
    """Where numpy.shares_memory gives up, as on these views, out is refused."""
    memory, shape = np.zeros(1 << 22, np.uint8), (6,) * 5
    x = np.ndarray(shape, np.float32, memory, 0, (1656, 15236, 9092, 6756, 7064))
    out = np.ndarray(shape, np.float32, memory, 10494, (32, 256, 1536, 10752, 86016))
    with pytest.raises(np.exceptions.TooHardError):
        np.shares_memory(x, out, 100_000)
    with pytest.raises(ValueError, match="out shares memory with x"):
        bnpp.batch_norm(x, out=out)
    assert not memory.any()


def test_saved_of_another_shape():
    k = kit()
    other = bnpp.batch_norm(np.ones((5, 7, C), np.float32))[1]
    words = ["batch_norm_backward: ", r"\bdy\b", r"5, 13, 7", r"5, 7, 13"]
    refused(lambda: bnpp.batch_norm_backward(k.dy, other), ValueError, words, k)


def test_parameters_are_keywords_only():
    k = kit()
    for call in (
        lambda: bnpp.batch_norm(k.x, k.gamma, k.beta, 1),
        lambda: bnpp.batch_norm_backward(k.dy, k.saved, k.out),
        lambda: bnpp.batch_norm_inference(k.x, k.gamma, k.beta, k.mean, k.var, 1),
        lambda: bnpp.moments(k.x, 1),
    ):
        with pytest.raises(TypeError, match="positional"):
            call()


def test_nothing_crashes_the_process():
    """Odd arrays and objects in every place of the private module, which no wrapper guards."""
    odd = [None, 0, "x", b"x", 1.5, object(), [], {}, np.ones((2, 2)), np.ones(0), np.array("x"),
           np.zeros((0, 0)), np.zeros((2, 0, 0)), np.ones((2, 3), "c8"), np.ma.ones((2, 2)),
           np.zeros((2, 2), [("a", "f4")]), np.datetime64("2020-01-01"), 2**70]  # fmt: skip
    takes = {"batch_norm": 10, "batch_norm_backward": 5, "batch_norm_inference": 11, "moments": 2,
             "batch_norm_inference_backward": 3, "batch_norm_jvp": 8,
             "batch_norm_double_backward": 9, "merge_moments": 2, "set_isa": 1,
             "set_thread_limit": 1, "set_min_work": 1}  # fmt: skip
    for name, count in takes.items():
        function = getattr(bnpp._core, name)
        for value in odd:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                function(*[value] * count)
    with pytest.raises((TypeError, ValueError)):
        bnpp._core.Saved()
