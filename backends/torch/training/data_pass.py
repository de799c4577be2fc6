"""A pass of a torch model over data, for `ShrinkageCovariance.fit`."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isoscore_star.backends.torch.training.state_masks import StateMasks
from isoscore_star.backends.torch.training.sync import is_distributed
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError

Forward = Callable[[Any, Any], tuple[Any, Any]]
"""Returns hidden states and their mask, given a model and a batch."""

LABELS = ("labels", "label", "label_ids")
"""Names in a batch that are withheld from the model, which would compute a loss."""


def place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the model's device, and float64 or float32."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return torch.device("cpu"), torch.float32


@contextlib.contextmanager
def progress_of(progress: Any, wanted: int) -> Iterator[Callable[[int, int], object]]:
    """Return a callable for (points read, points wanted): the given one, or a bar's update."""
    if callable(progress):
        yield progress
        return
    leading = not is_distributed() or dist.get_rank() == 0
    if not (progress and leading and importlib.util.find_spec("rich")):
        yield lambda done, _: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("Points for the shrinkage covariance", total=wanted)
        yield lambda done, _: bar.update(task, completed=done)


def moved(batch: Any, device: torch.device) -> Any:
    """Move a batch to the device; mappings become dicts."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def hidden_states_of(model: nn.Module, batch: Any, forward: Forward | None) -> tuple[Any, Any]:
    """Return hidden states and their mask."""
    if forward is not None:
        result = forward(model, batch)
        if not isinstance(result, tuple) or len(result) != 2:
            raise InvalidTypeError(
                "forward",
                f"expected a pair (hidden_states, attention_mask); got {type(result).__name__}. "
                "Without padding return (hidden_states, None)",
            )
        return result
    instead = (
        "Give forward=, a function of (model, batch) that returns (hidden_states, attention_mask), for example "
        "lambda model, batch: (model(**batch).encoder_hidden_states, batch['attention_mask'])"
    )
    if not isinstance(batch, Mapping):
        raise InvalidTypeError(
            "batches", f"expected mappings, to be called as model(**batch); got {type(batch).__name__}. {instead}"
        )
    accepted = inspect.signature(model.forward).parameters
    if "output_hidden_states" not in accepted and all(p.kind != p.VAR_KEYWORD for p in accepted.values()):
        raise InvalidValueError(
            "model",
            f"{type(model).__name__} takes no output_hidden_states. {instead}; HiddenStates collects states of "
            "models that do not return them",
        )
    inputs = {name: value for name, value in batch.items() if name not in LABELS}
    states = getattr(model(**inputs, output_hidden_states=True), "hidden_states", None)
    if states is None:
        raise InvalidValueError("model", f"what {type(model).__name__} returns has no hidden_states. {instead}")
    return states, StateMasks(model, option="forward, with StateMasks(model, mask)")(states, batch)


def cut(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], wanted: int) -> list[Tensor | None]:
    """Mask points beyond `wanted`, at the end of every layer."""
    if sum(map(len, clouds)) <= wanted:
        return list(masks)
    keeps = [
        torch.ones(len(cloud), dtype=torch.bool, device=cloud.device) if mask is None else mask
        for cloud, mask in zip(clouds, masks, strict=True)
    ]
    counts = [int(keep.sum()) for keep in keeps]
    left_in: list[Tensor | None] = list(keeps)
    if sum(counts) <= wanted:
        return left_in
    ascending = sorted(range(len(counts)), key=counts.__getitem__)
    for done, index in enumerate(ascending):
        quota = min(counts[index], wanted // (len(counts) - done))
        wanted -= quota
        left_in[index] = keeps[index] & (keeps[index].cumsum(0) <= quota)
    return left_in
