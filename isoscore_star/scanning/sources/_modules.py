"""Any torch module, over batches of inputs that are prepared already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.scanning._batches import Batch, Layer, Tokens
from isoscore_star.scanning.sources._batch_source import BatchSource
from isoscore_star.scanning.sources._fingerprint import fingerprint
from isoscore_star.scanning.sources._options import Options
from isoscore_star.scanning.sources._states import sequence_of, widened


class ModuleSource(BatchSource):
    """Runs a torch module over a loader's batches, layers by hooks; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, model: Any, batches: Iterable[Any], options: Options, mask: Any = None) -> None:
        from isoscore_star.backends.torch import HiddenStates, StateMasks

        if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
            raise InvalidTypeError("batches", f"expected batches of inputs; got {type(batches).__name__}")
        layers = None if options.layers is None else list(options.layers)
        self._model = model
        self._states = HiddenStates(model, layers)
        self._masks = StateMasks(model, mask)
        super().__init__(model, type(model).__name__, fingerprint(model), batches, mask)

    def finished(self) -> list[str]:
        """Remove the hooks."""
        self._states.close()
        return []

    def batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Batch | None]]:
        """Yield each batch with its number; None in place of those that are not wanted."""
        from isoscore_star.backends.torch import evaluation_mode

        with evaluation_mode(self._model):
            yield from super().batches(wanted)

    def _batch(self, first: int, batch: Any) -> Batch:
        import torch

        inputs = _moved(batch, next((p.device for p in self._model.parameters()), torch.device("cpu")))
        with torch.no_grad():
            outputs = _called(self._model, inputs)
            states = self._states.take()
            masks = self._masks(states, inputs, outputs, names=self._states.taken)
        names, seen = [], dict[str, int]()
        for name in self._states.taken:
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name} (call {seen[name]})")
        layers, known = [], dict[tuple[int, tuple[int, ...]], Tokens]()
        for name, state, mask in zip(names, states, masks, strict=True):
            if state.ndim < 2:
                raise InvalidValueError(
                    "layers", f"{name!r} gives states of shape {tuple(state.shape)}; expected (sequences, tokens, d)"
                )
            state = sequence_of(state) if state.ndim > 2 else state[:, None]
            key = (id(mask), tuple(state.shape[:2]))
            if key not in known:
                known[key] = _tokens(state, mask)
            layers.append(Layer(name, widened(state), known[key]))
        if len({len(layer.states) for layer in layers}) > 1:
            raise InvalidValueError("layers", "the layers' states have different numbers of sequences, so no union")
        return Batch(first, len(layers[0].states), layers)


def _tokens(state: Any, mask: Any) -> Tokens:
    shape = tuple(state.shape[:2])
    keep = np.ones(shape, bool) if mask is None else (mask != 0).cpu().numpy().reshape(shape)
    return Tokens(keep)


def _called(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        # A loader's pair of inputs and labels; a module that takes more gets a mapping.
        return _called(model, inputs[0])
    return model(inputs)


def _moved(batch: Any, device: Any) -> Any:
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        return [_moved(value, device) for value in batch]
    return batch
