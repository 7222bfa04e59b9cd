"""Real models, where their package is installed: those of PP-OCR inside rapidocr-onnxruntime 1.4.4."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the onnx package is not installed")

import bnpp.onnx
import onnx
from helpers.onnx_nets import operators

#: Name of the file, shape of the input, batch norms, what one of them goes through.
MODELS = [
    ("ch_ppocr_mobile_v2.0_cls_infer", (1, 3, 48, 192), 35, []),
    ("ch_PP-OCRv4_rec_infer", (1, 3, 48, 320), 6, []),
    ("ch_PP-OCRv4_det_infer", (1, 3, 320, 320), 3, ["Add"]),
]


@pytest.mark.parametrize(("name", "shape", "count", "through"), MODELS)
def test_pp_ocr(name, shape, count, through, tmp_path):
    spec = find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    source = Path(spec.origin).parent / "models" / f"{name}.onnx"
    target = tmp_path / "folded.onnx"
    report = bnpp.onnx.fold_file(source, target, shapes={"x": shape})
    assert (report.batch_norms_before, report.batch_norms_after) == (count, 0)
    # Each takes its node away, and the constants that were absorbed theirs.
    absorbed = sum(entry.through.count("Add") for entry in report.batch_norms)
    assert report.nodes_before - report.nodes_after == count + absorbed
    assert report.batch_norms[-1].through == through
    assert report.verification.passed
    before, after = onnx.load(source), onnx.load(target)
    assert not before.graph.initializer  # all weights are in Constant nodes
    assert operators(before).count("BatchNormalization") == count
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert bnpp.onnx.fold(target, verify=False)[0].SerializeToString() == target.read_bytes()
