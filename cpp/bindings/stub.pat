# The types of bnpp._core, for its stub: nanobind cannot tell them from handles and tuples.

_core.__prefix__:
    from typing import Any, Literal, TypeAlias, overload

    import numpy as np
    from numpy.typing import NDArray

    _Array: TypeAlias = NDArray[np.floating[Any]]
    _Vector: TypeAlias = NDArray[np.float64]
    _Parts: TypeAlias = tuple[_Vector, _Vector, _Vector, _Vector, _Vector, _Vector]

_core.(Saved|ConditionalBatchNormSaved|GroupNormSaved).(mean|var|inv_std):
    @property
    def \2(self) -> _Array:
        \doc

_core.(Saved|GroupNormSaved).weight:
    @property
    def weight(self) -> _Vector | None:
        \doc

_core.(Saved|ConditionalBatchNormSaved|GroupNormSaved).shape:
    @property
    def shape(self) -> tuple[int, ...]:
        \doc

_core.batch_norm$:
    def batch_norm(x: object, gamma: object, beta: object, axis: int, eps: float, residual: object, activation: str | None, on_single: str, out: object, keep: str, weights: object) -> tuple[_Array, Saved]: ...

_core.batch_norm_backward$:
    def batch_norm_backward(dy: object, saved: Saved, dmean: object, dvar: object, out: object) -> tuple[_Array, _Array, _Array, _Array | None]: ...

_core.batch_norm_inference$:
    @overload
    def batch_norm_inference(x: object, gamma: object, beta: object, mean: object, var: object, axis: int, eps: float, residual: object, activation: str | None, out: object, save: Literal[False]) -> _Array: ...
    @overload
    def batch_norm_inference(x: object, gamma: object, beta: object, mean: object, var: object, axis: int, eps: float, residual: object, activation: str | None, out: object, save: Literal[True]) -> tuple[_Array, Saved]: ...
    @overload
    def batch_norm_inference(x: object, gamma: object, beta: object, mean: object, var: object, axis: int, eps: float, residual: object, activation: str | None, out: object, save: bool) -> _Array | tuple[_Array, Saved]: ...

_core.batch_norm_inference_backward$:
    def batch_norm_inference_backward(dy: object, saved: Saved, out: object) -> tuple[_Array, _Array, _Array, _Array, _Array, _Array | None]: ...

_core.Saved.(r|d)$:
    @property
    def \1(self) -> _Array | None:
        \doc

_core.batch_renorm$:
    def batch_renorm(x: object, gamma: object, beta: object, running_mean: object, running_var: object, r_max: float, d_max: float, axis: int, eps: float, residual: object, activation: str | None, on_single: str, out: object) -> tuple[_Array, Saved]: ...

_core.batch_renorm_backward$:
    def batch_renorm_backward(dy: object, saved: Saved, out: object) -> tuple[_Array, _Array, _Array, _Array | None]: ...

_core.part_backward$:
    def part_backward(dy: object, saved: Saved, dx: _Array, dresidual: _Array | None) -> tuple[_Vector, ...]: ...

_core.whole_output$:
    def whole_output(function: str, out: object, like: object, inputs: list[tuple[str, object, bool]]) -> _Array: ...

_core.ConditionalBatchNormSaved.__suffix__:
    def _moments(self) -> _Parts: ...

_core.conditional_batch_norm$:
    def conditional_batch_norm(x: object, gamma: object, beta: object, axis: int, eps: float, residual: object, activation: str | None, on_single: str, out: object) -> tuple[_Array, ConditionalBatchNormSaved]: ...

_core.conditional_batch_norm_inference$:
    def conditional_batch_norm_inference(x: object, gamma: object, beta: object, mean: object, var: object, axis: int, eps: float, residual: object, activation: str | None, out: object, save: bool) -> tuple[_Array, ConditionalBatchNormSaved]: ...

_core.conditional_batch_norm_backward$:
    def conditional_batch_norm_backward(dy: object, saved: ConditionalBatchNormSaved, out: object) -> tuple[_Array, _Array, _Array, _Array, _Array, _Array | None]: ...

