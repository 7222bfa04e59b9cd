"""The images: scikit-learn's handwritten digits, or MNIST from its four IDX files.

MNIST's files are taken as they come (gzipped or not) and used only if the SHA-256 of their content is
the known one, so that everybody's results are about the same images.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from bnpp.experiments.files import ExperimentError, writable_folder, write_bytes
from bnpp.experiments.layers import Array
from bnpp.experiments.optional import optional

#: MNIST's files and the SHA-256 of each, uncompressed.
MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

#: Where to download them from, tried in this order.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

#: Images of scikit-learn's digits that are kept for testing, of 1797.
DIGITS_TEST = 500


class Images(NamedTuple):
    """Images and their classes.

    Attributes
    ----------
    x : numpy.ndarray, shape (N, 1, H, W)
        float32, from 0 to 1.
    labels : numpy.ndarray of integers, shape (N,)
    """

    x: Array
    labels: NDArray[np.intp]

    def rows(self) -> Images:
        """Return the same with the pixels of each image in one row, (N, H*W)."""
        return Images(self.x.reshape(len(self.x), -1), self.labels)


class Dataset(NamedTuple):
    """Images for training and for testing."""

    name: str
    train: Images
    test: Images

    def rows(self) -> Dataset:
        """Return the same with the pixels of each image in one row."""
        return Dataset(self.name, self.train.rows(), self.test.rows())


def digits() -> Dataset:
    """Return the 1797 digits of 8 x 8 pixels that scikit-learn ships, split always in the same way.

    Raises
    ------
    ExperimentError
        If scikit-learn is not installed.
    """
    source: Any = optional("sklearn.datasets", "scikit-learn").load_digits()
    x = (source.images[:, None] / 16).astype(np.float32)
    labels = source.target.astype(np.intp)
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:]
    return Dataset("digits", Images(x[train], labels[train]), Images(x[test], labels[test]))


def mnist(folder: Path) -> Dataset:
    """Read MNIST's four files and make its images binary, as in the paper: 1 from 128 up.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files are, with ``.gz`` or without.

    Raises
    ------
    ExperimentError
        For a file that is missing, truncated, no IDX file, or not MNIST's.
    """
    train_x, train_labels, test_x, test_labels = (
        read_idx(_find(folder, name), checksum) for name, checksum in MNIST.items()
    )
    train = Images(_binary(train_x), train_labels.astype(np.intp))
    return Dataset("mnist", train, Images(_binary(test_x), test_labels.astype(np.intp)))


def read_idx(path: Path, checksum: str | None = None) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or not.

    Parameters
    ----------
    path : pathlib.Path
        The file; gzipped if its name ends in ``.gz``.
    checksum : str, optional
        The SHA-256 that the uncompressed content must have.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape that the file says.

    Raises
    ------
    ExperimentError
        For a file that cannot be read, is truncated or no IDX file, and for another checksum.

    Notes
    -----
    An IDX file begins with two zeros, 8 for bytes, the number of dimensions, and the lengths of these
    as big-endian 32-bit integers.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ExperimentError(
            f"{path} is truncated or no gzip file ({error}): get it again"
        ) from error
    except OSError as error:
        raise ExperimentError(f"cannot read {path} ({error.strerror})") from error
    array = _parse_idx(path, content)
    found = hashlib.sha256(content).hexdigest()
    if checksum is not None and found != checksum:
        raise ExperimentError(
            f"{path} has the SHA-256 {found} (uncompressed), but MNIST's file has {checksum}: "
            "it is damaged or of another data set"
        )
    return array


def _parse_idx(path: Path, content: bytes) -> NDArray[np.uint8]:
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ExperimentError(f"{path} does not begin as an IDX file of bytes does")
    header = 4 + 4 * content[3]
    whole_header = len(content) >= header
    shape = np.frombuffer(content[4:header], ">u4").tolist() if whole_header else []
    needed = header + math.prod(shape) if whole_header else header
    if len(content) != needed:
        raise ExperimentError(
            f"{path} has {len(content)} bytes (uncompressed), "
            f"but {needed} are needed for what it says it holds"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _binary(images: NDArray[np.uint8]) -> Array:
    return (images[:, None] >= 128).astype(np.float32)


def _find(folder: Path, name: str) -> Path:
    """Return the file, whichever of its usual names it has."""
    candidates = [folder / (stem + end) for stem in _names(name) for end in (".gz", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise ExperimentError(
        f"the folder {folder} has no {name}.gz (nor {name}): name MNIST's folder with --data, "
        "or fetch the four files with --download"
    )


def _names(name: str) -> tuple[str, str]:
    return name, name.replace("-idx", ".idx")


def download_mnist(folder: Path, mirrors: Sequence[str] = MIRRORS, timeout: float = 20.0) -> None:
    """Fetch those of MNIST's files that the folder does not have.

    Parameters
    ----------
    folder : pathlib.Path
        Where to put them; made if it is not there.
    mirrors : sequence of str
        Addresses of folders, tried in this order for each file.
    timeout : float
        Seconds to wait for a mirror that does not answer.

    Raises
    ------
    ExperimentError
        If a file cannot be had from any mirror; it says what to do instead.
    """
    writable_folder(folder)
    for name, checksum in MNIST.items():
        with suppress(ExperimentError):
            _find(folder, name)
            continue
        content = _fetch(f"{name}.gz", checksum, folder, mirrors, timeout)
        write_bytes(folder / f"{name}.gz", content)


def _fetch(name: str, checksum: str, folder: Path, mirrors: Sequence[str], timeout: float) -> bytes:
    """Return the first mirror's file whose content has the checksum."""
    reasons = []
    for mirror in mirrors:
        try:
            with urlopen(mirror + name, timeout=timeout) as answer:
                content: bytes = answer.read()
            if hashlib.sha256(gzip.decompress(content)).hexdigest() == checksum:
                return content
            reasons.append(f"{mirror}: another SHA-256")
        except URLError as error:
            reasons.append(f"{mirror}: {error.reason}")
        except (OSError, EOFError, zlib.error, HTTPException) as error:
            reasons.append(f"{mirror}: {error}")
    raise ExperimentError(
        f"cannot download {name} ({'; '.join(reasons)}): put MNIST's four files "
        f"({', '.join(f'{file}.gz' for file in MNIST)}) into {folder} by other means, "
        "or go without --data, with the digits that scikit-learn ships"
    )
