"""Moments of every layer, block by block and part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, Moments
from isoscore_star.recorded_arrays import by_prefix
from isoscore_star.scanning._batches import PARTS, Batch, Layer, Selection
from isoscore_star.scanning._longest import Farthest

Arrays = dict[str, NDArray[Any]]


class LayerBlock:
    """A layer's states of one block of sequences.

    A sequence has the same number in all parts and layers of its block, because every update counts all sequences of
    the batch, those too that have no token there.
    """

    def __init__(self, device: Any = None, sketch: int | None = None) -> None:
        self._device, self._sketch = device, sketch
        self._on_device: Any = None  # of the part "rest", nearly all tokens, where there is an accelerator
        self.parts: dict[str, Moments] = {}
        self.farthest = Farthest()

    def take(self, layer: Layer, first_sequence: int) -> None:
        """Take in a layer's states of a batch."""
        self.farthest.take(layer.name, layer.states, layer.tokens, first_sequence)
        for part, selection in layer.tokens.parts.items():
            if part == "rest" and self._device is not None:
                self._take_on_device(layer.states, selection)
            else:
                rows = _host(_selected(layer.states, selection))
                self.parts.setdefault(part, Moments(sketch=self._sketch)).update(rows, selection.mask, groups=0)

    def _take_on_device(self, states: Any, selection: Selection) -> None:
        import torch

        from isoscore_star.backends.torch import StreamingMoments

        if self._on_device is None:
            self._on_device = StreamingMoments(states.shape[-1], states.device, fourth_order=True)
        self._on_device.update(states, torch.as_tensor(selection.mask, device=states.device), groups=0)

    def moments(self) -> dict[str, Moments]:
        """Return the moments of each part that has a point, once they are settled."""
        return {part: self.parts[part] for part in PARTS if part in self.parts and self.parts[part].count}

    def settle(self) -> None:
        """Bring all moments to the host, once there are no more states."""
        if self._on_device is not None:
            self.parts["rest"], self._on_device = self._on_device.to_moments(), None

    def to_arrays(self) -> Arrays:
        """Return all that is kept; see `from_arrays`."""
        arrays = {f"{part}/{name}": array for part, of in self.parts.items() for name, array in of.to_arrays().items()}
        if self._on_device is not None:
            arrays["device/packed"] = self._on_device.packed().cpu().numpy()
        return arrays | {f"farthest/{name}": array for name, array in self.farthest.to_arrays().items()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], device: Any = None, sketch: int | None = None
    ) -> LayerBlock:
        """Return what `to_arrays` took apart."""
        block, kinds = cls(device, sketch), by_prefix(arrays)
        block.farthest = Farthest.from_arrays(kinds.pop("farthest", {}))
        if "device" in kinds:
            import torch

            from isoscore_star.backends.torch import StreamingMoments

            packed = torch.as_tensor(kinds.pop("device")["packed"], device=device)
            dim = len(block.farthest.rows[0])
            block._on_device = StreamingMoments.from_packed(packed, dim, fourth_order=True)
        block.parts = {part: Moments.from_arrays(its) for part, its in kinds.items()}
        return block


class Accumulated:
    """All blocks of a scan.

    Parameters
    ----------
    blocks : int
        Their number; batch number modulo this is a batch's block.
    device : optional
        Where to keep the moments of tokens that are neither first nor special; the host by default.
    sketch : int, optional
        Columns of a sketch in place of d² numbers.
    """

    def __init__(self, blocks: int, device: Any = None, sketch: int | None = None) -> None:
        self.count = blocks
        self.device, self.sketch = device, sketch
        self.names: list[str] = []
        self.blocks: dict[int, dict[str, LayerBlock]] = {}
        self.embeddings: dict[int, Moments] = {}
        self.tokens: dict[str, int] = {}

    def take(self, number: int, batch: Batch) -> None:
        """Take in a batch."""
        names = [layer.name for layer in batch.layers]
        if not self.names:
            self.names = names
        elif self.names != names:
            raise InvalidValueError(
                "model", f"its layers differ from batch to batch: {', '.join(self.names)}, then {', '.join(names)}"
            )
        block = self.blocks.setdefault(number % self.count, {})
        for layer in batch.layers:
            if layer.name not in block:
                block[layer.name] = LayerBlock(self.device, self.sketch)
            block[layer.name].take(layer, batch.first)
            self.tokens[layer.name] = self.tokens.get(layer.name, 0) + int(layer.tokens.mask.sum())
        if batch.embeddings is not None:
            rows = _host(batch.embeddings)
            if not np.isfinite(rows).all():
                raise InvalidValueError("embeddings", "the model returns NaN or inf. Try a wider --dtype (float32)")
            self.embeddings.setdefault(number % self.count, Moments()).update(rows, groups=None)

    def to_arrays(self) -> Arrays:
        """Return all arrays, for a file; with `from_arrays` a scan goes on to the very bit."""
        arrays: Arrays = {}
        for number, block in self.blocks.items():
            for index, name in enumerate(self.names):
                if name in block:
                    its = block[name].to_arrays()
                    arrays |= {f"{number}/{index}/{key}": array for key, array in its.items()}
        for number, moments in self.embeddings.items():
            arrays |= {f"{number}/embeddings/{key}": array for key, array in moments.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        blocks: int,
        names: Iterable[str],
        device: Any = None,
        sketch: int | None = None,
    ) -> Accumulated:
        """Return what `to_arrays` took apart."""
        found = cls(blocks, device, sketch)
        found.names = list(names)
        for number, of_block in sorted(by_prefix(arrays).items(), key=lambda item: int(item[0])):
            for index, its in by_prefix(of_block).items():
                if index == "embeddings":
                    found.embeddings[int(number)] = Moments.from_arrays(its)
                else:
                    layer = LayerBlock.from_arrays(its, device, sketch)
                    found.blocks.setdefault(int(number), {})[found.names[int(index)]] = layer
        return found

    def settle(self) -> Accumulated:
        """Bring all moments to the host, and return this."""
        for block in self.blocks.values():
            for layer in block.values():
                layer.settle()
        return self

    def add(self, other: Accumulated) -> None:
        """Take in the blocks of another process, which has others."""
        self.names = self.names or other.names
        self.blocks |= other.blocks
        self.embeddings |= other.embeddings
        for name, count in other.tokens.items():
            self.tokens[name] = self.tokens.get(name, 0) + count


def _selected(states: Any, selection: Selection) -> Any:
    if selection.places is None:
        return states
    rows = np.arange(len(selection.places))[:, None]
    if isinstance(states, np.ndarray):
        return states[rows, selection.places]
    import torch

    return states[torch.as_tensor(rows), torch.as_tensor(selection.places)]


def _host(states: Any) -> NDArray[Any]:
    if isinstance(states, np.ndarray):
        return states
    return np.asarray(states.cpu().numpy())
