"""`IStarCallback`: refreshes Σ_S of a Keras model's regularizers, and logs their scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from isoscore_star.backends.keras import _compat
from isoscore_star.backends.keras.modules.regularizer import IStarRegularizer
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.core.moments import Moments


class IStarCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Refreshes Σ_S from a dataset, and logs ``isoscore_star`` at the end of every epoch.

    It logs the mean score of the epoch's batches, weighted by their rows like Keras' loss, to ``history`` and to later
    callbacks in the list (`TensorBoard`, `CSVLogger`). If the layers add their penalty in evaluation too, it also logs
    ``val_isoscore_star``. A metric named ``isoscore_star`` takes precedence.

    Parameters
    ----------
    data : optional
        As for `keras.Model.predict` (arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader`).
        Σ_S is the covariance of all unmasked states of the layers on it, in evaluation mode, computed in d² memory.
        Without data Σ_S is not refreshed.
    every : "epoch" or int, default "epoch"
        Refresh before every epoch, or before the first step and then after so many steps.
    layer : IStarRegularizer or sequence of them, optional
        By default all of the model, nested ones too.
    batch_size, steps : int, optional
        As for `keras.Model.predict`: ``steps`` bounds the number of batches. The paper reads 250,000 token states.
    per_layer : bool, default False
        Also log ``isoscore_star/<name>`` for each layer.

    Attributes
    ----------
    moments : dict of str to isoscore_star.Moments
        Those of the last refresh, by the layer's name (with its number, if several share one).

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If `every` is neither, or, when training begins, if the model has no such layer.

    Examples
    --------
    >>> import keras
    >>> from isoscore_star.backends.keras import IStarCallback, IStarRegularizer
    >>> x = keras.random.normal((64, 8))
    >>> model = keras.Sequential([keras.layers.Dense(4), IStarRegularizer(lam=0.1, zeta=0.2), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[IStarCallback(x)])
    >>> sorted(history.history)
    ['isoscore_star', 'loss']
    """

    def __init__(
        self,
        data: Any = None,
        *,
        every: str | int = "epoch",
        layer: Any = None,
        batch_size: int | None = None,
        steps: int | None = None,
        per_layer: bool = False,
    ) -> None:
        super().__init__()
        self.data, self.batch_size, self.steps, self.per_layer = data, batch_size, steps, per_layer
        self.every = _interval(every)
        self.moments: dict[str, Moments] = {}
        self._given = _given_layers(layer)
        self._layers: dict[str, IStarRegularizer] = {}
        self._steps_left = self._last_batch = 0
        self._in_epoch = False
        self._training: dict[str, float] | None = None
        self._evaluation: dict[str, float] = {}

    def refresh(self) -> None:
        """Run the model over the data, and set Σ_S."""
        model = self.model
        if model is None or self.data is None:
            raise InvalidValueError(
                "data", "to refresh, the callback needs data, and a model: that of the fit that it was given to"
            )
        observed = {name: layer for name, layer in self._layers.items() if layer.mixes}
        self.moments = {name: Moments() for name in observed}
        with _preserved_mode(model), contextlib.ExitStack() as stack:
            for name, layer in observed.items():
                layer.observer = partial(self.moments[name].update, groups=None)  # for Σ_S, without halves
                stack.callback(setattr, layer, "observer", None)
            _Probe(model).predict(self.data, batch_size=self.batch_size, steps=self.steps, verbose=0)
        for name, layer in observed.items():
            layer.set_shrinkage_cov(self.moments[name].cov)

    def on_train_begin(self, logs: Any = None) -> None:
        """Collect the layers."""
        every = [layer for layer in _compat.all_layers(self.model) if isinstance(layer, IStarRegularizer)]
        layers = self._given or every
        names = [layer.name for layer in layers]
        unique = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
        self._layers = dict(zip(unique, layers, strict=True))
        self._steps_left = self._last_batch = 0
        if not self._layers:
            raise InvalidValueError(
                "layer",
                f"the model {self.model.name!r} has no IStarRegularizer. Put one on the way to its outputs, or "
                "build the model before, if its layers are made only then",
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Reset the mean scores, and refresh."""
        self._in_epoch, self._training, self._evaluation = True, None, {}
        self._reset()
        if self.data is not None and self.every == "epoch":
            self.refresh()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Refresh after every so many steps."""
        if self.data is None or self.every == "epoch":
            return
        self._steps_left -= batch - self._last_batch if batch > self._last_batch else 1
        self._last_batch = batch
        if self._steps_left <= 0:
            self.refresh()
            self._steps_left = int(self.every)

    def on_test_begin(self, logs: Any = None) -> None:
        """Store the scores of training."""
        if self._in_epoch:
            self._training = self._read()
            self._reset()

    def on_test_end(self, logs: Any = None) -> None:
        """Store the scores of evaluation."""
        if self._in_epoch:
            self._evaluation = self._read()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the scores to the logs."""
        self._in_epoch = False
        training = self._read() if self._training is None else self._training
        for prefix, scores in (("", training), ("val_", self._evaluation)):
            if scores and logs is not None:
                logs.setdefault(f"{prefix}isoscore_star", sum(scores.values()) / len(scores))
                if self.per_layer:
                    logs.update({f"{prefix}isoscore_star/{name}": score for name, score in scores.items()})

    def _reset(self) -> None:
        model = self.model  # access updates the state of a JAX model
        for layer in self._layers.values():
            if model is not None and layer.built:
                layer.reset_score()

    def _read(self) -> dict[str, float]:
        scores = {name: layer.mean_score() for name, layer in self._layers.items()}
        return {name: score for name, score in scores.items() if score is not None}


class _Probe(keras.Model):  # type: ignore[misc]
    """Runs a model in evaluation mode, uncompiled, so that its layers get values."""

    def __init__(self, model: Any) -> None:
        super().__init__(autocast=False, name="probe")
        self.watched = model
        self.run_eagerly = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        self.watched(inputs, training=False)
        return ops.zeros((ops.shape(keras.tree.flatten(inputs)[0])[0],))


@contextlib.contextmanager
def _preserved_mode(model: Any) -> Iterator[None]:
    # On torch, predict leaves every module in evaluation mode.
    training = keras.backend.backend() == "torch" and model.training
    yield
    if training:
        model.train()


def _interval(every: str | int) -> str | int:
    if (isinstance(every, str) and every == "epoch") or (type(every) is int and every > 0):
        return every
    raise InvalidValueError("every", f'expected "epoch" or a positive number of steps; got {shown(every)}')


def _given_layers(layer: Any) -> list[IStarRegularizer]:
    layers = [] if layer is None else list(layer) if isinstance(layer, Sequence) else [layer]
    for item in layers:
        if not isinstance(item, IStarRegularizer):
            raise InvalidTypeError("layer", f"expected IStarRegularizer, or several; got {type(item).__name__}")
    return layers
