"""The images: IDX files that are whole, and all the ways in which they are not."""

import gzip

import numpy as np
import pytest
from bnpp.experiments import data
from bnpp.experiments.files import ExperimentError
from helpers.mnist_files import replace_mnist, write


@pytest.fixture
def small(monkeypatch):
    """Four small files in the place of MNIST's, by name."""
    return replace_mnist(monkeypatch)


def refused(call, *words):
    with pytest.raises(ExperimentError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_digits():
    digits = data.digits()
    assert digits.train.x.shape == (1297, 1, 8, 8)
    assert digits.test.x.shape == (500, 1, 8, 8)
    assert digits.train.x.dtype == np.float32
    assert (digits.train.x.min(), digits.train.x.max()) == (0, 1)
    assert np.array_equal(data.digits().train.x, digits.train.x)
    assert digits.rows().test.x.shape == (500, 64)
    both = np.concatenate([digits.train.x, digits.test.x]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) > 1700  # no image is in both
    assert set(digits.test.labels) == set(range(10))


@pytest.mark.parametrize("gz", [True, False])
def test_mnist(tmp_path, small, gz):
    found = data.mnist(write(tmp_path, small, gz))
    assert found.train.x.shape == (120, 1, 28, 28)
    pixels = np.frombuffer(small["t10k-images-idx3-ubyte"], np.uint8, offset=16)
    assert np.array_equal(found.test.x.ravel(), pixels >= 128)  # binary, as in the paper
    labels = np.frombuffer(small["train-labels-idx1-ubyte"], np.uint8, offset=8)
    assert np.array_equal(found.train.labels, labels)


def test_the_other_usual_name(tmp_path, small):
    write(tmp_path, {name.replace("-idx", ".idx"): content for name, content in small.items()})
    assert len(data.mnist(tmp_path).test.x) == 60


def test_the_checksums_are_of_mnist():
    """Four different ones; that they are the right ones, the full run in docs shows."""
    assert len(set(data.MNIST.values())) == 4
    assert all(len(bytes.fromhex(value)) == 32 for value in data.MNIST.values())


DAMAGES = {
    "truncated gzip": (lambda whole: gzip.compress(whole)[:-40], True, ["truncated", "get it again"]),
    "truncated header": (lambda whole: gzip.compress(whole)[:5], True, ["truncated"]),
    "no gzip": (lambda whole: whole, True, ["no gzip file"]),
    "damaged gzip": (lambda whole: gzip.compress(whole)[:50] + b"\0" * 200, True, ["gzip"]),
    "truncated": (lambda whole: whole[:-1], False, ["94095 bytes", "94096 are needed"]),
    "too long": (lambda whole: whole + b"\0", False, ["94097 bytes", "94096 are needed"]),
    "only a header": (lambda whole: whole[:7], False, ["7 bytes", "16 are needed"]),
    "empty": (lambda whole: b"", False, ["IDX"]),
    "page of HTML": (lambda whole: b"<html>not found</html>", False, ["IDX"]),
    "floats": (lambda whole: b"\0\0\x0d" + whole[3:], False, ["IDX"]),
    "another digit": (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), False, ["SHA-256"]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(tmp_path, small, damage):
    change, gz, words = DAMAGES[damage]
    write(tmp_path, small, gz)
    name = "train-images-idx3-ubyte"
    path = tmp_path / (name + ".gz" if gz else name)
    path.write_bytes(change(small[name]))
    refused(lambda: data.mnist(tmp_path), str(path), *words)


def test_missing_files(tmp_path, small):
    refused(lambda: data.mnist(tmp_path / "no"), "train-images-idx3-ubyte.gz", "--download")
    (write(tmp_path, small) / "t10k-labels-idx1-ubyte.gz").unlink()
    refused(lambda: data.mnist(tmp_path), "t10k-labels-idx1-ubyte.gz")


def test_a_folder_in_the_place_of_a_file(tmp_path, small):
    path = write(tmp_path, small, gz=False) / "t10k-labels-idx1-ubyte"
    path.unlink()
    path.mkdir()
    refused(lambda: data.read_idx(path), "cannot read", str(path))


def mirror(folder):
    return folder.as_uri() + "/"


def test_download(tmp_path, small):
    good = mirror(write(tmp_path / "mirror", small))
    folder = tmp_path / "new" / "data"
    data.download_mnist(folder, [good])
    assert len(data.mnist(folder).train.x) == 120
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{name}.gz" for name in small)


def test_the_next_mirror_is_asked(tmp_path, small):
    wrong = {name: content[:-1] + b"\xff" for name, content in small.items()}
    mirrors = [
        mirror(tmp_path / "nowhere"),
        mirror(write(tmp_path / "wrong", wrong)),
        mirror(write(tmp_path / "good", small)),
    ]
    data.download_mnist(tmp_path / "data", mirrors)
    assert len(data.mnist(tmp_path / "data").train.x) == 120


def test_what_is_there_is_not_fetched(tmp_path, small):
    folder = write(tmp_path, small, gz=False)
    data.download_mnist(folder, ["http://127.0.0.1:9/"])
    assert sorted(p.name for p in folder.iterdir()) == sorted(small)


def test_when_it_cannot_be_downloaded(tmp_path, small):
    wrong = mirror(write(tmp_path / "wrong", dict.fromkeys(small, b"\x00\x00\x08\x00")))
    text = tmp_path / "text"
    text.mkdir()
    (text / "train-images-idx3-ubyte.gz").write_text("no gzip")
    mirrors = ["http://127.0.0.1:9/", wrong, mirror(text)]
    folder = tmp_path / "data"
    words = [*mirrors, "refused", "another SHA-256", *(f"{name}.gz" for name in small), str(folder)]
    refused(
        lambda: data.download_mnist(folder, mirrors, timeout=5), *words, "without --data", "into"
    )
    assert list(folder.iterdir()) == []
