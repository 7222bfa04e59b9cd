"""Running a model: in onnxruntime where it is installed, in ONNX's reference evaluator otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from bnpp.onnx import _files

Arrays: TypeAlias = dict[str, NDArray[Any]]


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
        If the runtime cannot load it.
    """
    try:
        if runtime == "onnxruntime":
            with _session(model) as run:
                yield run
        else:
            yield _reference(model)
    except (NotRunError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # runtimes raise many types of their own
        raise NotRunError(_first_line(error)) from error


@contextmanager
def _session(model: ModelProto) -> Iterator[Runner]:
    import onnxruntime  # noqa: PLC0415 - an optional dependency

    options = onnxruntime.SessionOptions()
    # Its own fusion of batch norms would be compared with ours otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    with tempfile.TemporaryDirectory(prefix="bnpp-") as folder:
        source: str | bytes
        if _files.is_large(model):
            path = Path(folder) / "model.onnx"
            _files.save(model, path)
            source = str(path)
        else:
            source = model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=providers)
        names = [output.name for output in session.get_outputs()]

        def run(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))

        yield run


def _reference(model: ModelProto) -> Runner:
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import
    from onnx.reference.op_run import OpRun  # noqa: PLC0415

    class BatchNormalization(OpRun):  # type: ignore[misc]  # OpRun has no types
        """Inference in all opsets; the evaluator's own is wrong before opset 14."""

        op_domain = ""

        def _run(
            self,
            x: NDArray[Any],
            scale: NDArray[Any],
            shift: NDArray[Any],
            mean: NDArray[Any],
            var: NDArray[Any],
            epsilon: float | None = None,
            **_: object,
        ) -> tuple[NDArray[Any]]:
            wide = np.float64 if x.dtype == np.float64 else np.float32
            shape = (1, -1) + (1,) * (x.ndim - 2)
            s, b, m, v = (p.astype(wide).reshape(shape) for p in (scale, shift, mean, var))
            # 0 is a value of epsilon, None is the operator's default.
            eps = np.asarray(1e-5 if epsilon is None else epsilon, np.float32).astype(wide)
            return (((x.astype(wide) - m) / np.sqrt(v + eps) * s + b).astype(x.dtype),)

    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization])

    def run(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        with np.errstate(all="ignore"):
            return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))

    return run


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
