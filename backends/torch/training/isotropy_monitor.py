"""`IsotropyMonitor`: the score of each layer every n steps of any training, without a penalty."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from isoscore_star.backends.torch.training.collapse import CollapseWatch
from isoscore_star.backends.torch.training.eagerly import Eagerly, unwrapped
from isoscore_star.backends.torch.training.hidden_states import HiddenStates
from isoscore_star.backends.torch.training.layer_stream import LayerStream, MonitoredLayer
from isoscore_star.backends.torch.training.state_masks import StateMasks
from isoscore_star.backends.torch.training.sync import checked_sync, is_distributed
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, IsoScoreError

LOGGER = logging.getLogger("isoscore_star")

_Key = tuple[int, int, str]
"""Of a layer: how often it ran before in a call of the model, its place among the monitor's names, and its name."""


class IsotropyMonitor:
    """Measures the isotropy of a model's layers every n steps of a training of any kind.

    Parameters
    ----------
    model : nn.Module
        The model, also in DDP, FSDP or `torch.compile`.
    layers : str, nn.Module, or sequence of them, optional
        Layers as `HiddenStates` takes them, named as in the model without its wrapper. By default the model's list of
        layers, if it has one.
    every : int, default 100
        Steps from one measurement to the next. The first, with which later ones are compared, comes after
        `window` steps, unless that is more than half of them.
    window : int, default 1
        Steps before a measurement whose states count. Four sequences are needed, and more are better: with small
        batches take more steps.
    mask : str, callable or False, optional
        Which states are points; see `StateMasks`. By default the ``attention_mask`` with which the model is called.
    groups : "auto", int, array of labels, or None, default "auto"
        Which states were sampled together; see `isoscore_star.isoscore_unbiased`. By default those of one index along
        the first axis of states of three axes: give 1 for layers whose first axis is the tokens.
    union : bool, default True
        Measure all layers as one cloud, too, if they have one width.
    sync : {"auto", True, False}, default "auto"
        Measure the states of all ranks of a distributed run, each of which has to call `step`.
    prefix : str, default "train/"
        Of the names.
    first_number : int, default 0
        Number of the first layer in names. A layer that is skipped, as LayerDrop does, keeps its number.
    uncompiled : bool, default True
        In a window, run what `torch.compile` compiled uncompiled (from torch 2.6 on), since hooks are not seen in it.
        False where only the inside of layers is compiled, as flex attention, whose uncompiled form takes much memory.

    Attributes
    ----------
    names : list of str
        Names of the layers' modules.
    layers : tuple of MonitoredLayer
        The last measurement: besides the score what one coordinate and few points hold of the variance.
    first : dict of str to float
        The first score of each layer, and of ``"union"``.

    failed : bool
        Whether states could not be measured, which a warning told.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For layers that are not there, and numbers out of range. What is wrong later does not end a training: the logger
        ``isoscore_star`` warns once; after an error that is not this library's, as of a mask function, the layers are
        measured no more.

    Notes
    -----
    Outside a window the model has no hook of the monitor, and `step` counts. In a window, moments of the states are
    summed on the device, d × d numbers in float64 twice for each layer, which are freed after the measurement; the
    device is waited for at the measurement alone. Only calls of the model in training mode count.

    The score is that of two halves of the sequences (`isoscore_star.isoscore_unbiased`), which does not depend on how
    many there are. A warning of the logger ``isoscore_star`` says once for each layer that its score fell below a tenth
    of the first one, that one coordinate or one state in a hundred hold nine tenths of the variance, or that states are
    not finite.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import IsotropyMonitor
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 8))
    >>> with IsotropyMonitor(model, layers=["0", "1"], every=10) as monitor:
    ...     for step in range(1, 21):
    ...         loss = model(torch.randn(16, 5, 4)).square().mean()
    ...         scores = monitor.step()
    ...         if scores is not None:
    ...             print(step, sorted(scores))
    1 ['train/isoscore_star', 'train/isoscore_star/layer_00', 'train/isoscore_star/layer_01']
    10 ['train/isoscore_star', 'train/isoscore_star/layer_00', 'train/isoscore_star/layer_01']
    20 ['train/isoscore_star', 'train/isoscore_star/layer_00', 'train/isoscore_star/layer_01']
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Any = None,
        *,
        every: int = 100,
        window: int = 1,
        mask: Any = None,
        groups: Any = "auto",
        union: bool = True,
        sync: str | bool = "auto",
        prefix: str = "train/",
        first_number: int = 0,
        uncompiled: bool = True,
    ) -> None:
        self.every, self.window = _whole("every", every), _whole("window", window)
        if self.window > self.every:
            raise InvalidValueError("window", f"expected at most every={self.every} steps; got {self.window}")
        if not isinstance(model, nn.Module):
            raise InvalidTypeError("model", f"expected a torch module; got {type(model).__name__}")
        self._begin = self.window if 2 * self.window <= self.every else self.every
        self.groups, self.union, self.prefix = groups, union, prefix
        self.sync = checked_sync(sync)
        self.first_number = first_number
        self.failed = False
        self.layers: tuple[MonitoredLayer, ...] = ()
        self.steps = 0
        self._model = unwrapped(model)
        self._eagerly = Eagerly() if uncompiled else None
        self._chosen = layers
        self._masks = StateMasks(self._model, mask)
        self._parameters = list(inspect.signature(self._model.forward).parameters)
        self._collapse = CollapseWatch()
        self._streams: dict[_Key, LayerStream] = {}
        self._calls: list[Any] = []  # of the model in a window: the shape of the states without the last axis
        self._broken = False
        self._hooks: HiddenStates | None = None
        self._handle: Any = None
        self._closed = False
        with HiddenStates(self._model, layers) as found:
            self.names = found.names
        self._known: set[_Key] = {(0, place, name) for place, name in enumerate(self.names)}
        self._prepare()

    @property
    def first(self) -> dict[str, float]:
        """The first score of each layer, and of ``"union"``."""
        return self._collapse.first

    @property
    def recording(self) -> bool:
        """Whether the states of the current step count."""
        return self._hooks is not None

    def step(self, inputs: Any = None) -> dict[str, float] | None:
        """Count a step, and measure where one is due.

        Parameters
        ----------
        inputs : mapping, optional
            The batch, from which the mask comes where the model itself was not called (its parts were).

        Returns
        -------
        dict of str to float or None
            ``"train/isoscore_star"`` of the union and ``"train/isoscore_star/layer_07"`` of each layer, without those
            that have no score; None where no measurement was due.
        """
        if self._closed:
            raise InvalidValueError("monitor", "it was closed, by close() or at the end of the with block")
        self.steps += 1
        if not self.recording:
            self._prepare()
            return None
        self.observe(inputs)
        if self.steps % self.every and self.steps != self._begin:
            return None
        scores: dict[str, float] | None = None
        try:
            self._reduce()
            with self._without_failing():
                scores = self._measure()
        finally:
            self._forget()
            self._release()
            self._prepare()
        return scores

    def observe(self, inputs: Any = None, outputs: Any = None) -> None:
        """Take in the states of layers that ran without a call of the model itself, with the batch for their mask."""
        if self._hooks is not None and self._hooks.in_call:
            self._hooks.clear()  # of a call of the model that raised
        if self._hooks is not None and self._hooks.has_states:
            with self._without_failing():
                self._take(inputs, outputs, whole=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the first scores, for a checkpoint."""
        return {"steps": self.steps, "first": dict(self.first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps = int(state["steps"])
        self._collapse.first = dict(state["first"])
        self._release()
        self._forget()
        self._prepare()

    def close(self) -> None:
        """Remove the hooks."""
        self._release()
        self._forget()
        self._closed = True

    def __enter__(self) -> IsotropyMonitor:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"IsotropyMonitor({len(self.names)} layers, every={self.every}, window={self.window})"

    def _prepare(self) -> None:
        """Put hooks on the model, if the next step is in a window."""
        coming = self.steps + 1
        if self._broken and not is_distributed(self.sync):  # other ranks wait for this one's sums
            return
        if coming > self._begin and -coming % self.every >= self.window:
            return
        self._hooks = HiddenStates(self._model, self._chosen)
        self._hooks.training_only = True
        self._hooks.refused = self._tell
        self._handle = self._model.register_forward_hook(_AfterCall(self), with_kwargs=True)
        if self._eagerly is not None:
            self._eagerly.begin()

    def _release(self) -> None:
        if self._hooks is not None:
            self._hooks.close()
            self._handle.remove()
        if self._eagerly is not None:
            self._eagerly.end()
        self._hooks = None

    def _after_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], outputs: Any) -> None:
        """Take in the states of a call of the model, with its arguments by name."""
        if args and isinstance(args[0], Mapping):  # a batch
            given = {**args[0], **kwargs}
        else:
            given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        if self._hooks is not None and self._hooks.has_states:
            with self._without_failing():
                self._take(given, outputs, whole=True)

    def _take(self, inputs: Any, outputs: Any, whole: bool) -> None:
        hooks = self._hooks
        assert hooks is not None
        with torch.no_grad():
            states = [state.detach() for state in hooks.take(need_gradient=False)]
            if self._broken:
                return
            masks = self._masks(states, inputs, outputs, names=hooks.taken)
        ran: Counter[str] = Counter()
        taken = set()
        for name, state, mask in zip(hooks.taken, states, masks, strict=True):
            # In a call of the model a layer may run several times, as ALBERT's does; without one, calls are not told
            # apart.
            key = (ran[name] if whole else 0, self.names.index(name), name)
            self._stream(key, state.shape[-1], state.device).update(state, mask, self.groups)
            ran[name] += 1
            taken.add(key)
        if whole:
            shape = states[0].shape[:-1]
            for key in self._streams.keys() - taken:
                self._streams[key].skip(shape, self.groups)
            self._calls.append(shape)

    def _stream(self, key: _Key, dim: int, device: Any) -> LayerStream:
        """Return the sums of a layer, in which its sequences have the numbers that they have in all others."""
        if key not in self._streams:
            self._streams[key] = LayerStream(key[-1], dim, device)
            for shape in self._calls:
                self._streams[key].skip(shape, self.groups)
        return self._streams[key]

    def _forget(self) -> None:
        self._streams, self._calls = {}, []

    @contextlib.contextmanager
    def _without_failing(self) -> Iterator[None]:
        """Log the first error, which should not end a training; after one that is not ours measure no more."""
        try:
            yield
        except IsoScoreError as error:
            self._tell(error)
        except Exception as error:  # of a mask function, or no memory is left
            self._tell(f"{type(error).__name__}: {error}. The layers are measured no more")
            self._broken = True
            if not is_distributed(self.sync):
                self._forget()

    def _tell(self, error: Any) -> None:
        if not self.failed:
            self.failed = True
            LOGGER.warning("The training goes on, but without the score: %s", error)

    def _measure(self) -> dict[str, float]:
        if not self._streams:
            raise InvalidValueError(
                "layers",
                f"none of the {len(self.names)} layers ran in training mode in the {self.window} steps before step "
                f"{self.steps}. Call step() after the model was called, once for each step of the training; a model "
                "that is compiled as a whole needs torch 2.6 and uncompiled=True",
            )
        self._known |= self._streams.keys()  # a layer that is skipped keeps its number
        digits = max(2, len(str(self.first_number + len(self._known) - 1)))
        streams = {
            f"layer_{self.first_number + number:0{digits}d}": self._streams[key]
            for number, key in enumerate(sorted(self._known))
            if key in self._streams
        }
        layers = [stream.measured(name) for name, stream in streams.items()]
        if self.union and len({stream.moments.dim for stream in streams.values()}) == 1:
            first = next(iter(streams.values()))
            union = LayerStream("", first.moments.dim, first.moments.mean.device)
            for stream in streams.values():
                union.merge(stream)
            layers.insert(0, union.measured("union"))
        self.layers = tuple(layers)
        leading = not is_distributed(self.sync) or dist.get_rank() == 0
        self._collapse.look(layers, self.steps, telling=leading)
        names = {layer.name: "isoscore_star" + f"/{layer.name}" * bool(layer.module) for layer in layers}
        return {self.prefix + names[layer.name]: layer.score for layer in layers if layer.score is not None}

    def _reduce(self) -> None:
        """Replace by the sums of all ranks, some of which may have seen no layer, or not all."""
        if not is_distributed(self.sync):
            return
        device = next((stream.moments.mean.device for stream in self._streams.values()), None)
        device = device or next((p.device for p in self._model.parameters()), torch.device("cpu"))
        own = [(key, stream.moments.dim) for key, stream in self._streams.items()]
        everywhere: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everywhere, own)
        found = {tuple(key): dim for part in everywhere for key, dim in part}
        for key in sorted(found):
            self._stream(key, found[key], device).reduce()


class _AfterCall:
    """A hook whose copies, in a copied or saved model, do nothing."""

    def __init__(self, monitor: IsotropyMonitor | None = None) -> None:
        self.monitor = monitor

    def __call__(self, model: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
        if self.monitor is not None and model.training:
            self.monitor._after_call(args, kwargs, outputs)

    def __reduce__(self) -> Any:
        return _AfterCall, ()


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(name, f"expected a whole number of steps; got {value!r}")
    if value < 1:
        raise InvalidValueError(name, f"expected at least 1 step; got {value}")
    return value
