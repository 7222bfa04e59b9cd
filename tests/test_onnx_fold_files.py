"""Files and the command line: whole files or none, and a sentence for everything that can go wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
import onnx
from bnpp import _cli
from bnpp.onnx import _files, _fold_file
from bnpp.onnx.layers import _layer
from helpers.onnx_nets import Net, operators, run
from onnx import numpy_helper


def model(seed=0):
    net = Net("N", 4, 7, 6, dtype="f4", seed=seed)
    y = net.node("Relu", net.bn(net.conv(net.x, 4, 6), 6, name="first"))
    return net.proto(net.bn(net.node("Sigmoid", y), 6, name="second"))


@pytest.fixture
def source(tmp_path):
    """A model in a folder of its own."""
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model(), path)
    return path


@pytest.fixture
def target(tmp_path):
    """A file that is there already."""
    path = tmp_path / "folded.onnx"
    onnx.save(model(seed=1), path)
    return path


def names(path):
    return sorted(p.name for p in path.parent.iterdir() if p.is_file())


def test_a_file_is_folded(source, target, tmp_path):
    before = source.read_bytes()
    report = bnpp.onnx.fold_file(source, target, report=tmp_path / "report.json")
    assert operators(onnx.load(target)) == ["Conv", "Relu", "Sigmoid", "BatchNormalization"]
    assert source.read_bytes() == before
    assert names(target) == ["folded.onnx", "report.json"]
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == json.loads(json.dumps(report.to_dict()))
    assert [entry["status"] for entry in read["batch_norms"]] == ["folded", "stays"]
    assert read["verification"]["passed"] is True
    assert read["layers"][0]["channel_growth"] == report.layers[0].channel_growth
    assert read["nodes_before"] == 5
    assert read["nodes_after"] == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("large", [False, True])
def test_an_interrupted_write_leaves_the_file_that_was_there(
    source, target, monkeypatch, error, large
):
    before = target.read_bytes()
    if large:
        monkeypatch.setattr(_files, "LARGE", 100)
        monkeypatch.setattr(_files, "SMALL_TENSOR", 16)
    made = bnpp.onnx.fold(source)[0]
    calls = []

    def fails(descriptor):
        calls.append(descriptor)
        # The data of a large model are whole by now, the model itself is not.
        if len(calls) == 1 + large:
            raise error

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(error if isinstance(error, type) else OSError):
        _files.save(made, target)
    assert len(calls) == 1 + large
    assert target.read_bytes() == before
    assert names(target) == ["folded.onnx"]


def test_large_models_have_a_second_file(source, target, monkeypatch):
    before = onnx.load(source)
    expected = bnpp.onnx.fold(source)[0].SerializeToString()
    monkeypatch.setattr(_files, "LARGE", 100)
    monkeypatch.setattr(_files, "SMALL_TENSOR", 16)
    bnpp.onnx.fold_file(source, target)
    first, data = names(target)
    assert first == "folded.onnx"
    assert data.startswith("folded.onnx.")
    assert data.endswith(".data")
    onnx.checker.check_model(str(target))
    stored = onnx.load(target, load_external_data=False)
    external = [t for t in stored.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert external
    after = _files.load(target)
    name = before.graph.output[0].name
    np.testing.assert_allclose(run(after)[name], run(before)[name], atol=1e-5)
    # The same model again is the same files, and it folds to itself.
    for path in (target, target.with_name("again.onnx")):
        bnpp.onnx.fold_file(source, path)
    assert names(target)[1:3] == [names(target)[1], first]
    monkeypatch.undo()
    assert bnpp.onnx.fold(target)[0].graph.node == after.graph.node
    plain = onnx.ModelProto.FromString(expected)
    for a, b in zip(after.graph.initializer, plain.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_models_with_external_data_are_read(source, target):
    external = source.with_name("external.onnx")
    onnx.save(model(), external, save_as_external_data=True, size_threshold=0, location="weights")
    bnpp.onnx.fold_file(external, target)
    assert target.stat().st_size > 1000
    unread = onnx.load(external, load_external_data=False)
    with pytest.raises(ValueError, match="were not read"):
        bnpp.onnx.fold(unread)
    external.with_name("weights").unlink()
    with pytest.raises(ValueError, match=r"the data of .*external.onnx cannot be read"):
        bnpp.onnx.fold_file(external, target)


def test_a_link_stays_a_link(source, target):
    link = target.with_name("link.onnx")
    link.symlink_to(target)
    bnpp.onnx.fold_file(source, link)
    assert link.is_symlink()
    assert operators(onnx.load(target))[0] == "Conv"


def test_nothing_is_written_after_a_wrong_fold(source, target, tmp_path, monkeypatch, capsys):
    before = target.read_bytes()
    right = _layer.rounded
    monkeypatch.setattr(_layer, "rounded", lambda e, d, n: right(e * 1.01, d, n))
    arguments = ["fold", str(source), "-o", str(target), "--report", str(tmp_path / "r.json")]
    assert _cli.main(arguments) == 1
    assert "beyond the predicted bound" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert names(target) == ["folded.onnx"]


def test_the_command(source, target):
    command = [sys.executable, "-c", "import sys; from bnpp._cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "fold", source, "-o", target], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    for expected in ("first", "into Conv", "second", "stays", "Sigmoid", "1 folded, 1 stays",
                     "nodes 5 -> 4", "predicted bound", "verified in"):  # fmt: skip
        assert expected in words, done.stdout
    assert done.stderr == ""
    assert operators(onnx.load(target))[0] == "Conv"


def test_options_of_the_command(source, target, capsys):
    arguments = ["fold", str(source), "-o", str(target), "--leftover", "mul_add", "--padded",
                 "correct", "--shape", "x=1,4,7,6", "--seed", "3"]  # fmt: skip
    assert _cli.main(arguments) == 0
    assert "x [1, 4, 7, 6]" in capsys.readouterr().out
    assert operators(onnx.load(target)) == ["Conv", "Relu", "Sigmoid", "Mul", "Add"]
    assert _cli.main([*arguments[:4], "--no-verify"]) == 0
    assert "not verified" in capsys.readouterr().out


def text(path):
    path.write_text("not a model\n")
    return path


def empty(path):
    path.write_bytes(b"")
    return path


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


WRONG = {
    "no file": (lambda s, t: (s.with_name("none"), t), "none: No such file"),
    "a folder": (lambda s, t: (s.parent, t), "is a folder"),
    "text": (lambda s, t: (text(s), t), "not an ONNX model"),
    "an empty file": (lambda s, t: (empty(s), t), "not an ONNX model"),
    "noise": (lambda s, t: (noise(s), t), "not an ONNX model"),
    "half a model": (lambda s, t: (halved(s), t), "not an ONNX model|not valid"),
    "itself": (lambda s, t: (s, s), "is the input itself"),
    "itself by another name": (lambda s, t: (s, linked(s)), "is the input itself"),
    "into a folder": (lambda s, t: (s, t.parent), "is a folder, but a file is needed"),
    "into no folder": (lambda s, t: (s, t.parent / "none" / "x.onnx"), "does not exist"),
}


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def linked(path):
    link = path.with_name("link.onnx")
    link.hardlink_to(path)
    return link


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files(what, source, target, capsys):
    paths, words = WRONG[what]
    given, to = paths(source, target)
    before = target.read_bytes()
    assert _cli.main(["fold", str(given), "-o", str(to)]) == 1
    said = capsys.readouterr().err
    assert any(word in said for word in words.split("|")), said
    assert said.startswith("bnpp fold: ")
    assert said.count("\n") == 1
    assert target.read_bytes() == before
    assert names(target) == ["folded.onnx"]


def test_a_folder_that_cannot_be_written_to(source, target, monkeypatch, capsys):
    monkeypatch.setattr(_fold_file.os, "access", lambda *_: False)
    assert _cli.main(["fold", str(source), "-o", str(target)]) == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_the_report_may_not_be_the_model(source, target, capsys):
    assert _cli.main(["fold", str(source), "-o", str(target), "--report", str(target)]) == 1
    assert "would both be" in capsys.readouterr().err
    assert _cli.main(["fold", str(source), "-o", str(target), "--report", str(source)]) == 1
    assert "is the input itself" in capsys.readouterr().err


def test_an_interruption(source, target, monkeypatch, capsys):
    before = target.read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_fold_file, "fold", interrupted)
    assert _cli.main(["fold", str(source), "-o", str(target)]) == 130
    assert capsys.readouterr().err == "bnpp fold: interrupted, no file was left half-written\n"
    assert target.read_bytes() == before


@pytest.mark.parametrize("text", ["x", "=1,2", "x=1,a", "x=1,-2"])
def test_bad_shapes_on_the_command_line(text, capsys):
    with pytest.raises(SystemExit) as caught:
        _cli.main(["fold", "a.onnx", "-o", "b.onnx", "--shape", text])
    assert caught.value.code == 2
    assert "NAME=1,3,224,224" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["onnx", "rich"])
def test_a_missing_package_is_named_with_its_extra(missing, source, target):
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == {missing!r} else find(name, *a)\n"
        f"sys.modules[{missing!r}] = None\n"
        "from bnpp._cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "fold", source, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'bnpp[onnx]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_bnpp_itself_does_not_import_onnx():
    code = "import bnpp, bnpp._cli, sys; sys.exit('onnx' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
