"""PyTorch: closed-form gradients of any order, on every device, compiled or not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete, surely_fewer, transformed, without_autocast
from isoscore_star.backends.torch.anchored import Anchored
from isoscore_star.backends.torch.blocks import joined
from isoscore_star.backends.torch.distributed import (
    all_sum,
    anchored_across,
    pair_across,
    place_of,
    process_group,
    scatter_form_across,
)
from isoscore_star.backends.torch.forms import apply
from isoscore_star.backends.torch.gram import Gram
from isoscore_star.backends.torch.low_rank import LeadingDirections
from isoscore_star.backends.torch.pair import pair_of
from isoscore_star.backends.torch.points import compute_dtype, count_points, on_cpu, product_dtype
from isoscore_star.backends.torch.scatter import Scatter
from isoscore_star.backends.torch.score import unbiased_in_one_step
from isoscore_star.backends.torch.target import target_of
from isoscore_star.core.errors import InvalidTypeError
from isoscore_star.core.places import token_places, tokens_taken
from isoscore_star.core.protocol import NO_GROUP, Backend, Invariants, Pair
from isoscore_star.core.scaling import sums_in_unit, with_target


class TorchBackend(Backend):
    """Computes float64 and integers in float64, all other dtypes in float32, their products for small d in float64."""

    name = "torch"

    def owns(self, array: object) -> bool:
        return isinstance(array, Tensor)

    def dtype_name(self, array: Tensor) -> str:
        """Name the dtype."""
        return str(array.dtype).removeprefix("torch.")

    def accept(self, name: str, array: Tensor) -> Tensor:
        """Refuse sparse layouts."""
        if array.layout is not torch.strided:
            raise InvalidTypeError(
                name, f"expected a dense array; got one of layout {array.layout}. Give {name}.to_dense()"
            )
        return array

    def points(self, array: Tensor) -> Tensor:
        """Flatten to (m, d); half precision is converted later, block by block."""
        flat = array.reshape(-1, array.shape[-1])
        return flat if flat.is_floating_point() else flat.to(compute_dtype(flat))

    def mask(self, mask: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(mask, device=like.device).reshape(-1) != 0

    def constant(self, array: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(array).to(device=like.device, dtype=compute_dtype(like))

    def invariants(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        shrinkage_cov: Tensor | None,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by the form with the smaller product; across ranks by the scatter form, whose parts add up."""
        rows, dim = sum(len(cloud) for cloud in clouds), clouds[0].shape[1]
        clouds, masks = joined(clouds, _distinct(masks))
        with without_autocast(clouds[0].device.type):
            target = target_of(shrinkage_cov, product_dtype(clouds[0]))
            if across is not None:
                count, *computed = scatter_form_across(clouds, masks, target, fourth_order, across)
            else:
                count = count_points(clouds, masks, product_dtype(clouds[0]))
                form = Gram if surely_fewer(rows, dim) else Scatter
                computed = apply(form, target, clouds, masks, count, fourth_order)
            unit, t, f, q, cross, *_ = computed
            invariants = Invariants(count, unit, t, f, q if fourth_order else None, precision=torch.finfo(t.dtype).eps)
            return invariants if target is None else with_target(invariants, target, cross)

    def pair(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        other_clouds: Sequence[Tensor],
        other_masks: Sequence[Tensor | None],
        *,
        across: Any = None,
    ) -> Pair:
        first = joined(_distinct(clouds), _distinct(masks))
        halves = *first, *joined(_distinct(other_clouds), _distinct(other_masks))
        with without_autocast(clouds[0].device.type):
            return pair_of(*halves) if across is None else pair_across(*halves, across)

    def anchored(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        shrinkage_cov: Tensor,
        *,
        across: Any = None,
        directions: LeadingDirections | None = None,
    ) -> Invariants:
        """Compute without ‖S‖², by one product, or with the leading directions of Σ_S alone; F is zero."""
        clouds, masks = joined(clouds, _distinct(masks))
        with without_autocast(clouds[0].device.type):
            target = target_of(shrinkage_cov.detach(), product_dtype(clouds[0]))
            assert target is not None
            rest: Any = 0.0
            if directions is not None:
                target, rest = directions(target, shrinkage_cov)
            if across is None:
                count = count_points(clouds, masks, product_dtype(clouds[0]))
                unit, t, cross, *_ = apply(Anchored, target, clouds, masks, count)
            else:
                count, unit, t, cross = anchored_across(clouds, masks, target, across)
            invariants = Invariants(count, unit, t, torch.zeros_like(t), precision=torch.finfo(t.dtype).eps)
            return with_target(invariants, target, cross if directions is None else cross + rest * t)

    def place(self, across: Any) -> tuple[int, int]:
        return place_of(across)

    def numbers_along(self, array: Tensor, axis: int) -> Tensor:
        """Return each point's index along an axis, made on the device."""
        numbers = torch.arange(array.shape[axis], device=array.device)
        return numbers.reshape(-1, *[1] * (array.ndim - 2 - axis)).expand(array.shape[:-1]).reshape(-1)

    def distinct(self, numbers: Sequence[Any], masks: Sequence[Tensor | None], like: Tensor) -> Tensor:
        parts = [torch.full((1,), NO_GROUP, device=like.device)]
        for own, keep in zip(numbers, masks, strict=True):
            part = torch.as_tensor(own, device=like.device).long()
            parts.append(part if keep is None else torch.where(keep, part, NO_GROUP))
        ordered = torch.cat(parts).sort().values
        return (ordered[1:] != ordered[:-1]).sum()

    def in_turn(self, array: Any, axis: int, start: int) -> tuple[Any, Any]:
        """Return views of an even number of slices whose gradients are put together at once."""
        if not isinstance(array, Tensor) or torch.compiler.is_compiling() or array.shape[axis] % 2:
            return super().in_turn(array, axis, start)
        even, odd = torch.unflatten(array, axis, (-1, 2)).unbind(axis + 1)
        return (odd, even) if start % 2 else (even, odd)

    def some_along(self, array: Any, axis: int, most: int, total: int) -> Any:
        if not isinstance(array, Tensor) or total <= most:
            return super().some_along(array, axis, most, total)
        size = array.shape[axis]
        make = _places.__wrapped__ if torch.compiler.is_compiling() or transformed() else _places
        places = make(array.shape[0] if axis else 1, size, min(tokens_taken(size, most, total), size), array.device)
        return array[places] if axis else array[places[1][0]]

    def waits_for(self, array: Tensor) -> bool:
        return not on_cpu(array)

    def numbered(self, count: int, array: Tensor, across: Any) -> tuple[int, Tensor]:
        """Return rank·count, and the sum over the ranks, which may have batches of other sizes, without waiting."""
        rank, _ = place_of(across)
        return rank * count, all_sum(torch.full((), count, device=array.device), process_group(across))

    def covariance_sums(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        variances = cov.diagonal() if cov.ndim == 2 else cov
        return sums_in_unit(variances, cov, torch.sum, self.where, torch.Tensor.detach)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return torch.where(condition, a, b)

    def unbiased_score(self, invariants: Invariants, dim: int) -> Any:
        return unbiased_in_one_step(invariants, dim)

    def concrete(self, scalar: Any) -> float | None:
        return concrete(scalar)

    def to_numpy(self, array: Tensor) -> NDArray[Any]:
        """Copy to the host, bfloat16 as float32."""
        array = array.detach()
        if transformed():  # tensors inside torch.func's transformations have no memory to share
            return np.asarray(array.tolist()).reshape(array.shape)
        return np.asarray((array.float() if array.dtype == torch.bfloat16 else array).cpu().numpy())


@functools.lru_cache(maxsize=64)
def _places(sequences: int, tokens: int, taken: int, device: Any) -> tuple[Tensor, Tensor]:
    """Return the indices of some tokens of every sequence, made on the device, and kept for the next batch."""
    with torch.inference_mode(False):
        rows = torch.arange(sequences, device=device)[:, None]
        return rows, token_places(rows, torch.arange(taken, device=device), tokens, max(taken, 1))


def _distinct(tensors: Sequence[Tensor | None]) -> Sequence[Any]:
    """Return views while compiling: torch.compile takes no tensor twice, not even one mask of two layers."""
    if not torch.compiler.is_compiling():
        return tensors
    return [None if tensor is None else tensor.view_as(tensor) for tensor in tensors]


BACKEND = TorchBackend()
