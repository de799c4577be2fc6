"""`StateMasks`: masks shaped like a model's hidden states."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError

CLOSED = -9e3
"""Entries of an additive mask up to this mask; -1e4, which is -9,984 in bfloat16, is the weakest in use."""


class StateMasks:
    """Computes a mask for each layer of a model, shaped like its states.

    Parameters
    ----------
    model : nn.Module
        The model, in any wrapper.
    mask : str, callable or False, optional
        A name in the inputs instead of ``"attention_mask"``; a function ``(inputs, outputs)`` that returns a mask,
        None, or a sequence with one for each layer; or False, where all states are points.
    option : str, default "mask"
        The caller's name for `mask` in messages.

    Raises
    ------
    InvalidTypeError
        If `mask` is something else.

    Notes
    -----
    A mask with the shape of the states stays unchanged. These others are converted:

    - multiple choice: (batch, choices, length) for states of (batch · choices, length);
    - attention patterns: (batch, 1 or heads, length, length) or (batch, length, length), of zeros and ones, booleans,
      or additive (0 and large negative numbers): a state counts if any position attends to it;
    - prompt tuning (PEFT): the virtual tokens in front of a sequence do not count;
    - speech (wav2vec 2.0, Whisper, ...): from samples to frames, by the model's own lengths;
    - Funnel: pooled as by the model; BigBird: without the padding of the last block.

    An encoder-decoder's decoder has ``decoder_attention_mask``, or else the labels that are not -100. All states of an
    image tower count.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import StateMasks
    >>> states = [torch.randn(6, 5, 8) for _ in range(2)]
    >>> masks = StateMasks(torch.nn.Linear(8, 8))(states, {"attention_mask": torch.ones(2, 3, 5)})
    >>> [tuple(mask.shape) for mask in masks]
    [(6, 5), (6, 5)]
    """

    def __init__(self, model: nn.Module, mask: Any = None, *, option: str = "mask") -> None:
        if not (mask is None or mask is False or isinstance(mask, str) or _takes_two(mask)):
            raise InvalidTypeError(
                option,
                f"expected a name in the inputs, a function (inputs, outputs) that gives a mask or one for "
                f"each layer, or False, where all states are points; got {mask!r}",
            )
        self.model = model
        self.mask = mask
        self.option = option
        self._modules: list[Any] = []

    def __call__(
        self, states: Sequence[Tensor | None], inputs: Any, outputs: Any = None, *, names: Sequence[str] | None = None
    ) -> list[Tensor | None]:
        """Return the masks.

        Parameters
        ----------
        states : sequence of Tensor, each of shape (..., d), or None
            The hidden states.
        inputs : mapping, or anything with a `mask` that is a function or False
            The model's inputs; of a tuple or list the first entry, if that is a mapping.
        outputs : object, optional
            The model's outputs, for a function.
        names : sequence of str, optional
            Name of each of the states' layer (`HiddenStates.taken`) or output.

        Returns
        -------
        list of Tensor or None
            One for each of the states, of their shape without the last axis; None where all count.

        Raises
        ------
        InvalidValueError
            If a mask cannot be converted, or the inputs lack it.
        """
        if self.mask is False:
            return [None] * len(states)
        raw: Sequence[Any]
        if callable(self.mask):
            returned = self.mask(inputs, outputs)
            raw = returned if isinstance(returned, (tuple, list)) else [returned] * len(states)
            if len(raw) != len(states):
                raise InvalidValueError(
                    self.option,
                    f"expected one mask, or one for each of the {len(states)} layers; the function gave {len(raw)}",
                )
        else:
            first = inputs[0] if isinstance(inputs, (tuple, list)) and inputs else inputs
            raw = self._from_inputs(first if isinstance(first, Mapping) else None, states, names)
        fitted: dict[tuple[int, torch.Size], Tensor] = {}
        masks: list[Tensor | None] = []
        for layer, mask in zip(states, raw, strict=True):
            if layer is None or mask is None:
                masks.append(None)
                continue
            # The same tensor for layers of one shape, so that its points are counted once.
            key = (id(mask), layer.shape[:-1])
            if key not in fitted:
                fitted[key] = self._fitted(mask, layer)
            masks.append(fitted[key])
        return masks

    def _from_inputs(
        self, inputs: Mapping[str, Any] | None, states: Sequence[Tensor | None], names: Sequence[str] | None
    ) -> list[Any]:
        if isinstance(self.mask, str) and self.mask not in (inputs or {}):
            got = "no names" if inputs is None else f"the names {sorted(map(str, inputs))}"
            raise InvalidValueError(
                self.option, f"the batch has no {self.mask!r}; got {got}. Give a function (inputs, outputs)"
            )
        inputs = inputs or {}
        own = inputs.get(self.mask or "attention_mask")
        if names is None:
            return [own] * len(states)
        decoding = "decoder_hidden_states" in names or any(
            getattr(getattr(module, "config", None), "is_encoder_decoder", False) for module in self._all_modules()
        )
        decoder: Any = None
        masks: list[Any] = []
        for name, layer in zip(names, states, strict=True):
            parts = name.split(".")
            if any(part.startswith(("vision", "visual", "image")) for part in parts):
                masks.append(None)
            elif decoding and any(part.startswith("decoder") for part in parts):
                decoder = self._decoder_mask(inputs, layer) if decoder is None else decoder
                masks.append(decoder)
            else:
                masks.append(own)
        return masks

    def _decoder_mask(self, inputs: Mapping[str, Any], states: Tensor | None) -> Any:
        mask, labels = inputs.get("decoder_attention_mask"), inputs.get("labels")
        if mask is not None or states is None or not isinstance(labels, Tensor):
            return mask
        return next(self._fits(labels != -100, states.shape[:-1]), None)

    def _fitted(self, mask: Any, states: Tensor) -> Tensor:
        shape = states.shape[:-1]
        tensor = torch.as_tensor(mask, device=states.device)
        fit = next(self._fits(tensor, shape), None)
        if fit is None:
            name = self.option if callable(self.mask) else self.mask or "attention_mask"
            raise InvalidValueError(
                name,
                f"expected shape {tuple(shape)}, one entry for each state (states: {tuple(states.shape)}); got "
                f"{tuple(tensor.shape)}, and it is not known how this model gets from one to the other. Give "
                f"{self.option}: the name of an input that fits, a function (inputs, outputs) that gives a mask or one "
                "for each layer, or False, where all states are points",
            )
        return fit

    def _fits(self, mask: Tensor, shape: torch.Size) -> Iterator[Tensor]:
        """Yield conversions of the mask to the shape."""
        if mask.shape == shape:
            yield _open(mask)
        elif mask.ndim == 4 or (mask.ndim == 3 and len(mask) == shape[0]):
            keys = _attended(_open(mask, pattern=True))
            yield from self._fits(keys.expand(shape[0], -1) if len(keys) == 1 else keys, shape)
        elif mask.numel() == shape.numel() and mask.shape[-1:] == shape[-1:]:
            yield _open(mask).reshape(shape)
        elif mask.ndim == len(shape) == 2 and len(mask) == shape[0]:
            yield from (fit for fit in self._by_the_model(_open(mask), shape[1]) if fit.shape == shape)

    def _by_the_model(self, mask: Tensor, length: int) -> Iterator[Tensor]:
        more = length - mask.shape[1]
        for module in self._all_modules():
            configs = getattr(module, "peft_config", None)
            for config in configs.values() if isinstance(configs, Mapping) else ():
                if more > 0 and getattr(config, "num_virtual_tokens", None) == more:
                    yield F.pad(mask, (more, 0))
            config = getattr(module, "config", None)
            if getattr(config, "attention_type", None) == "block_sparse" and 0 < more < getattr(
                config, "block_size", 0
            ):
                yield F.pad(mask, (0, more))
            if hasattr(module, "_get_feat_extract_output_lengths"):
                yield from _frames(module._get_feat_extract_output_lengths, mask, length)
            if hasattr(module, "pool_tensor"):
                yield _pooled(module.pool_tensor, mask, length)

    def _all_modules(self) -> list[Any]:
        if not self._modules:
            self._modules = list(self.model.modules())
        return self._modules


def _takes_two(mask: Any) -> bool:
    if not callable(mask):
        return False
    try:
        inspect.signature(mask).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # without a signature
        pass
    return True


def _open(mask: Tensor, *, pattern: bool = False) -> Tensor:
    """Convert a floating-point mask, additive or not, to booleans."""
    if not mask.is_floating_point():
        return mask
    additive = (mask < 0).any()
    if pattern:  # all zeros: an additive pattern that masks nothing
        additive = additive | ~(mask > 0).any()
    return torch.where(additive, mask > CLOSED, mask != 0)


def _attended(pattern: Tensor) -> Tensor:
    """Return (batch, keys): whether any query attends to a key, of (batch, [heads,] queries, keys)."""
    rows = (pattern != 0).any(1) if pattern.ndim == 4 else pattern != 0
    # A query without keys often attends to all, since a softmax needs some. In a causal pattern only the last query
    # attends to all.
    informative = rows & ~rows.all(-1, keepdim=True)
    return informative.any(1) | rows[:, -1]


def _frames(lengths_of: Callable[..., Any], mask: Tensor, length: int) -> Iterator[Tensor]:
    """Yield the mask of frames from that of samples, if the model's lengths fit."""
    accepted = inspect.signature(lengths_of).parameters
    if not accepted:
        return
    # The states come before the adapter, which shortens them again.
    more = {"add_adapter": False} if "add_adapter" in accepted else {}
    whole = lengths_of(torch.tensor([mask.shape[1]]), **more)
    if isinstance(whole, Tensor) and whole.tolist() == [length]:
        lengths = lengths_of(mask.sum(-1), **more)
        yield torch.arange(length, device=mask.device) < lengths[:, None]


def _pooled(pool: Callable[..., Tensor], mask: Tensor, length: int) -> Tensor:
    """Pool as often as the states were; a pooled state counts if all its states do."""
    pooled, before = mask.to(torch.float32), length + 1
    while length < pooled.shape[1] != before:
        before = pooled.shape[1]
        pooled = pool(pooled, mode="min")
    return pooled != 0
