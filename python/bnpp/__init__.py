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
from bnpp._conditional import (
    conditional_batch_norm,
    conditional_batch_norm_backward,
    conditional_batch_norm_inference,
)
from bnpp._core import ConditionalBatchNormSaved, GroupNormSaved, LayerNormSaved, Saved
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
from bnpp._ghost import GhostBatchNorm, ghost_batch_norm, ghost_batch_norm_backward
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
from bnpp._parts import SavedParts
from bnpp._renorm import BatchRenorm, batch_renorm, batch_renorm_backward
from bnpp._runtime import (
    clear_memory,
    get_isa,
    get_threads,
    set_isa,
    show_config,
    thread_limit,
    usable_isas,
)
from bnpp._steps import step_batch_norm, step_batch_norm_backward
from bnpp._steps_layer import StepBatchNorm
from bnpp._whitening import IterNormSaved, iter_norm, iter_norm_backward

__version__ = str(_core.build_info()["version"])

__all__ = [
    "Affine",
    "AffineGradients",
    "BatchNorm",
    "BatchRenorm",
    "ConditionalBatchNormSaved",
    "DoubleGradients",
    "FoldGradients",
    "FoldReport",
    "Folded",
    "FrozenDoubleGradients",
    "FrozenGradients",
    "FrozenResidualGradients",
    "GhostBatchNorm",
    "Gradients",
    "GroupNorm",
    "GroupNormSaved",
    "InstanceNorm",
    "IterNormSaved",
    "LayerNorm",
    "LayerNormGradients",
    "LayerNormSaved",
    "Moments",
    "ParameterGradients",
    "RMSNorm",
    "ResidualGradients",
    "RmsNormGradients",
    "Saved",
    "SavedParts",
    "StepBatchNorm",
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
    "batch_renorm",
    "batch_renorm_backward",
    "clear_memory",
    "conditional_batch_norm",
    "conditional_batch_norm_backward",
    "conditional_batch_norm_inference",
    "fold_conv",
    "fold_conv_backward",
    "fold_linear",
    "fold_linear_backward",
    "get_isa",
    "get_threads",
    "ghost_batch_norm",
    "ghost_batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "iter_norm",
    "iter_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "moments",
    "rms_norm",
    "rms_norm_backward",
    "set_isa",
    "show_config",
    "step_batch_norm",
    "step_batch_norm_backward",
    "thread_limit",
    "usable_isas",
]
