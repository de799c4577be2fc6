"""A module of flax.linen that is bound to its variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Batch
from isoscore_star.scanning.sources._arrays import batch_of_arrays, required_function
from isoscore_star.scanning.sources._batch_source import BatchSource
from isoscore_star.scanning.sources._fingerprint import fingerprint_of_arrays
from isoscore_star.scanning.sources._options import Options

_INTERMEDIATES = "intermediates"


class FlaxSource(BatchSource):
    """Runs a bound module over batches; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, model: Any, batches: Iterable[Any], options: Options, mask: Any = None) -> None:
        import jax
        from flax import errors

        self._mask = required_function(mask)
        self._wanted = [str(pattern) for pattern in options.layers or ()]
        try:
            self._module, self._variables = model.unbind()
        except errors.CallUnbindOnUnboundModuleError as error:
            raise InvalidValueError(
                "model", f"{type(model).__name__} has no variables; give it with them: model.bind(variables)"
            ) from error
        leaves = jax.tree_util.tree_leaves_with_path(self._variables)
        weights = fingerprint_of_arrays(np.asarray(leaf) for _, leaf in leaves)
        super().__init__(model, type(model).__name__, weights, batches, mask)

    def _batch(self, first: int, batch: Any) -> Batch:
        states = self._states(batch, lambda module, _: self._is_wanted(".".join(module.path)))
        if not states:
            known = sorted(self._states(batch, True))
            raise InvalidValueError(
                "layers",
                "name the layers whose states are meant, or patterns of their names; the model's are "
                f"{', '.join(known[:12])}{', ...' if len(known) > 12 else ''}",
            )
        mask = None if self._mask is None else self._mask(batch)
        return batch_of_arrays(first, states, mask)

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._wanted)

    def _states(self, batch: Any, chosen: Any) -> dict[str, Any]:
        """Return what the chosen modules put out, by their names, in the order of these."""
        args, kwargs = ((), batch) if isinstance(batch, Mapping) else ((_inputs(batch),), {})
        _, found = self._module.apply(
            self._variables, *args, **kwargs, capture_intermediates=chosen, mutable=[_INTERMEDIATES]
        )
        return dict(_named(found.get(_INTERMEDIATES, {}), ()))


def _inputs(batch: Any) -> Any:
    """Return a batch, or the inputs of a loader's pair of inputs and labels."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _named(found: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _named(value, (*path, key))
        elif key == "__call__" and path:
            outputs = value[0]
            yield ".".join(path), outputs[0] if isinstance(outputs, (tuple, list)) else outputs
