"""What a fold changed: the `FoldReport` with its bound on the output."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FoldReport:
    """What folding changed in a layer, and how much of it rounding can show in the output.

    Arrays have one value an output channel (``Cout`` of them), float64 and read-only; channels are
    indices. Attributes ending in ``inputs`` are about the map before the layer, the others about the
    one after it.

    Attributes
    ----------
    max_weight_change : float
        ``max |W' - W|``, the largest change of a weight.
    weight_rounding : numpy.ndarray, shape (Cout,)
        ``sum |exact W' - stored W'|``, a proven upper bound: what storing in the weights' dtype lost.
    bias_rounding : numpy.ndarray, shape (Cout,)
        The same for the bias.
    growth : numpy.ndarray, shape (Cout,)
        ``max |W'| / max |W|``: how far the weights' range widened or narrowed. 1 where both are 0.
    range_growth : float
        The same for the whole tensor. With one quantisation step for the tensor, channel c gets
        ``range_growth / growth[c]`` times coarser.
    weight_sum, constant_sum : numpy.ndarray, shape (Cout,)
        ``sum |W'|``, and the magnitudes of the terms of the bias before they cancelled: for `bound`.
    terms : int
        Products that an output value is the sum of: input channels of a group times kernel positions.
    dead_channels, dead_inputs : tuple of int
        Channels with scale 0, whose weights became 0.
    zero_variances, zero_variance_inputs : tuple of int
        Channels whose variance is 0 (known to maps that `affine` made).
    denormal_variances, denormal_variance_inputs : tuple of int
        Channels with a variance above 0 and below 2**-126, float32's smallest normal number. Runtimes
        that flush denormals read it as 0: with ``eps=0`` they give something else.

    Examples
    --------
    >>> import numpy as np, bnpp
    >>> weight = np.array([[1.0, -3.0]], np.float32)
    >>> report = bnpp.fold_linear(weight, after=bnpp.Affine([0.1], [5.0])).report
    >>> print(report)
    output channels           1
    largest weight change     2.7
    rounding of the weights   1.34e-08 per unit of |input| (channel 0)
    rounding of the bias      0 (channel 0)
    growth of the weights     0.1 (channel 0) to 0.1 (channel 0), whole tensor 0.1
    dead channels             none
    variances of 0            none
    denormal variances        none
    >>> float(report.bound(max_abs_input=10.0)[0]) < 1.7e-7
    True
    """

    max_weight_change: float
    weight_rounding: Vector
    bias_rounding: Vector
    growth: Vector
    range_growth: float
    weight_sum: Vector
    constant_sum: Vector
    terms: int
    dead_channels: tuple[int, ...]
    zero_variances: tuple[int, ...]
    denormal_variances: tuple[int, ...]
    dead_inputs: tuple[int, ...]
    zero_variance_inputs: tuple[int, ...]
    denormal_variance_inputs: tuple[int, ...]

    def bound(self, max_abs_input: float, *, unit_roundoff: float = 0.0) -> Vector:
        """Bound the change of an output value, for each output channel.

        Between the layer with its maps and the folded layer, for every input whose values (those of a
        border included) are at most `max_abs_input`: ``weight_rounding * max_abs_input +
        bias_rounding``. That is for exact arithmetic; it is reached by some input. With `unit_roundoff`
        both are also evaluated in an arithmetic of that precision, which adds
        ``2 * k / (1 - k) * ((weight_sum + weight_rounding) * max_abs_input + constant_sum)`` with
        ``k = (terms + 17) * unit_roundoff``: every product passes ``terms + 1`` roundings in the layer
        and at most 8 in each map (Higham 2002, section 3.1).

        Parameters
        ----------
        max_abs_input : float
            The largest magnitude of the input, at least 0.
        unit_roundoff : float
            2**-24 for float32, 2**-11 for float16, 2**-53 for float64; 0 for exact arithmetic. Sums
            may run in any order, but products are added directly: not by FFT or Winograd.

        Returns
        -------
        numpy.ndarray, shape (Cout,)
            float64; infinite where the arithmetic is too coarse for a bound.

        Raises
        ------
        ValueError
            If one of them is negative or no number.

        Examples
        --------
        >>> import bnpp
        >>> report = bnpp.fold_linear([[1.0, 2.0]], after=bnpp.Affine([3.0], [0.0])).report
        >>> report.bound(100.0)
        array([0.])
        >>> bool(report.bound(100.0, unit_roundoff=2**-24)[0] < 2.1e-3)
        True
        """
        for name, value in (("max_abs_input", max_abs_input), ("unit_roundoff", unit_roundoff)):
            if not value >= 0:
                raise ValueError(f"bound: {name} is {value}, but at least 0 is needed")
        stored: Vector = self.weight_rounding * max_abs_input + self.bias_rounding
        if unit_roundoff == 0:
            return stored
        k = (self.terms + 17) * unit_roundoff
        relative = 2 * k / (1 - k) if k < 1 else math.inf
        size = (self.weight_sum + self.weight_rounding) * max_abs_input + self.constant_sum
        evaluated: Vector = stored + relative * size
        return evaluated

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as plain Python values, for JSON.

        Returns
        -------
        dict
            Arrays and tuples as lists; None for a number that is not finite, which JSON lacks.

        Examples
        --------
        >>> import bnpp
        >>> report = bnpp.fold_linear([[1.0]], after=bnpp.Affine([0.0], [0.0])).report
        >>> report.to_dict()["dead_channels"]
        [0]
        """
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def __str__(self) -> str:
        rows = [
            ("output channels", str(len(self.growth))),
            ("largest weight change", f"{self.max_weight_change:.3g}"),
            ("rounding of the weights", _largest(self.weight_rounding, " per unit of |input|")),
            ("rounding of the bias", _largest(self.bias_rounding)),
            ("growth of the weights", self._growth()),
        ]
        for name, outputs, inputs in (
            ("dead channels", self.dead_channels, self.dead_inputs),
            ("variances of 0", self.zero_variances, self.zero_variance_inputs),
            ("denormal variances", self.denormal_variances, self.denormal_variance_inputs),
        ):
            rows.append((name, _channels(outputs)))
            if inputs:
                rows.append((name + ", inputs", _channels(inputs)))
        return "\n".join(f"{name:<26}{value}" for name, value in rows)

    def _growth(self) -> str:
        if not self.growth.size:
            return "none"
        low, high = int(np.argmin(self.growth)), int(np.argmax(self.growth))
        return (
            f"{self.growth[low]:.3g} (channel {low}) to {self.growth[high]:.3g} (channel {high}), "
            f"whole tensor {self.range_growth:.3g}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, tuple)):
        return [_plain(v) for v in np.asarray(value).tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _largest(values: Vector, unit: str = "") -> str:
    if not values.size:
        return "none"
    channel = int(np.argmax(values))
    return f"{values[channel]:.3g}{unit} (channel {channel})"


def _channels(indices: tuple[int, ...]) -> str:
    if not indices:
        return "none"
    shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    return f"{len(indices)}: {shown}"
