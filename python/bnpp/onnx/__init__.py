"""Folding the batch norms of ONNX models into the layers beside them, with proof.

`fold` takes a model or a path and returns the folded model with a report; `fold_file` reads and writes
files, as the command ``bnpp fold model.onnx -o folded.onnx`` does. Needs the extra:
``pip install 'bnpp[onnx]'``.
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError(
        "bnpp.onnx needs the packages of its extra: pip install 'bnpp[onnx]'"
    ) from error

from bnpp.onnx._fold import fold
from bnpp.onnx._fold_file import fold_file
from bnpp.onnx._report import BatchNormEntry, LayerEntry, OutputEntry, Report, Verification
from bnpp.onnx._verify import VerificationError

__all__ = [
    "BatchNormEntry",
    "LayerEntry",
    "OutputEntry",
    "Report",
    "Verification",
    "VerificationError",
    "fold",
    "fold_file",
]
