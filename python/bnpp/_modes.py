"""The two modes of layers with running statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which only type checkers bring along
    from typing_extensions import Self


class TwoModes:
    """A layer that normalizes otherwise in evaluation than in training."""

    training: bool

    def train(self) -> Self:
        """Normalize by the statistics of what a call is given, from now on.

        Returns
        -------
        layer
            This one.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.BatchNorm(2).eval().train().training
        True
        """
        self.training = True
        return self

    def eval(self) -> Self:
        """Normalize by the running statistics, if the layer has any, from now on.

        Returns
        -------
        layer
            This one.

        Examples
        --------
        >>> import bnpp
        >>> bnpp.BatchNorm(2).eval().training
        False
        """
        self.training = False
        return self
