"""Batch normalization for NumPy arrays: exact at any mean, the same bits on any number of threads.

The functions and classes below are the whole public interface. ``batch_norm`` and
``batch_norm_inference`` with their backward passes are pure functions, ``BatchNorm`` is the layer with
parameters and running statistics, ``Moments`` holds statistics that merge, ``affine`` and the ``fold``
functions put batch normalization into the layer beside it, and ``show_config`` tells what runs where.
"""

from bnpp import _core
from bnpp._affine import Affine, AffineGradients, ParameterGradients, affine, affine_backward
from bnpp._batch_norm import (
    FrozenGradients,
    FrozenResidualGradients,
    Gradients,
    ResidualGradients,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from bnpp._core import GroupNormSaved, LayerNormSaved, Saved
from bnpp._derivatives import (
    DoubleGradients,
    FrozenDoubleGradients,
    Tangents,
    batch_norm_double_backward,
    batch_norm_jvp,
)
from bnpp._fold import (
    Folded,
    FoldGradients,
    fold_conv,
    fold_conv_backward,
    fold_linear,
    fold_linear_backward,
)
from bnpp._fold_report import FoldReport
from bnpp._group_norm import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from bnpp._group_norm_layer import GroupNorm, InstanceNorm
from bnpp._layer import BatchNorm
from bnpp._layer_norm import (
    LayerNormGradients,
    RmsNormGradients,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from bnpp._layer_norm_layer import LayerNorm, RMSNorm
from bnpp._moments import Moments, moments
from bnpp._runtime import (
    clear_memory,
    get_isa,
    get_threads,
    set_isa,
    show_config,
    thread_limit,
    usable_isas,
)

__version__ = str(_core.build_info()["version"])

__all__ = [
    "Affine",
    "AffineGradients",
    "BatchNorm",
    "DoubleGradients",
    "FoldGradients",
    "FoldReport",
    "Folded",
    "FrozenDoubleGradients",
    "FrozenGradients",
    "FrozenResidualGradients",
    "Gradients",
    "GroupNorm",
    "GroupNormSaved",
    "InstanceNorm",
    "LayerNorm",
    "LayerNormGradients",
    "LayerNormSaved",
    "Moments",
    "ParameterGradients",
    "RMSNorm",
    "ResidualGradients",
    "RmsNormGradients",
    "Saved",
    "Tangents",
    "__version__",
    "affine",
    "affine_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_double_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_norm_jvp",
    "clear_memory",
    "fold_conv",
    "fold_conv_backward",
    "fold_linear",
    "fold_linear_backward",
    "get_isa",
    "get_threads",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "moments",
    "rms_norm",
    "rms_norm_backward",
    "set_isa",
    "show_config",
    "thread_limit",
    "usable_isas",
]
