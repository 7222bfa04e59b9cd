"""Running a model: in onnxruntime where it is installed, in ONNX's reference evaluator otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from bnpp.onnx import _files

Arrays: TypeAlias = dict[str, NDArray[Any]]
Result = TypeVar("Result")


class NotRunError(Exception):
    """A runtime cannot load or run a model; the message is its own."""


class Runner(Protocol):
    """Something that runs a model on named inputs."""

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""


def runtimes() -> list[str]:
    """Return the runtimes that there are, the preferred one first."""
    return ["onnxruntime"] * bool(find_spec("onnxruntime")) + ["onnx.reference"]


def version(runtime: str) -> str:
    """Return the name of a runtime with its version."""
    if runtime == "onnxruntime":
        import onnxruntime  # noqa: PLC0415 - an optional dependency

        return f"onnxruntime {onnxruntime.__version__}"
    return f"onnx.reference {onnx.__version__}"


@contextmanager
def runner(model: ModelProto, runtime: str) -> Iterator[Runner]:
    """Make a model ready to run, as it is: without the runtime's own optimizations.

    Raises
    ------
    NotRunError
        If the runtime cannot load it, and from each run that fails.
    """
    with tempfile.TemporaryDirectory(prefix="bnpp-") as folder:
        make = _session if runtime == "onnxruntime" else _reference
        run = _wrapped(lambda: make(model, Path(folder)))

        def wrapped(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
            return _wrapped(lambda: run(feeds))

        yield wrapped


def _session(model: ModelProto, folder: Path) -> Runner:
    import onnxruntime  # noqa: PLC0415 - an optional dependency

    options = onnxruntime.SessionOptions()
    # Its own fusion of batch norms would be compared with ours otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    source: str | bytes
    if _files.is_large(model):
        path = folder / "model.onnx"
        _files.save(model, path)
        source = str(path)
    else:
        source = model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=providers)
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return run


def _reference(model: ModelProto, _: Path) -> Runner:
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import

    from bnpp.onnx._reference import BatchNormalization, ConvTranspose  # noqa: PLC0415 - the same

    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization, ConvTranspose])

    def run(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        with np.errstate(all="ignore"):
            return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))

    return run


def _wrapped(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except MemoryError:
        raise
    except Exception as error:  # runtimes raise many types of their own
        raise NotRunError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