_core.group_norm$:
    def group_norm(x: object, groups: int, gamma: object, beta: object, axis: int, eps: float, residual: object, activation: str | None, on_single: str, out: object, weights: object) -> tuple[_Array, GroupNormSaved]: ...

_core.instance_norm$:
    def instance_norm(x: object, gamma: object, beta: object, axis: int, eps: float, residual: object, activation: str | None, on_single: str, out: object, weights: object) -> tuple[_Array, GroupNormSaved]: ...

_core.(group_norm_backward|instance_norm_backward)$:
    def \1(dy: object, saved: GroupNormSaved, out: object) -> tuple[_Array, _Array, _Array, _Array | None]: ...

_core.GroupNormSaved.__suffix__:
    def _statistics(self) -> tuple[_Vector, _Vector, _Vector | None, _Vector | None]: ...

_core.LayerNormSaved.(mean|var|inv_std):
    @property
    def \1(self) -> _Array:
        \doc

_core.LayerNormSaved.(shape|axis):
    @property
    def \1(self) -> tuple[int, ...]:
        \doc

_core.layer_norm$:
    def layer_norm(x: object, gamma: object, beta: object, axis: int | tuple[int, ...], eps: float, weights: object, out: object) -> tuple[_Array, LayerNormSaved]: ...

_core.layer_norm_backward$:
    def layer_norm_backward(dy: object, saved: LayerNormSaved, out: object) -> tuple[_Array, _Array, _Array]: ...

_core.rms_norm$:
    def rms_norm(x: object, gamma: object, axis: int | tuple[int, ...], eps: float, weights: object, out: object) -> tuple[_Array, LayerNormSaved]: ...

_core.rms_norm_backward$:
    def rms_norm_backward(dy: object, saved: LayerNormSaved, out: object) -> tuple[_Array, _Array]: ...

_core.batch_norm_jvp$:
    def batch_norm_jvp(saved: Saved, x_dot: object, gamma_dot: object, beta_dot: object, mean_dot: object, var_dot: object, residual_dot: object, out: object) -> tuple[_Array, _Array, _Array]: ...

_core.batch_norm_double_backward$:
    def batch_norm_double_backward(saved: Saved, dy: object, ddx: object, ddgamma: object, ddbeta: object, ddmean: object, ddvar: object, ddresidual: object, dvar: object) -> tuple[_Array, _Array, _Array, _Array | None, _Array | None]: ...

_core.moments$:
    def moments(x: object, axis: int, weights: object) -> _Parts: ...

_core.merge_moments$:
    def merge_moments(a: _Parts, b: _Parts) -> _Parts: ...

_core.pool_state$:
    def pool_state() -> tuple[int, int]: ...

_core.build_info$:
    def build_info() -> dict[str, str]: ...

_core.Saved.__suffix__:
    def _moments(self) -> _Parts: ...

_core.AffineMap.(scale|shift|magnitude):
    @property
    def \1(self) -> _Vector: ...

_core.affine$:
    def affine(gamma: object, beta: object, mean: object, var: object, eps: float) -> AffineMap: ...

_core.concat_affine$:
    def concat_affine(maps: list[AffineMap]) -> AffineMap: ...

_core.take_affine$:
    def take_affine(map: AffineMap, indices: list[int]) -> AffineMap: ...

_core.apply_affine$:
    def apply_affine(map: AffineMap, x: object, axis: int, out: object) -> _Array: ...

_core.affine_backward$:
    def affine_backward(dscale: object, dshift: object, gamma: object, mean: object, var: object, eps: float) -> tuple[_Vector, _Vector, _Vector, _Vector]: ...

_core.fold$:
    def fold(conv: bool, weight: object, bias: object, after: object, before: object, layout: str | None, groups: int, transposed: bool, padding: str) -> tuple[_Array, _Array, dict[str, Any], _Vector | None]: ...

_core.fold_backward$:
    def fold_backward(conv: bool, dweight: object, dbias: object, weight: object, bias: object, after: object, before: object, layout: str | None, groups: int, transposed: bool, padding: str) -> tuple[_Array, _Array, tuple[_Vector, _Vector] | None, tuple[_Vector, _Vector] | None]: ...
