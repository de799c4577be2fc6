"""`IStarMixin`: the penalty in a Trainer's loss, its log, its evaluation and its checkpoints."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.integrations._shared import checkpoint
from isoscore_star.integrations._shared.only_measured import OnlyMeasured
from isoscore_star.integrations._shared.penalty import make_penalty
from isoscore_star.integrations.huggingface._accumulation import Inflation
from isoscore_star.integrations.huggingface._calls import joined, penalty_of
from isoscore_star.integrations.huggingface._compat import prepared
from isoscore_star.integrations.huggingface._epochs import CovarianceOfEpochs
from isoscore_star.integrations.huggingface._evaluation import EvaluationScore
from isoscore_star.integrations.huggingface._states import ModelStates

LOGGER = logging.getLogger("isoscore_star")

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class IStarMixin(_Base):
    """Adds I-STAR to the Trainer that follows it: ``class MyIStarTrainer(IStarMixin, MyTrainer): ...``.

    Parameters
    ----------
    istar : dict, IStarLoss or CosineRegularizer, optional
        The penalty. A dict holds arguments of `isoscore_star.backends.torch.IStarLoss`, in which `dim` comes from the
        model's configuration and `skip_embeddings` is True, as in the paper. By default λ = 1, and the estimator is the
        anchored one, with Σ_S of the last batches, unless the dict has another, or the ζ or Σ_S of the paper's, or
        `get_shrinkage_dataloader` is overridden. The paper's gets a ``ShrinkageCovariance(dim)``, estimated at the
        start of every epoch, if it needs one and has none.
    lam_schedule : callable, optional
        Returns λ for an optimizer step (``state.global_step``), such as `isoscore_star.LambdaSchedule`.
    istar_modules : str, nn.Module, or sequence of them, optional
        Layers whose outputs are the hidden states, as `HiddenStates` takes them (``"encoder.layer.*"``). By default
        they come from ``output_hidden_states=True``, or from the model's list of layers if it has no such argument.
    istar_mask : str, callable or False, optional
        Which states are points: the name of an argument of the model, instead of ``"attention_mask"``; a function
        ``(inputs, outputs)`` of the model's call that returns a mask, None, or one for each layer; or False for all.
        See `isoscore_star.backends.torch.StateMasks`, also for masks of another shape than the states.
    eval_isoscore_star : bool, default True
        Measure evaluation and test sets, too.
    *args, **kwargs
        Of the Trainer.

    Attributes
    ----------
    istar : IStarLoss or CosineRegularizer
        The penalty, not a part of the model. Its ``lam``, ``zeta``, ``target`` and ``floor`` may be assigned while
        training.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a penalty that does not fit, or a model that returns no hidden states.

    Notes
    -----
    The attention mask is the one that the model is called with. The states of an encoder-decoder are those of both:
    `layers` counts the encoder's entries first, then the decoder's, whose mask is `decoder_attention_mask` or else
    the positions with a label (not -100). The same holds for two towers, as of CLIP, whose image tower has no mask.

    For scores of groups, an example of the batch is one, with all its rows and calls; of a packed batch, such as
    ``DataCollatorWithFlattening`` gives, each sequence in a row: without an attention mask one begins wherever
    ``position_ids`` do not go up by one. On an accelerator a batch of too few packed sequences trains nothing, too,
    but no log line tells.

    Evaluation losses, predictions and `compute_metrics` are as without I-STAR. A log line with ``loss``, which includes
    the penalty, also has ``isoscore_star`` and ``istar_penalty``, the means since the last line; an evaluation has
    ``eval_isoscore_star``, the score (ζ = 0) of all its states together.

    With λ = 0 a run equals one without I-STAR; an error of the score is logged once.

    Checkpoints have one more file, ``isoscore_star.safetensors``. A resumed run equals one that never stopped.
    `save_model` and `save_pretrained` write the same files as without I-STAR.

    Examples
    --------
    >>> class MyIStarTrainer(IStarMixin, Trainer):
    ...     pass
    """

    def __init__(
        self,
        *args: Any,
        istar: Any = None,
        lam_schedule: Callable[[int], float] | None = None,
        istar_modules: Any = None,
        istar_mask: Any = None,
        eval_isoscore_star: bool = True,
        **kwargs: Any,
    ) -> None:
        if lam_schedule is not None and not callable(lam_schedule):
            raise InvalidTypeError(
                "lam_schedule",
                "expected a function of the step, such as isoscore_star.LambdaSchedule; got "
                f"{type(lam_schedule).__name__}. A constant goes into istar={{'lam': ...}}",
            )
        super().__init__(*args, **kwargs)
        self.lam_schedule = lam_schedule
        self.eval_isoscore_star = eval_isoscore_star
        self._istar_sources = (istar_modules, istar_mask)
        self._istar_states_of_model: ModelStates | None = None
        self._istar_measured = OnlyMeasured()
        self._istar_inflation = Inflation()
        self._istar_evaluation: EvaluationScore | None = None
        self._istar_warned = False
        unwrapped = self.accelerator.unwrap_model(self.model)
        hooked = self._istar_states().hooks is not None
        own_data = type(self).get_shrinkage_dataloader is not IStarMixin.get_shrinkage_dataloader
        config = getattr(unwrapped, "config", None)
        self._istar = make_penalty(istar, "istar", config, hooked=hooked, has_data=own_data)
        self.istar.to(self.args.device)
        self._istar_at_start = copy.deepcopy(self.istar.state_dict())
        methods = (self._istar_batches, self._istar_forward, self._istar_unless_measured)
        self.add_callback(CovarianceOfEpochs(self.istar, *methods))

    @property
    def istar(self) -> Any:
        """The penalty."""
        return self._istar

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, with Σ_S from the checkpoint if there is one."""
        folder = resume_from_checkpoint
        if folder is True:
            folder = get_last_checkpoint(self.args.output_dir)  # type: ignore[no-untyped-call]
        if folder:
            checkpoint.load(self.istar, folder, self.args.device)
        elif self.model_init is not None:  # a search trains several new models
            self.istar.load_state_dict(self._istar_at_start)
        self._istar_inflation = Inflation()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Compute the Trainer's loss and, in training, add the penalty."""
        kwargs = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch, **kwargs}
        if not model.training:
            return super().compute_loss(model, inputs, **kwargs)
        task_loss = functools.partial(self._istar_task_loss, self.model, inputs)
        factor = self._istar_inflation.of_penalty(self, task_loss, num_items_in_batch)
        with self._istar_states().watching(model) as calls:
            result = super().compute_loss(model, inputs, **kwargs)
        penalty = None
        with self._istar_unless_measured():
            if self.lam_schedule is not None:
                self.istar.lam = float(self.lam_schedule(self.state.global_step))
            penalty = penalty_of(calls, self.istar)
        if penalty is None:
            return result
        if isinstance(result, tuple):
            return (result[0] + penalty * factor, *result[1:])
        return result + penalty * factor

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Run the Trainer's loop, and add the score of all its states."""
        score = EvaluationScore(self.istar) if self.eval_isoscore_star else None
        self._istar_evaluation = score
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        finally:
            self._istar_evaluation = None
        if score is not None and output.metrics is not None:
            output.metrics.update(score.metrics(metric_key_prefix))
        return output

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """Run the Trainer's step, and measure its states."""
        if self._istar_evaluation is None:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        # The calls of a generation, which have no labels, do not count.
        generating = getattr(self.args, "predict_with_generate", False) and not prediction_loss_only
        only_with = self.label_names if generating else ()
        with self._istar_states().watching(model, only_with) as calls:
            result = super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        with self._istar_unless_measured():
            if calls:
                self._istar_evaluation.update(joined(calls, self.istar, self.accelerator))
        return result

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the values and, with a training loss, also the score and the penalty."""
        if "loss" in logs:
            values = self.istar.collect()
            if not values and not self._istar_warned and not self._istar_measured.failed:
                self._istar_warned = True
                LOGGER.warning(
                    "The penalty was never computed: a compute_loss in front of IStarMixin does not call super(). Put "
                    "IStarMixin first: class MyIStarTrainer(IStarMixin, MyTrainer)"
                )
            logs.update(values)
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model and, in a checkpoint, the penalty's state."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.args.should_save:
            checkpoint.save(self.istar, output_dir)

    def get_shrinkage_dataloader(self) -> Any:
        """Return the data for Σ_S: the training data, not shuffled. Override it for others."""
        if self.train_dataset is None:
            raise InvalidValueError(
                "train_dataset",
                "the shrinkage covariance is read from it, but there is none. Override "
                'get_shrinkage_dataloader, or take estimator="unbiased", which needs no covariance',
            )
        return self.get_test_dataloader(self.train_dataset)

    def _istar_states(self) -> ModelStates:
        """Return the collector of the current model's hidden states; `model_init` makes new models."""
        model: Any = self.model
        if self._istar_states_of_model is None or self._istar_states_of_model.trained is not model:
            unwrapped = self.accelerator.unwrap_model(model)
            self._istar_states_of_model = ModelStates(model, unwrapped, *self._istar_sources)
        return self._istar_states_of_model

    def _istar_unless_measured(self) -> AbstractContextManager[None]:
        return self._istar_measured.unless(self.istar.lam, self.lam_schedule)

    def _istar_batches(self) -> Any:
        return self.get_shrinkage_dataloader()  # which may have been assigned

    def _istar_forward(self, model: nn.Module, batch: Any) -> tuple[Any, Any]:
        inputs = prepared(self, batch)
        with self._istar_states().watching(model) as calls, self.compute_loss_context_manager():
            self._istar_task_loss(model, inputs)
        call = joined(calls, self.istar, self.accelerator)
        return call.states, call.masks

    def _istar_task_loss(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        return super().compute_loss(model, {**inputs}, num_items_in_batch=num_items_in_batch)
