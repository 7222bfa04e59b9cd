"""``bnpp demo`` as its users call it, on few steps."""

import csv
import os
import re
import signal
import sys

import numpy as np
import pytest
from bnpp._cli import main
from bnpp.experiments import data, demo, figure1
from bnpp.experiments.files import load_arrays
from helpers.mnist_files import idx, replace_mnist, write

PNG = b"\x89PNG\r\n\x1a\n"


def run(*words, output):
    return main(["demo", *words, "--output", str(output)])


def written(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def values(text, first):
    """The cells of the row of a printed table that begins so."""
    rows = re.findall(rf"^\| {re.escape(first)} +\|(.*)\|$", text, re.MULTILINE)
    assert rows, f"no row {first!r} in\n{text}"
    return [cell.strip() for cell in rows[0].split("|")]


def test_the_default(tmp_path, capsys):
    assert run("--steps", "150", output=tmp_path / "out") == 0
    printed = capsys.readouterr().out
    without, with_ = (values(printed, name) for name in ("without BN", "with BN"))
    assert float(with_[0].rstrip("%")) > 90
    assert float(without[0].rstrip("%")) < 30  # sigmoids learn nothing in so few steps
    assert values(printed, "test images that both classify alike") == ["500 of 500"]
    change = float(values(printed, "the same computed in float64")[0])
    bound = float(values(printed, "its bound, from the rounding of the folded weights")[0])
    assert 0 < change <= bound < 1e-3
    folder = tmp_path / "out"
    assert written(folder) == ["figure1-digits.md", "figure1-digits.png"]
    assert (folder / "figure1-digits.png").read_bytes().startswith(PNG)
    page = (folder / "figure1-digits.md").read_text()
    assert "`bnpp demo figure1 --seed 0 --steps 150`" in page
    assert values(page, "with BN") == with_


def test_ctrl_c_and_on(tmp_path, capsys, monkeypatch):
    """Stopped in the middle, twice, and resumed: the same files as without."""
    plain = figure1.SigmoidInputs.after_step
    stops = iter([40, 80])
    count = [0, next(stops)]

    def stopping(self, network):
        plain(self, network)
        count[0] += 1
        if count[0] == count[1]:
            os.kill(os.getpid(), signal.SIGINT)

    assert run("--steps", "60", output=tmp_path / "whole") == 0
    capsys.readouterr()
    monkeypatch.setattr(figure1.SigmoidInputs, "after_step", stopping)
    parts = tmp_path / "parts"
    for where in ("after step 40 of 60", "after step 20 of 60"):
        assert run("--steps", "60", output=parts) == 130
        message = capsys.readouterr()
        assert re.fullmatch(
            rf"bnpp demo: stopped {where}; the same command .* goes on .*\n", message.err
        )
        assert message.out == ""
        assert written(parts) == []
        count[1] = next(stops, None)
    assert run("--steps", "60", output=parts) == 0
    name = "figure1-digits.png"
    assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for run_ in ("with-BN", "without-BN"):
        a, b = (
            load_arrays(folder / "runs" / f"figure1-digits-{run_}.npz")[0]
            for folder in (parts, tmp_path / "whole")
        )
        for key in a.keys() - {"seconds"}:
            assert np.array_equal(a[key], b[key]), key


def test_the_table(tmp_path, capsys):
    words = ["table", "--seeds", "2", "--steps", "20"]
    assert run(*words, output=tmp_path) == 0
    first = capsys.readouterr().out
    assert values(first, "mlp")[0] == "baseline"
    assert written(tmp_path) == ["table-digits.csv", "table-digits.md", "table-digits.png"]
    assert (tmp_path / "table-digits.png").read_bytes().startswith(PNG)
    with (tmp_path / "table-digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 8  # networks, seeds, variants
    rates = {row["variant"]: float(row["learning_rate"]) for row in rows if row["network"] == "mlp"}
    assert rates["BN-x30"] == pytest.approx(30 * rates["baseline"])
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert run(*words, output=tmp_path) == 0  # from what is saved
    assert capsys.readouterr().out == first


def test_the_averages(tmp_path, capsys):
    words = ["averages", "--seeds", "1", "--steps", "40", "--network", "mlp"]
    assert run(*words, output=tmp_path) == 0
    printed = capsys.readouterr().out
    for name in ("momentum 0.1", "all batches", "Algorithm 2", "estimated anew", "inverted"):
        assert name in printed
    assert written(tmp_path) == ["averages-digits.csv", "averages-digits.md", "averages-digits.png"]
    with (tmp_path / "averages-digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = {
        row["statistics"]: float(row["accuracy"]) for row in rows if row["test_images"] == "none"
    }
    assert last["Algorithm 2"] > last["momentum 0.001"]  # 40 steps are nothing for that average
    faded = {
        row["statistics"]: float(row["accuracy"]) for row in rows if row["test_images"] == "faded"
    }
    assert faded["estimated anew"] > faded["old statistics"]


def test_the_rates(tmp_path, capsys):
    assert run("rates", "--steps", "20", "--network", "mlp", output=tmp_path) == 0
    rows = re.findall(r"^\| mlp .*\|$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        mean, best = (cell.split() for cell in row.split("|")[3:5])
        assert float(mean[0]) == pytest.approx(np.mean([float(b) for b in best]), abs=0.011)
        assert len(best) == 3


def test_mnist_from_a_folder(tmp_path, capsys, monkeypatch):
    small = replace_mnist(monkeypatch)
    folder = write(tmp_path / "mnist", small)
    assert run("--data", str(folder), "--steps", "4", output=tmp_path / "out") == 0
    assert values(capsys.readouterr().out, "test images that both classify alike") == ["60 of 60"]
    assert written(tmp_path / "out") == ["figure1-mnist.md", "figure1-mnist.png"]


def test_download(tmp_path, monkeypatch):
    small = replace_mnist(monkeypatch)
    source = write(tmp_path / "mirror", small).as_uri() + "/"
    monkeypatch.setattr(
        demo, "download_mnist", lambda folder: data.download_mnist(folder, [source])
    )
    words = ["--data", str(tmp_path / "mnist"), "--download", "--steps", "2"]
    assert run(*words, output=tmp_path / "out") == 0
    assert len(written(tmp_path / "mnist")) == 4


def refused(capsys, *words):
    """One sentence on standard error, nothing else."""
    message = capsys.readouterr()
    assert message.out == ""
    assert re.fullmatch(r"bnpp demo: .+\n", message.err)
    for word in words:
        assert word in message.err


def test_a_folder_that_is_not_mnist(tmp_path, capsys):
    assert run("--data", str(tmp_path), output=tmp_path / "out") == 1
    refused(capsys, str(tmp_path), "train-images-idx3-ubyte.gz", "--download")


def test_a_wrong_checksum(tmp_path, capsys):
    images = idx(np.zeros((3, 28, 28), np.uint8))
    write(tmp_path / "mnist", {"train-images-idx3-ubyte": images})
    assert run("--data", str(tmp_path / "mnist"), output=tmp_path / "out") == 1
    refused(capsys, "SHA-256", "train-images-idx3-ubyte.gz")


def test_an_output_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert run(output=tmp_path / "file") == 1
    refused(capsys, "cannot write", str(tmp_path / "file"), "--output")
    (tmp_path / "folder").mkdir(mode=0o555)

    def denied(**options):  # the user who runs the tests may be allowed everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    assert run(output=tmp_path / "folder") == 1
    refused(capsys, "Permission denied", str(tmp_path / "folder"), "--output")
    assert written(tmp_path / "folder") == []


def test_another_run_in_the_folder(tmp_path, capsys):
    assert run("--steps", "10", output=tmp_path) == 0
    capsys.readouterr()
    assert run("--steps", "20", output=tmp_path) == 1
    refused(capsys, "steps 10", "20", "--restart", "--output")
    assert run("--steps", "20", "--restart", output=tmp_path) == 0


def test_download_without_a_folder(tmp_path, capsys):
    assert run("--download", output=tmp_path / "out") == 1
    refused(capsys, "--data DIR")


@pytest.mark.parametrize(
    ("module", "package"),
    [("sklearn.datasets", "scikit-learn"), ("tqdm", "tqdm"), ("matplotlib", "matplotlib")],
)
def test_without_a_package(tmp_path, capsys, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert run(output=tmp_path / "out") == 1
    refused(capsys, package, "pip install 'bnpp[demo]'")


@pytest.mark.parametrize(
    "words", [["--steps", "0"], ["--seed", "-1"], ["--seeds", "x"], ["--rate", "nan"], ["no"]]
)
def test_arguments_out_of_range(tmp_path, capsys, words):
    with pytest.raises(SystemExit) as caught:
        run(*words, output=tmp_path)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_names_the_studies(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    printed = capsys.readouterr().out
    for study in demo.STUDIES:
        assert f"\n  {study} " in printed
