"""What a fold did: a line for each batch norm, what each layer became, and the verification."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from bnpp.onnx import _skeleton
from bnpp.onnx._batch_norm import BatchNorm, is_batch_norm
from bnpp.onnx._proto import bodies

if TYPE_CHECKING:
    from onnx import GraphProto
    from rich.table import Table

    from bnpp.onnx._walk import Walk
    from bnpp.onnx.layers import Folded, Layer


@dataclass
class BatchNormEntry:
    """What became of one batch norm.

    Attributes
    ----------
    name : str
        Its name, or that of its output, behind the path of the subgraph it is in.
    channels : int
        How many channels it has; 0 where its parameters are not known.
    status : {"folded", "merged", "replaced", "stays"}
        Into a layer, into another batch norm, by ``Mul`` and ``Add``, or not at all.
    side : {"after", "before", ""}
        Where it stood, seen from the layers.
    layers, through : list of str
        The layers it went into, and the operators it passed or took in on the way.
    reasons : list of str
        Why it stays: first why not into the layer ahead, then why not into those behind.
    dead_channels, zero_variances, denormal_variances : int
        In how many channels the scale is 0, the variance is 0, the variance is denormal in float32.
    """

    name: str
    channels: int
    status: str = "stays"
    side: str = ""
    layers: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    dead_channels: int = 0
    zero_variances: int = 0
    denormal_variances: int = 0

    @property
    def where(self) -> str:
        """Where it went, or why it stays, in words."""
        if self.status == "replaced":
            return "became Mul and Add: " + "; ".join(self.reasons)
        if self.status == "stays":
            return "stays: " + "; ".join(self.reasons)
        path = f" through {', '.join(self.through)}" if self.through else ""
        return f"into {', '.join(self.layers)}{path}"

    def note(self, bn: BatchNorm) -> None:
        """Take over what its parameters say."""
        self.dead_channels = bn.dead_channels
        self.zero_variances = bn.zero_variances
        self.denormal_variances = bn.denormal_variances

    def went(self, walk: Walk) -> None:
        """Take over where a walk went."""
        self.side = walk.side
        self.layers = [str(layer) for layer in walk.reached]
        self.through = [node.op_type for node in walk.through]
        merged = all(is_batch_norm(layer.node) for layer in walk.reached)
        self.status, self.reasons = "merged" if merged else "folded", []

    def replaced(self) -> None:
        """Note that it became ``Mul`` and ``Add``."""
        self.status = "replaced"


@dataclass
class LayerEntry:
    """What one layer became.

    Attributes
    ----------
    name, op_type : str
        The layer.
    max_weight_change : float
        The largest change of a weight.
    weight_rounding, bias_rounding : float
        What rounding changed, at most in any channel: the sum of the magnitudes over a channel's weights,
        and the bias. Together they move the output by ``weight_rounding * max|x| + bias_rounding`` at most.
    range_growth : float
        By how much the largest weight grew.
    channel_growth : list of float
        The same for the weights of each channel of the output.
    """

    name: str
    op_type: str
    max_weight_change: float
    weight_rounding: float
    bias_rounding: float
    range_growth: float
    channel_growth: list[float]

    @classmethod
    def of(cls, layer: Layer, folded: Folded) -> LayerEntry:
        """Describe a folded layer."""
        return cls(
            layer.graph.path + layer.name,
            layer.node.op_type,
            folded.max_weight_change,
            float(folded.weight_rounding.max(initial=0)),
            float(folded.bias_rounding.max(initial=0)),
            folded.range_growth,
            [float(g) for g in folded.growth],
        )


@dataclass
class OutputEntry:
    """The comparison of one output.

    Attributes
    ----------
    name : str
        The output.
    difference, bound : float
        The largest difference met, and the largest predicted.
    magnitude : float
        The largest value of the output.
    """

    name: str
    difference: float
    bound: float
    magnitude: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the bound."""
        return self.difference <= self.bound


@dataclass
class Verification:
    """The comparison of the models before and after.

    Attributes
    ----------
    runtime : str
        What ran them.
    seed, runs : int
        The first seed of the inputs, and how many seeds were used.
    inputs : dict
        The shapes of the inputs.
    outputs : list of OutputEntry
        The comparison of each output.
    """

    runtime: str
    seed: int
    runs: int
    inputs: dict[str, tuple[int, ...]]
    outputs: list[OutputEntry]

    @property
    def passed(self) -> bool:
        """Whether all outputs are within their bounds."""
        return all(output.passed for output in self.outputs)


