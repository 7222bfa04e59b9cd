"""What counts as an array: the types of the public interface and the slow path into ``_core``.

``_core`` takes ``numpy.ndarray`` of a native float dtype by itself and calls ``as_array`` only for
other objects, so that nothing here costs a normal call any time.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: An array of float16, float32, float64 or, with ml_dtypes, bfloat16.
Array: TypeAlias = NDArray[np.floating[Any]]


class SupportsDLPack(Protocol):
    """An array of another library that NumPy can read through DLPack, such as a PyTorch tensor."""

    def __dlpack__(self) -> object:
        """Hand out the data."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Tell where the data are."""


#: What the public functions take: arrays, nested lists of floats, tensors on the CPU.
Input: TypeAlias = ArrayLike | SupportsDLPack

#: The one list of dtypes on the Python side; bfloat16 is NumPy's only where ml_dtypes is installed.
DTYPES = ("float16", "bfloat16", "float32", "float64")
NEEDED = f"{', '.join(DTYPES[:-1])} or {DTYPES[-1]}"


def is_supported(dtype: np.dtype[Any]) -> bool:
    """Tell whether the core computes with a dtype: one of `DTYPES` in the machine's byte order.

    Examples
    --------
    >>> (
    ...     is_supported(np.dtype("float16")),
    ...     is_supported(np.dtype(">f4")),
    ...     is_supported(np.dtype(int)),
    ... )
    (True, False, False)
    """
    return dtype.name in DTYPES and dtype.isnative


def bits_of_bfloat16(array: NDArray[Any]) -> NDArray[np.uint16] | None:
    """View an array of bfloat16 as its bits, which the buffer protocol can hand out.

    Parameters
    ----------
    array : numpy.ndarray
        Any array.

    Returns
    -------
    numpy.ndarray of uint16, or None
        None for any other dtype.

    Examples
    --------
    >>> bits_of_bfloat16(np.zeros(3, "M8[s]")) is None
    True
    """
    if array.dtype.name != "bfloat16" or not array.dtype.isnative:
        return None
    return array.view(np.uint16)


def as_array(obj: object, name: str, where: str) -> Array:
    """Read any object as an array of a dtype bnpp has, without a copy where NumPy can.

    Parameters
    ----------
    obj : object
        A NumPy array or a subclass, a tensor of another library on the CPU, nested lists of floats.
    name, where : str
        The argument and the function that got it, for the message of an error.

    Returns
    -------
    numpy.ndarray
        Exactly ``numpy.ndarray``, of one of `DTYPES`.

    Raises
    ------
    TypeError
        For a masked array (its mask would be lost), for an object that is no array, and for any
        other dtype.
    ValueError
        For nested lists of uneven lengths.

    Examples
    --------
    >>> as_array([[1.0, 2.0]], "x", "batch_norm")
    array([[1., 2.]])
    >>> as_array([[1, 2]], "x", "batch_norm")
    Traceback (most recent call last):
    TypeError: batch_norm: x has dtype int64, but float16, bfloat16, float32 or float64 is needed
    """
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError(
            f"{where}: {name} is a masked array, whose mask would be lost, but a plain array is needed"
        )
    array = obj if type(obj) is np.ndarray else _read(obj, name, where)
    if not is_supported(array.dtype):
        refuse_dtype(array, name, where)
    return array


def as_weights(obj: object, wide: bool, where: str) -> Array:
    """Read weights of any real dtype: bools, integers or floats.

    Parameters
    ----------
    obj : object
        An array, a tensor of another library on the CPU, nested lists, or one number.
    wide : bool
        Whether float64 is needed rather than float32.
    where : str
        The function that got them, for the message of an error.

    Returns
    -------
    numpy.ndarray of float32 or float64
        A copy only where the dtype is another one.

    Raises
    ------
    TypeError
        For a masked array, for an object that is no array, and for any other dtype.

    Examples
    --------
    >>> as_weights([True, False], False, "batch_norm")
    array([1., 0.], dtype=float32)
    """
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError(
            f"{where}: weights is a masked array, whose mask would be lost, "
            "but a plain array is needed"
        )
    array = obj if type(obj) is np.ndarray else _read(obj, "weights", where)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"{where}: weights has dtype {array.dtype}, but bools, integers or floats are needed"
        )
    with np.errstate(over="ignore"):  # the Inf is refused
        wanted: Array = array.astype(np.float64 if wide else np.float32, copy=False)
    return wanted if wanted.ndim > 0 else wanted.reshape(1)


def refuse_dtype(array: NDArray[Any], name: str, where: str) -> NoReturn:
    """Raise the TypeError for an array of a dtype that is not taken.

    Parameters
    ----------
    array : numpy.ndarray
        The array that came.
    name, where : str
        The argument and the function that got it.

    Raises
    ------
    TypeError
        Always.

    Examples
    --------
    >>> refuse_dtype(np.zeros(3, ">f4"), "gamma", "batch_norm")
    Traceback (most recent call last):
    TypeError: batch_norm: gamma has dtype >f4 (byte-swapped), but native byte order is needed
    """
    if not array.dtype.isnative and is_supported(array.dtype.newbyteorder("=")):
        raise TypeError(
            f"{where}: {name} has dtype {array.dtype.str} (byte-swapped), "
            "but native byte order is needed"
        )
    raise TypeError(f"{where}: {name} has dtype {array.dtype}, but {NEEDED} is needed")


def _read(obj: object, name: str, where: str) -> NDArray[Any]:
    kind = type(obj).__name__
    if hasattr(obj, "__dlpack__") and not isinstance(obj, np.ndarray):
        try:
            return np.from_dlpack(obj)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # the way through __array__ below works, or gives the better reason
    try:
        array = np.asarray(obj)
    except Exception as error:
        dtype = str(getattr(obj, "dtype", ""))
        if "bfloat16" in dtype:
            raise TypeError(
                f"{where}: {name} ({kind}) has dtype {dtype}, which NumPy does not have, but an array "
                "of float16, float32, float64 or ml_dtypes.bfloat16 is needed"
            ) from error
        # The reason's first line is enough: some libraries answer with a page.
        reason = (str(error).splitlines() or [kind])[0]
        wrong = ValueError if isinstance(error, ValueError) else TypeError
        raise wrong(
            f"{where}: {name} ({kind}) cannot be read as a NumPy array: {reason}"
        ) from error
    if array.dtype == object:
        raise TypeError(
            f"{where}: {name} ({kind}) is read by NumPy as an array of objects, "
            f"but {NEEDED} is needed"
        )
    return array
