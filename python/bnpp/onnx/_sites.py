"""How far a layer's output may move: by the rounding of its folded weights, and by running it.

For one channel of the output, with n terms in its sum, weights w, and the bias b a sum of terms of size B:

- the rounding of the folded weights and bias moves it by at most ``sum|dw| * max|x| + |db|`` (proved);
- each of the two models adds n terms with a relative rounding error of at most u each. Partial sums are
  of the size ``|w|_2 * rms(x)``, ``|y|`` and B, and the errors of their roundings add up like sqrt(n),
  because their signs are random (Higham & Mary 2019): sqrt(n) * u times that size is taken;
- the values of both models are rounded to the model's dtype, 4 times at most around one layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bnpp.onnx._constants import unit
from bnpp.onnx._field import Float64
from bnpp.onnx.layers import Layer

#: Sums are made in float32 at least, also where values are kept in less.
ACCUMULATOR = 2.0**-24


class Factors(NamedTuple):
    """The size of a change is ``largest * max|x| + typical * rms(x) + one + output * |y|``."""

    largest: Float64
    typical: Float64
    one: Float64
    output: float


@dataclass(frozen=True)
class Site:
    """The output of one layer.

    Attributes
    ----------
    data : str
        The name of the layer's input.
    norm : numpy.ndarray
        The 2-norm of the weights of each channel, in a shape that broadcasts to the output.
    terms : int
        How many terms a sum has.
    weight_rounding, bias_rounding, size : numpy.ndarray
        As in `Folded`: 0 for a layer that was not folded.
    """

    data: str
    norm: Float64
    terms: int
    weight_rounding: Float64
    bias_rounding: Float64
    size: Float64

    @classmethod
    def of(cls, layer: Layer) -> Site:
        """Describe a layer, folded or not."""
        folded = layer.folded
        weight = layer.channels(
            layer.weight if folded is None else folded.weight.astype(np.float64)
        )
        norm = layer.unfold(np.sqrt((weight**2).sum(axis=1)))
        if folded is None:
            zero = 0 * norm
            return cls(layer.data, norm, weight.shape[1], zero, zero, layer.bias_size())
        return cls(
            layer.data,
            norm,
            weight.shape[1],
            np.minimum(
                folded.weight_rounding, layer.unfold(one_rounding(weight, layer.dtype).sum(axis=1))
            ),
            np.minimum(
                folded.bias_rounding, one_rounding(folded.bias.astype(np.float64), layer.dtype)
            ),
            folded.size,
        )

    def factors(self, dtype: np.dtype[np.generic]) -> Factors:
        """Return what gives the size of a change of the output, in a model of a dtype."""
        u = unit(dtype)
        summing = math.sqrt(self.terms) * min(u, ACCUMULATOR) + 4 * u
        return Factors(
            self.weight_rounding,
            summing * self.norm,
            self.bias_rounding + summing * self.size,
            summing,
        )


def one_rounding(values: Float64, dtype: np.dtype[Any]) -> Float64:
    """Return the most that one rounding to a dtype may have changed: more would be a mistake."""
    smallest = 2.0**-24 if dtype == np.float16 else 2.0**-149
    bound: Float64 = 1.01 * unit(dtype) * np.abs(values) + smallest
    return bound


#: The sites of a model, by the path of the graph and the name of the value.
Sites: TypeAlias = dict[tuple[str, str], Site]