@dataclass
class Report:
    """What a fold did to a model; ``print`` shows it as a table.

    Attributes
    ----------
    nodes_before, nodes_after : int
        How many nodes there are, those of subgraphs included and constants left out.
    batch_norms_before, batch_norms_after : int
        How many of them are batch norms.
    weights_before, weights_after : int
        How many values the constants hold.
    batch_norms : list of BatchNormEntry
        What became of each batch norm.
    layers : list of LayerEntry
        What each changed layer became.
    verification : Verification or None
        The comparison, None if there was none.
    """

    nodes_before: int = 0
    nodes_after: int = 0
    batch_norms_before: int = 0
    batch_norms_after: int = 0
    weights_before: int = 0
    weights_after: int = 0
    batch_norms: list[BatchNormEntry] = field(default_factory=list)
    layers: list[LayerEntry] = field(default_factory=list)
    verification: Verification | None = None

    @classmethod
    def of(cls, model: ModelProto) -> Report:
        """Begin a report on a model."""
        nodes, norms, weights = _count(model.graph)
        return cls(nodes_before=nodes, batch_norms_before=norms, weights_before=weights)

    def count_after(self, model: ModelProto) -> None:
        """Count what is left."""
        self.nodes_after, self.batch_norms_after, self.weights_after = _count(model.graph)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in the types that JSON has; infinities become text."""
        whole = dataclasses.asdict(self)
        if self.verification is not None:
            whole["verification"]["passed"] = self.verification.passed
        result = _plain(whole)
        assert isinstance(result, dict)  # as dataclasses.asdict gives one
        return result

    def summary(self) -> list[str]:
        """Return what it comes to, in a few lines."""
        counts: dict[str, int] = {}
        for entry in self.batch_norms:
            counts[entry.status] = counts.get(entry.status, 0) + 1
        said = ", ".join(f"{n} {status}" for status, n in counts.items()) or "none there"
        nodes = f"nodes {self.nodes_before} -> {self.nodes_after}"
        weights = f"constants {self.weights_before} -> {self.weights_after} values"
        lines = [f"batch norms: {said}; {nodes}; {weights}"]
        if self.verification is None:
            return [*lines, "not verified"]
        for output in self.verification.outputs:
            lines.append(
                f"{output.name}: largest difference {output.difference:.2g}, predicted bound "
                f"{output.bound:.2g}, largest value {output.magnitude:.2g}"
            )
        shapes = ", ".join(f"{n} {list(s)}" for n, s in self.verification.inputs.items())
        runs = f"{self.verification.runs} seeded inputs: {shapes}"
        return [*lines, f"verified in {self.verification.runtime} on {runs}"]

    def table(self) -> Table:
        """Return the table of the batch norms, for a terminal."""
        need_rich()
        from rich import box  # noqa: PLC0415 - needed by nothing else
        from rich.table import Table  # noqa: PLC0415

        growth = {f"{e.op_type} {e.name!r}": e.range_growth for e in self.layers}
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("batch norm", "channels", "where", "weight range", "notes"):
            right = title in ("channels", "weight range")
            table.add_column(title, justify="right" if right else "left", overflow="fold")
        for entry in self.batch_norms:
            grown = [growth[name] for name in entry.layers if name in growth]
            table.add_row(
                entry.name,
                str(entry.channels or "?"),
                entry.where,
                f"x {max(grown):.3g}" if grown else "",
                _notes(entry),
            )
        return table

    def __str__(self) -> str:
        need_rich()
        from rich.console import Console  # noqa: PLC0415

        text = io.StringIO()
        console = Console(file=text, width=110, color_system=None, markup=False, highlight=False)
        console.print(self.table())
        for line in self.summary():
            console.print(line, soft_wrap=True)
        return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())


def need_rich() -> None:
    """Raise an ImportError that names the extra if the package that prints tables is missing."""
    if not find_spec("rich"):
        raise ImportError("the table needs the rich package: pip install 'bnpp[onnx]'")


def _notes(entry: BatchNormEntry) -> str:
    notes = (
        (entry.dead_channels, "dead"),
        (entry.zero_variances, "of variance 0"),
        (entry.denormal_variances, "of denormal variance"),
    )
    return ", ".join(f"{count} {what}" for count, what in notes if count)


def _count(graph: GraphProto) -> tuple[int, int, int]:
    """Count nodes but constants, batch norms, and values of constants."""
    nodes = norms = 0
    weights = sum(_skeleton.elements(tensor) for tensor in graph.initializer)
    for node in graph.node:
        nodes += node.op_type != "Constant"
        norms += is_batch_norm(node)
        weights += sum(
            _skeleton.elements(a.t) for a in node.attribute if node.op_type == "Constant"
        )
        for _, body in bodies(node):
            inner = _count(body)
            nodes, norms, weights = nodes + inner[0], norms + inner[1], weights + inner[2]
    return nodes, norms, weights


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
