"""A hash of outputs: has a change altered any bit of any result?

Every public function that computes runs on some shapes, memory orders, dtypes and options, with the same data
each time, and each call gives a line: a digest of all that it returned, and its name. On one machine, before
and after a change that must not alter results:

    python -m benchmarks.digests > before.txt
    pip install -v .
    python -m benchmarks.digests > after.txt
    diff before.txt after.txt  # says nothing: the same bits

`--isa NAME` and `--threads N` choose the instruction set and the number of threads. They are not part of the
names, because they must not matter either: `diff` two of these, too. Digests of two machines or two versions
of NumPy need not agree, as data come from NumPy and the matrix products of `iter_norm` from its BLAS.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import namedtuple
from collections.abc import Iterator
from hashlib import blake2b
from importlib.util import find_spec
from typing import Any, NamedTuple

# On several threads BLAS adds in another order.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

if not find_spec("bnpp"):
    raise SystemExit("benchmarks.digests: bnpp is not installed: pip install -v .")

import bnpp
import numpy as np
from bnpp import _core

#: The function called, what with, and what it returned.
Line = tuple[str, str, Any]
#: Public functions that compute nothing.
SETTINGS = {"clear_memory", "get_isa", "get_threads", "set_isa", "show_config", "thread_limit"}
SETTINGS |= {"usable_isas", "__version__"}


class Case(NamedTuple):
    """A shape, its channel axis, its memory order, and whether outputs go past the cache."""

    shape: tuple[int, ...]
    axis: int = 1
    order: str = "c"
    stream: bool = False

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{shape}@{self.axis} {self.order}" + " streamed" * self.stream


#: Where the walk over memory differs: batch norm, in every dtype.
WALKS = [
    Case((6, 40, 7, 7)),  # short planes
    Case((2, 3, 16385)),  # several blocks a channel
    Case((9000, 3)),  # narrow channels
    Case((1003, 24)),  # narrow ones, several rows at a time
    Case((70, 264)),  # a group of 256 channels and a narrow one
    Case((3, 5, 6, 30), order="gaps"),
    Case((3, 5, 6, 30), order="negative"),
    Case((6, 7, 90), axis=2, order="fortran"),
    Case((6, 7, 300), axis=0),
    Case((700, 70), stream=True),
    Case((4, 16, 112, 112), stream=True),
    Case((4, 16, 112, 112), order="nhwc"),
]
#: What every function runs on, and in which dtypes.
EVERYTHING = {
    Case((4, 6, 12, 13)): ("float16", "float32", "float64"),
    Case((3, 40, 9, 11), order="nhwc"): ("bfloat16", "float32"),
    Case((8, 12, 80, 80)): ("float32",),
}
ORDERS = {
    "c": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "nhwc": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "gaps": lambda x: np.repeat(x, 2, -1)[..., 1::2],
    "negative": lambda x: np.flip(np.ascontiguousarray(np.flip(x))),
}
#: Tensors in the order of a case, vectors of its channels, weights of single values and of rows.
Data = namedtuple("Data", "x dy residual gamma beta mean var each rows")
#: Options of batch norm and most of its kin.
OPTIONS = {
    "": lambda _: {},
    " relu": lambda _: {"activation": "relu"},
    " residual": lambda d: {"residual": d.residual},
    " residual relu": lambda d: {"residual": d.residual, "activation": "relu"},
    " weights": lambda d: {"weights": d.each},
    " mask": lambda d: {"weights": d.rows},
    " mask relu": lambda d: {"weights": d.rows, "activation": "relu"},
}


def make(case: Case, dtype: Any) -> Data:
    """Normal values with offsets and a slope, constant channels, some outliers."""
    rng, channels = np.random.default_rng(case.shape), case.shape[case.axis]
    tensors = rng.standard_normal((3, *case.shape))
    x = np.moveaxis(tensors[0], case.axis, -1)  # a view
    x *= rng.uniform(0.5, 3, channels)
    x += np.resize([0.0, 40.0, -3.0, 900.0], channels)
    x += np.linspace(-1, 1, len(x)).reshape(-1, *[1] * (x.ndim - 1))
    x[np.unravel_index(np.arange(5, x.size, x.size // 7), x.shape)] *= 20
    x[..., 4::9] = 7.25
    each = np.maximum(rng.uniform(-0.3, 1, case.shape), 0)
    rows = rng.random([n if i != case.axis else 1 for i, n in enumerate(case.shape)]) < 0.8
    vectors = *rng.standard_normal((3, channels)), rng.uniform(0.1, 4, channels)
    return Data(*(ORDERS[case.order](t.astype(dtype)) for t in tensors), *vectors, each, rows)


def pair(name: str, words: str, d: Data, *args: Any, **options: Any) -> Iterator[Line]:
    """Call a function and its backward."""
    y, saved = getattr(bnpp, name)(d.x, *args, **options)
    yield name, words, (y, saved)
    yield f"{name}_backward", words, getattr(bnpp, f"{name}_backward")(d.dy, saved)


def batch_norms(d: Data, words: str, axis: int) -> Iterator[Line]:
    """Training, inference and all derivatives."""
    kept = 1 + abs(d.gamma), np.tanh(d.beta)
    yield from pair("batch_norm", f"{words} keep", d, *kept, axis=axis, keep="output")
    for option, options in OPTIONS.items():
        more, name = {"axis": axis, **options(d)}, words + option
        yield from pair("batch_norm", name, d, d.gamma, d.beta, **more)
        saved = bnpp.batch_norm(d.x, d.gamma, d.beta, **more)[1]
        grads = bnpp.batch_norm_backward(d.dy, saved, dmean=d.mean, dvar=d.var)
        yield "batch_norm_backward", f"{name} dmean dvar", grads
        if option not in ("", " residual relu"):
            continue
        y, frozen = bnpp.batch_norm_inference(d.x, *d[3:7], **more, save=True)
        yield "batch_norm_inference", name, (y, frozen)
        grads = bnpp.batch_norm_inference_backward(d.dy, frozen)
        yield "batch_norm_inference_backward", name, grads
        for mode, one in ((name, saved), (f"{name} frozen", frozen)):
            yield "batch_norm_jvp", mode, bnpp.batch_norm_jvp(one, d.dy, d.beta, d.mean)
            second = bnpp.batch_norm_double_backward(one, d.dy, d.residual, d.beta, d.mean)
            yield "batch_norm_double_backward", mode, second


def variants(d: Data, words: str, axis: int) -> Iterator[Line]:
    """Its variants, and the norms of groups and of samples."""
    both, relu = (d.gamma, d.beta), {"axis": axis, "activation": "relu"}
    running = {"running_mean": d.mean, "running_var": d.var}
    own = [np.linspace(-1, 1, len(d.x))[:, None] + vector for vector in both]
    yield from pair("batch_renorm", words, d, *both, **running, **relu)
    yield from pair("ghost_batch_norm", words, d, *both, size=2, **relu)
    yield from pair("step_batch_norm", words, d, *both, step_axis=2, **relu)
    yield from pair("conditional_batch_norm", words, d, *own, **relu)
    y = bnpp.conditional_batch_norm_inference(d.x, *own, d.mean, d.var, **relu)
    yield "conditional_batch_norm_inference", words, y
    yield from pair("iter_norm", words, d, *both, group_size=2, axis=axis)
    for option in ("", " residual relu", " weights", " mask"):
        more = {"axis": axis, **OPTIONS[option](d)}
        yield from pair("group_norm", words + option, d, 2, *both, **more)
        yield from pair("instance_norm", words + option, d, *both, **more)
    for over, first in ((-1, -1), (tuple(range(1, d.x.ndim)), 1)):
        gamma, beta = np.random.default_rng(1).standard_normal((2, *d.x.shape[first:]))
        for option in ("", " weights"):
            more, name = {"axis": over, **OPTIONS[option](d)}, f"{words} over {over}{option}"
            yield from pair("layer_norm", name, d, gamma, beta, **more)
            yield from pair("rms_norm", name, d, gamma, **more)


def maps(d: Data, words: str, axis: int) -> Iterator[Line]:
    """Moments and their merging, affine maps, folds."""
    for option in ("", " weights", " mask"):
        whole = bnpp.moments(d.x, axis=axis, **OPTIONS[option](d))
        yield "moments", words + option, (whole, whole + bnpp.moments(d.dy, axis=axis))
    first, second = bnpp.affine(*d[3:7]), bnpp.affine(None, d.mean, d.beta, d.var)
    composed = (first @ second, first.inverse(), first(d.x, axis=axis))
    yield "affine", words, (first, second, *composed)
    yield "affine_backward", words, bnpp.affine_backward(d[3:5], d.beta, d.mean, d.var)
    conv = np.moveaxis(d.x, axis, 0)[:, :, :3, :3]
    for name, weight in (("fold_conv", conv), ("fold_linear", conv[..., 0, 0])):
        ahead = bnpp.Affine(*np.random.default_rng(2).standard_normal((2, weight.shape[1])))
        beside = {"after": first, "before": ahead}
        yield name, words, getattr(bnpp, name)(weight, d.beta, **beside)
        grads = getattr(bnpp, f"{name}_backward")(weight, d.mean, weight, d.beta, **beside)
        yield f"{name}_backward", words, grads


def lines(dtypes: dict[str, Any]) -> Iterator[Line]:
    """Make every call, one after the other."""
    for case in WALKS:
        _core.set_stream_above(0 if case.stream else 2**62)
        for name, dtype in dtypes.items():
            d = make(case, dtype)
            yield from pair("batch_norm", f"{name} {case}", d, *d[3:5], axis=case.axis)
    _core.set_stream_above(2**62)
    for case, names in EVERYTHING.items():
        for name in (name for name in names if name in dtypes):
            d = make(case, dtypes[name])
            for calls in (batch_norms, variants, maps):
                yield from calls(d, f"{name} {case}", case.axis)


def digest(value: Any, found: Any = None) -> str:
    """Hash dtypes, shapes and bytes of all arrays in a result; every NaN is the same one."""
    found = found or blake2b(digest_size=8)
    if isinstance(value, np.ndarray):
        found.update(f"{value.dtype} {value.shape}".encode())
        bits = value.copy().view(f"u{value.itemsize}")
        bits[np.isnan(value)] = 2 ** (8 * value.itemsize - 1) - 1
        found.update(bits)
    elif isinstance(value, tuple):
        for part in value:
            digest(part, found)
    elif dataclasses.is_dataclass(value):
        digest(tuple(vars(value).values()), found)
    elif isinstance(value, (bnpp.Affine, bnpp.Moments)):
        digest(value.__reduce__()[1], found)  # all that they hold
    elif hasattr(value, "inv_std"):
        shown = ("mean", "var", "inv_std", "weight", "r", "d", "count")
        digest(tuple(getattr(value, name, None) for name in shown), found)
    else:
        found.update(repr(value).encode())
    return found.hexdigest()


def main() -> None:
    """Print a line a call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", choices=bnpp.usable_isas(), default=bnpp.get_isa())
    parser.add_argument("--threads", type=int, default=bnpp.get_threads())
    options = parser.parse_args()
    bnpp.set_isa(options.isa)
    try:
        limit = bnpp.thread_limit(options.threads)
    except ValueError as error:
        parser.error(f"--threads: {error}")
    dtypes: dict[str, Any] = {name: np.dtype(name) for name in ("float16", "float32", "float64")}
    if find_spec("ml_dtypes"):
        import ml_dtypes  # noqa: PLC0415 - the other dtypes do without

        dtypes["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
    else:
        print("benchmarks.digests: without bfloat16: pip install ml_dtypes", file=sys.stderr)
    seen: list[str] = []
    with limit:
        for function, words, result in lines(dtypes):
            print(f"{digest(result)}  {function} {words}")
            seen.append(function)
    print(f"{len(seen)} calls, {options.isa}, {options.threads} threads", file=sys.stderr)
    if missed := {name for name in bnpp.__all__ if name.islower()} - {*seen, *SETTINGS}:
        raise SystemExit(f"benchmarks.digests: no line calls {', '.join(sorted(missed))}")


if __name__ == "__main__":
    main()
