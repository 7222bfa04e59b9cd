"""The settings that layers are made with: each is checked once, in one voice."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from bnpp._arrays import NEEDED, Array, Input, as_array, is_supported


class Settings:
    """Read the settings of a kind of layer, whose name begins every refusal.

    Parameters
    ----------
    layer : str
        The name of the layer's class.

    Examples
    --------
    >>> Settings("BatchNorm").channels(0)
    Traceback (most recent call last):
    ValueError: BatchNorm: channels is 0, but at least 1 is needed
    """

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def integer(self, name: str, value: SupportsIndex) -> int:
        """Take an integer of any type.

        Parameters
        ----------
        name : str
            The setting, for the message.
        value : int
            What came.

        Returns
        -------
        int

        Raises
        ------
        TypeError
            For anything else.

        Examples
        --------
        >>> Settings("BatchNorm").integer("axis", 1.0)
        Traceback (most recent call last):
        TypeError: BatchNorm: axis is a float, but an integer is needed
        """
        try:
            return operator.index(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{self.layer}: {name} is a {kind}, but an integer is needed") from None

    def channels(self, value: SupportsIndex, name: str = "channels") -> int:
        """Take an integer of at least 1.

        Parameters
        ----------
        value : int
            What came.
        name : str
            The setting, for the message.

        Returns
        -------
        int

        Raises
        ------
        TypeError
            If it is no integer.
        ValueError
            If it is smaller.

        Examples
        --------
        >>> Settings("BatchNorm").channels(np.int8(3))
        3
        """
        number = self.integer(name, value)
        if number < 1:
            raise ValueError(f"{self.layer}: {name} is {value}, but at least 1 is needed")
        return number

    def number(self, name: str, value: object) -> float:
        """Take a real number of any type.

        Parameters
        ----------
        name : str
            The setting, for the message.
        value : float
            What came.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            For anything else.

        Examples
        --------
        >>> Settings("BatchNorm").number("eps", "1e-5")
        Traceback (most recent call last):
        TypeError: BatchNorm: eps is a str, but a number is needed
        """
        if not isinstance(value, (float, int, np.floating, np.integer)):
            kind = type(value).__name__
            raise TypeError(f"{self.layer}: {name} is a {kind}, but a number is needed")
        return float(value)

    def eps(self, value: float) -> float:
        """Take what is added to the variance.

        Parameters
        ----------
        value : float
            What came.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If it is no number.
        ValueError
            If it is negative or not finite.

        Examples
        --------
        >>> Settings("BatchNorm").eps(0)
        0.0
        """
        number = self.number("eps", value)
        if not 0 <= number < math.inf:
            raise ValueError(
                f"{self.layer}: eps is {value}, but a finite number of at least 0 is needed"
            )
        return number

    def momentum(self, value: float | None) -> float | None:
        """Take the weight of the new value in running statistics.

        Parameters
        ----------
        value : float or None
            What came; None is the average over all.

        Returns
        -------
        float or None

        Raises
        ------
        TypeError
            If it is no number.
        ValueError
            If it is not from 0 to 1.

        Examples
        --------
        >>> Settings("BatchNorm").momentum(1)
        1.0
        """
        if value is None:
            return None
        if not 0 <= self.number("momentum", value) <= 1:
            raise ValueError(
                f"{self.layer}: momentum is {value}, but a number from 0 to 1 or None is needed"
            )
        return float(value)

    def dtype(self, value: DTypeLike | None) -> np.dtype[Any]:
        """Take a dtype that bnpp computes with.

        Parameters
        ----------
        value : dtype
            What came.

        Returns
        -------
        numpy.dtype

        Raises
        ------
        TypeError
            For any other.

        Examples
        --------
        >>> Settings("BatchNorm").dtype("f8")
        dtype('float64')
        """
        with suppress(TypeError):
            if value is not None and is_supported(np.dtype(value)):
                return np.dtype(value)
        raise TypeError(f"{self.layer}: dtype is {value!r}, but {NEEDED} is needed")

    def word(self, name: str, value: object, known: tuple[object, ...]) -> Any:
        """Take one of a few words, or None where it is one of them.

        Parameters
        ----------
        name : str
            The setting, for the message.
        value : str or None
            What came.
        known : tuple
            The words.

        Returns
        -------
        str or None

        Raises
        ------
        ValueError
            For any other.

        Examples
        --------
        >>> Settings("BatchNorm").word("on_single", "error", ("error", "biased"))
        'error'
        """
        if not (value is None or isinstance(value, str)) or value not in known:
            choices = " or ".join(map(repr, known))
            raise ValueError(f"{self.layer}: {name} is {value!r}, but {choices} is needed")
        return value

    def with_channels(self, x: Input, axis: int, channels: int) -> Array:
        """Read x and compare its channels, which nothing else does for a layer that is not affine.

        Parameters
        ----------
        x : array_like
            The input of a call.
        axis, channels : int
            Where the layer's channels lie, and their number.

        Returns
        -------
        numpy.ndarray
            As it is if `x` is one; also where it has no such axis, which is refused by what comes next.

        Raises
        ------
        TypeError
            For a dtype that bnpp does not take.
        ValueError
            For another number of channels.

        Examples
        --------
        >>> Settings("BatchNorm").with_channels([[1.0, 2.0]], 1, 3)
        Traceback (most recent call last):
        ValueError: BatchNorm: x has 2 channels along axis 1, but the layer has 3
        """
        array = x if type(x) is np.ndarray else as_array(x, "x", self.layer)
        if not -array.ndim <= axis < array.ndim:
            return array
        found = array.shape[axis]
        if found != channels:
            raise ValueError(
                f"{self.layer}: x has {found} channels along axis {axis}, "
                f"but the layer has {channels}"
            )
        return array
