"""Small IDX files in the place of MNIST's."""

import gzip
import hashlib

import numpy as np
from bnpp.experiments import data


def idx(array):
    """The bytes of an IDX file."""
    lengths = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def replace_mnist(monkeypatch):
    """Let the checksums be those of four small files, and return these by name."""
    rng = np.random.default_rng(0)
    contents = {}
    for name in data.MNIST:
        n = 120 if name.startswith("train") else 60
        shape = (n, 28, 28) if "images" in name else (n,)
        top = 256 if "images" in name else 10
        contents[name] = idx(rng.integers(0, top, shape).astype(np.uint8))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(data, "MNIST", sums)
    return contents


def write(folder, contents, gz=True):
    """Put them into a folder and return it."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        path = folder / (name + ".gz" if gz else name)
        path.write_bytes(gzip.compress(content) if gz else content)
    return folder
