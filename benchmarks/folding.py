"""Who folds which pattern of batch norm, tried on the same random models: the table of docs/onnx.md.

Every tool that is installed gets every model of a row, in a process of its own. A model counts as folded
where no batch norm is left and its outputs are those of the model as it was. The models are the tests'.

    pip install '.[test]' onnxoptimizer onnxsim onnxslim onnxscript torch
    python -m benchmarks.folding --write docs/onnx.md
"""

# ruff: noqa: BLE001, PLC0415 - tools are imported where they are tried, and raise anything

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.onnx_nets import Net, feeds, run
from test_onnx_fold_patterns import FOLDS, IMAGE

from benchmarks import folding_torch

SEEDS = 3
#: Differences beyond this part of the largest output are a wrong fold, not a rounding.
TOLERANCE = 1e-3

#: The rows: what the docs call it, and the models of the tests.
ROWS: dict[str, list[str]] = {
    "Conv → BN": ["conv", "conv without bias", "conv 1-D", "conv padded, strided, dilated"],
    "Conv → BN, groups": ["conv grouped", "conv depthwise"],
    "ConvTranspose → BN": ["conv transposed"],
    "ConvTranspose → BN, groups": ["conv transposed, grouped", "conv transposed, depthwise"],
    "Gemm → BN": ["gemm", "gemm alpha beta", "gemm transB", "gemm no bias"],
    "MatMul → BN": ["matmul", "matmul from the left"],
    "MatMul → Transpose or Reshape → BN": ["matmul Transpose", "matmul Reshape"],
    "MatMul → Add → BN": ["matmul Add", "matmul Add, turned"],
    "Conv → constants → BN": ["constants between", "constant minus"],
    "ConvTranspose → Add → BN": ["conv transposed, Add"],
    "Conv → Concat → BN": ["Concat after"],
    "Conv → MaxPool → BN, scales > 0": ["MaxPool, positive scales"],
    "Conv → PixelShuffle → BN": ["DepthToSpace DCR", "DepthToSpace CRD"],
    "BN → Conv": ["conv before", "conv before, grouped"],
    "BN → Conv, zero padding": ["padded"],
    "BN → Gemm, MatMul": ["gemm before", "matmul before"],
    "BN → Flatten → Gemm": ["Flatten before gemm", "Reshape before gemm"],
    "BN → Concat → Conv": ["Concat before"],
    "BN → BN → Conv": ["BN BN conv"],
    "BN → Conv → BN": ["both sides"],
    "weights shared by two Convs": ["shared", "with and without"],
    "variances 0 and denormal": ["variance 0 and denormal"],
}


def shared(net: Net) -> str:
    weight = net.const(net.normal(6, 4, 3, 3))
    ends = [net.bn(net.node("Conv", net.x, weight), 6) for _ in range(2)]
    return net.node("Add", *ends)


def with_and_without(net: Net) -> str:
    weight = net.const(net.normal(6, 4, 3, 3))
    plain = net.node("Conv", net.x, weight)
    return net.node("Add", net.bn(net.node("Conv", net.x, weight), 6), plain)


#: Models that the tests have in another form.
MORE = {
    "padded": (IMAGE, lambda n: n.conv(n.bn(n.x, 4), 4, 6, pads=[1, 1, 1, 1])),
    "shared": (IMAGE, shared),
    "with and without": (IMAGE, with_and_without),
}


def bnpp_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import bnpp.onnx

    return bnpp.onnx.fold(model, padded="correct")[0]


def onnxoptimizer_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    passes = [*onnxoptimizer.get_fuse_and_elimination_passes(), "fuse_bn_into_conv"]
    return onnxoptimizer.optimize(model, passes, fixed_point=True)


def onnxsim_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    return onnxsim.simplify(model)[0]


def onnxslim_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def onnxscript_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import _fuse_batchnorm

    rules = rewriter.RewriteRuleSet(_fuse_batchnorm.rules.rules)
    return optimizer.optimize(rewriter.rewrite(model, pattern_rewrite_rules=rules))


def onnxruntime_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 4
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(options.optimized_model_filepath)


TOOLS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "bnpp": bnpp_fold,
    "onnxoptimizer": onnxoptimizer_fold,
    "onnxsim": onnxsim_fold,
    "onnxslim": onnxslim_fold,
    "onnxscript": onnxscript_fold,
    "onnxruntime": onnxruntime_fold,
}


def model_of(case: str, seed: int) -> onnx.ModelProto:
    shape, build = (FOLDS | MORE)[case]
    net = Net(*shape, seed=seed, dtype="f4")
    return net.proto(build(net))


def outcome(tool: str, case: str, seed: int) -> str:
    """One of: folds, stays, wrong, fails."""
    warnings.simplefilter("ignore")
    model = model_of(case, seed)
    given = feeds(model, seed)
    (expected,) = run(model, given, "onnxruntime").values()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            folded = TOOLS[tool](onnx.ModelProto.FromString(model.SerializeToString()))
        (found,) = run(folded, given, "onnxruntime").values()
    except Exception:  # tools raise anything
        return "fails"
    if np.shape(found) != np.shape(expected) or not close(found, expected):
        return "wrong"
    left = any(node.op_type == "BatchNormalization" for node in folded.graph.node)
    return "stays" if left else "folds"


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max())


class Worker:
    """A process for one tool's work, replaced when a tool crashes it."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1)

    def ask(self, function: Callable[..., str], *arguments: object) -> str:
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            self.pool = ProcessPoolExecutor(1)
            return "crashes"


def row(worker: Worker, tool: str, cases: list[str]) -> str:
    """What a tool does with the models of a row: one word, or counts where it differs."""
    function = folding_torch.outcome if tool == "torch" else outcome
    found = [
        worker.ask(function, *((case,) if tool == "torch" else (tool, case)), seed)
        for case in cases
        for seed in range(SEEDS)
    ]
    found = [result for result in found if result]
    if not found:
        return ""
    kinds = sorted(set(found), key=["folds", "stays", "wrong", "fails", "crashes"].index)
    if len(kinds) == 1:
        return {"folds": "yes", "stays": "no"}.get(kinds[0], f"**{kinds[0]}**")
    return ", ".join(
        f"{found.count(kind)} of {len(found)} {kind}" if kind in ("folds", "stays")
        else f"**{found.count(kind)} of {len(found)} {kind}**"
        for kind in kinds
    )  # fmt: skip


def installed() -> dict[str, str]:
    found = {}
    for tool in [*TOOLS, "torch"]:
        with contextlib.suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def table(rows: dict[str, list[str]]) -> str:
    tools = installed()
    lines = [
        "| pattern | "
        + " | ".join(f"{tool} {v.split('+')[0]}" for tool, v in tools.items())
        + " |",
        "| --- |" + " --- |" * len(tools),
    ]
    cells = {}
    for tool in tools:
        worker = Worker()
        for title, cases in rows.items():
            cells[title, tool] = row(worker, tool, cases)
            print(f"{tool}: {title}: {cells[title, tool]}", file=sys.stderr)
        worker.pool.shutdown()
    for title in rows:
        lines.append(f"| {title} | " + " | ".join(cells[title, tool] for tool in tools) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.folding")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    text = table({title: ROWS[title] for title in options.rows})
    print(text)
    if options.write:
        begin, end = "<!-- folding table: begin -->", "<!-- folding table: end -->"
        page = options.write.read_text()
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        if not rest or not tail:
            raise SystemExit(f"{options.write} has no place for the table: {begin} ... {end}")
        options.write.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")


if __name__ == "__main__":
    main()
