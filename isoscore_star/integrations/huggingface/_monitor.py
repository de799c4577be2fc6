"""`IsotropyMonitorCallback`: the score of each layer in the log of any Trainer, without a penalty."""

from __future__ import annotations

import weakref
from typing import Any

from transformers import Trainer, TrainerCallback

from isoscore_star import InvalidTypeError
from isoscore_star.backends.torch import IsotropyMonitor


class IsotropyMonitorCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Measures the layers of a Trainer's model every n steps of a training, and logs the scores.

    Parameters
    ----------
    trainer : Trainer
        Any, to which the callback is added; without it, a callback could not reach TensorBoard and others.
    layers : str, nn.Module, or sequence of them, optional
        Layers as `isoscore_star.backends.torch.HiddenStates` takes them; by default the model's list of layers.
    every, window, mask, groups, sync, uncompiled
        As in `isoscore_star.backends.torch.IsotropyMonitor`; steps are optimizer steps.
    union : bool, optional
        Log the score of all layers together, too. By default True, unless the Trainer has a penalty, which logs its own
        ``isoscore_star``.
    first_number : int, default 1
        Number of the first layer in names: 1, as in ``hidden_states``, where 0 is the embedding layer.

    Attributes
    ----------
    monitor : IsotropyMonitor or None
        Of the running or last training.

    Raises
    ------
    InvalidTypeError
        If `trainer` is none.
    InvalidValueError
        When training begins, for layers that are not there.

    Notes
    -----
    The log and its history get ``isoscore_star`` and ``isoscore_star/layer_07``, which TensorBoard and W&B show as
    ``train/isoscore_star`` and ``train/isoscore_star/layer_07``. A resumed training compares with its own first score.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
    >>> from isoscore_star.integrations.huggingface import IsotropyMonitorCallback
    >>> model = BertForSequenceClassification(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2,
    ...                     num_attention_heads=2, intermediate_size=32, max_position_embeddings=16))
    >>> data = [{"input_ids": [1, 2 + i, 3], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(16)]
    >>> folder = tempfile.TemporaryDirectory()
    >>> args = TrainingArguments(folder.name, max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True)
    >>> trainer = Trainer(model=model, args=args, train_dataset=data)
    >>> trainer.add_callback(IsotropyMonitorCallback(trainer, every=2))
    >>> result = trainer.train()
    {'isoscore_star': ..., 'isoscore_star/layer_01': ..., 'isoscore_star/layer_02': ..., 'epoch': ...}
    ...
    >>> folder.cleanup()
    """

    def __init__(
        self,
        trainer: Trainer,
        layers: Any = None,
        *,
        every: int = 100,
        window: int = 1,
        union: bool | None = None,
        first_number: int = 1,
        **options: Any,
    ) -> None:
        if not isinstance(trainer, Trainer):
            raise InvalidTypeError(
                "trainer",
                f"expected the Trainer to which the callback is added; got {type(trainer).__name__}: "
                "trainer.add_callback(IsotropyMonitorCallback(trainer))",
            )
        self.monitor: IsotropyMonitor | None = None
        self._options = {"layers": layers, "every": every, "window": window, "first_number": first_number, **options}
        self._union = not hasattr(trainer, "istar") if union is None else union
        self._trainer = weakref.ref(trainer)  # which refers to its callbacks; see CovarianceOfEpochs

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Make the monitor."""
        self.on_train_end(args, state, control)
        self.monitor = IsotropyMonitor(model, union=self._union, prefix="", **self._options)
        if state.global_step:
            self.monitor.load_state_dict({"steps": state.global_step, "first": {}})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, where it is due, and log."""
        trainer = self._trainer()
        scores = None if self.monitor is None else self.monitor.step()
        if scores and trainer is not None:
            wanted = control.should_log
            trainer.log(scores)
            control.should_log = wanted  # which a log clears, but that of the loss is still to come

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the hooks."""
        self.close()

    def close(self) -> None:
        """Remove the hooks after a training that an error has ended, of which a Trainer tells no callback."""
        if self.monitor is not None:
            self.monitor.close()
