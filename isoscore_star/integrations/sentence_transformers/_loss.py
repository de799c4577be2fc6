"""`IStarLoss`: a loss of sentence-transformers with the penalty."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star import InvalidValueError
from isoscore_star.backends.torch import RankPart, StateMasks
from isoscore_star.integrations._shared.only_measured import OnlyMeasured
from isoscore_star.integrations._shared.penalty import make_penalty, needs_covariance, penalty_of
from isoscore_star.integrations.sentence_transformers import _states
from isoscore_star.integrations.sentence_transformers._compat import unwrapped


class IStarLoss(nn.Module):
    """A loss of sentence-transformers with the I-STAR penalty added, on the token states of all that it embeds.

    Parameters
    ----------
    model : SentenceTransformer
        The model that is trained, with a transformer in it.
    loss : nn.Module
        Any loss that embeds by ``model(features)``: a ranking loss, `CosineSimilarityLoss`, `TripletLoss`,
        `MatryoshkaLoss`, ... The wrapper stands outermost. Losses that cache gradients are refused: see Raises.
    lam, zeta, estimator, target, floor, reduction, sync, log_layers, check_values
        See `isoscore_star.backends.torch.IStarLoss`.
    shrinkage_cov : array of shape (d, d) or ShrinkageCovariance, optional
        Σ_S. With ζ > 0 and no Σ_S, `IStarCallback` estimates it at every epoch, or `refresh` does. A
        `ShrinkageCovariance` has to be made with the same `layers` and ``skip_embeddings=True``.
    layers : sequence of int, optional
        Layers that are regularized: 0 is the embedding layer, the last one is pooled; negative ones count from the end.
        All but the embedding layer by default, as in the paper.
    mask : str, callable or False, optional
        Which token states are points: a name among the model's features instead of ``"attention_mask"``; a function
        ``(inputs, outputs)`` of the features that returns a mask, None, or one for each layer; or False for all.
        See `isoscore_star.backends.torch.StateMasks`, also for masks of another shape than the states.
    penalty : dict, IStarLoss or CosineRegularizer of `isoscore_star.backends.torch`, optional
        The penalty itself, as in the other integrations; the arguments from `lam` to `check_values` are ignored then.
        A dict holds arguments of `IStarLoss`, in which `skip_embeddings` is True by default, and without ζ and Σ_S the
        estimator is the anchored one.

    Attributes
    ----------
    model, loss : nn.Module
        The trainer puts its wrapped model (DDP, compiled) into both.
    penalty : IStarLoss or CosineRegularizer of `isoscore_star.backends.torch`
        Its ``lam``, ``zeta``, ``target`` and ``floor`` may be assigned while training.

    Raises
    ------
    InvalidValueError
        If the loss caches gradients (GradCache: the `Cached...` losses, a mini-batched `MegaBatchMarginLoss`), since a
        penalty on its states would have no gradient; if the model has no transformer, or a parameter is out of range.

    Examples
    --------
    >>> from sentence_transformers.sentence_transformer import losses  # doctest: +SKIP
    >>> from isoscore_star.integrations.sentence_transformers import IStarCallback, IStarLoss
    >>> loss = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=1.0, zeta=0.2)  # doctest: +SKIP
    >>> trainer = SentenceTransformerTrainer(  # doctest: +SKIP
    ...     model, train_dataset=pairs, loss=loss, callbacks=[IStarCallback(loss)]
    ... )
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        lam: float = 1.0,
        zeta: float = 0.2,
        estimator: str = "shrinkage",
        layers: Sequence[int] | None = None,
        shrinkage_cov: Any = None,
        target: float | None = None,
        *,
        floor: float | None = None,
        reduction: str = "union",
        sync: str | bool = "auto",
        log_layers: bool = False,
        check_values: bool = False,
        mask: Any = None,
        penalty: Any = None,
    ) -> None:
        super().__init__()
        _states.refuse_gradient_cache(loss)
        arguments = {
            "lam": lam,
            "zeta": zeta,
            "estimator": estimator,
            "layers": layers,
            "shrinkage_cov": shrinkage_cov,
            "target": target,
            "floor": floor,
            "reduction": reduction,
            "sync": sync,
            "log_layers": log_layers,
            "check_values": check_values,
        }
        self.model = model
        self.loss = loss
        self.masks = StateMasks(model, mask)
        self.measured = OnlyMeasured()
        config = _states.configs(model)[0]
        self.penalty = make_penalty(arguments if penalty is None else penalty, "penalty", config)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Any = None) -> Any:
        """Compute the loss and, in training, the penalty.

        Parameters
        ----------
        sentence_features : iterable of dict
            One batch of tokens for each column.
        labels : Tensor, optional
            For the wrapped loss.

        Returns
        -------
        dict of str to Tensor
            ``"task_loss"`` (or the wrapped loss's components) and ``"istar_penalty"``, which the trainer sums and logs.
            In evaluation the result of the wrapped loss alone, so that ``eval_loss`` is the task's.

        Raises
        ------
        InvalidValueError
            If Σ_S is not known yet, the loss embeds nothing by `model`, or nothing with gradients, or a mask does not
            fit the states. With λ = 0 that is logged once instead, and training continues without the score.
        """
        if not unwrapped(self.model).training:
            return self.loss(sentence_features, labels)
        with _states.watching(self.model, self.masks) as passes:
            task = self.loss(sentence_features, labels)
        components: dict[str, Tensor] = dict(task) if isinstance(task, Mapping) else {"task_loss": task}
        lam = self.penalty.lam
        penalty = torch.zeros_like(next(iter(components.values())))
        with self.measured.unless(lam), torch.set_grad_enabled(lam != 0 and torch.is_grad_enabled()):
            states, masks, groups = _states.by_layer(_states.with_gradients(passes, self.loss), self.penalty)
            self._require_covariance()
            penalty = penalty_of(self.penalty, states, masks, groups)
        return {**components, "istar_penalty": penalty}

    def refresh(self, texts: Iterable[str], *, batch_size: int = 32, max_points: int | None = None) -> None:
        """Estimate Σ_S from the model's token states on texts; see `ShrinkageCovariance.fit`.

        Parameters
        ----------
        texts : iterable of str
            Read as far as needed. In a distributed run the same on every rank; each embeds its part.
        batch_size : int, default 32
            Texts that are embedded at a time.
        max_points : int, optional
            Token states to use, over all layers; by default those of the `ShrinkageCovariance` (250,000).

        Raises
        ------
        InvalidValueError
            If the loss has no `ShrinkageCovariance`, or one of policy ``"fixed"``.
        DegenerateDataError
            If there is no text.
        """
        shrinkage = getattr(self.penalty, "shrinkage", None)
        if shrinkage is None:
            raise InvalidValueError(
                "shrinkage_cov",
                "there is nothing to refresh, since it was given as a matrix or is not used. Leave it "
                "out, or give a ShrinkageCovariance",
            )
        model: Any = unwrapped(self.model)
        own = RankPart(texts, shrinkage.sync)
        batches = (dict(model.preprocess(batch)) for batch in _batches(own, batch_size))
        shrinkage.fit(model, batches, max_points, forward=functools.partial(_states.embed, mask=self.masks))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings for the model card."""
        names = ("lam", "zeta", "estimator", "reduction", "layers", "target", "floor")
        settings = {name: getattr(self.penalty, name) for name in names if hasattr(self.penalty, name)}
        return {"loss": type(self.loss).__name__, **settings}

    @property
    def citation(self) -> str:
        """Return the reference for the model card."""
        return """
@inproceedings{rudman2024stable,
    title={Stable Anisotropic Regularization},
    author={William Rudman and Carsten Eickhoff},
    booktitle={The Twelfth International Conference on Learning Representations},
    year={2024},
    url={https://arxiv.org/abs/2305.19358}
}
"""

    def _require_covariance(self) -> None:
        shrinkage = getattr(self.penalty, "shrinkage", None)
        if shrinkage is None or shrinkage.policy in ("running", "identity"):
            return
        if shrinkage.cov is None and needs_covariance(self.penalty):
            raise InvalidValueError(
                "shrinkage_cov",
                f"zeta={self.penalty.zeta:g} mixes in a covariance that is not known yet. Give the "
                "trainer callbacks=[IStarCallback(loss)], which reads it at every epoch as in the paper, or call "
                "loss.refresh(texts), or give shrinkage_cov=ShrinkageCovariance(dim, policy='running', "
                "skip_embeddings=True), or set zeta=0 or estimator='unbiased', which need none",
            )


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
