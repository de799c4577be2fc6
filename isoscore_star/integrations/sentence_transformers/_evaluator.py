"""`IsoScoreStarEvaluator`: IsoScore* of sentence embeddings while a model trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from isoscore_star import arguments, isoscore_star, isoscore_unbiased, participation_ratio


class IsoScoreStarEvaluator(BaseEvaluator):
    """IsoScore* of sentence embeddings, computed by ``model.encode``.

    Parameters
    ----------
    sentences : sequence of str
        At least four for the unbiased estimator, otherwise two.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S of sentence embeddings.
    zeta : float, default 0.0
        ζ in [0, 1].
    estimator : {"unbiased", "shrinkage"}, default "unbiased"
        ``"unbiased"`` does not need more sentences than dimensions (see `isoscore_star.isoscore_unbiased`).
    batch_size, show_progress_bar
        Arguments of ``encode``.
    name : str, default ""
        Prefix of the names of the values.

    Examples
    --------
    >>> evaluator = IsoScoreStarEvaluator(sentences, name="dev")  # doctest: +SKIP
    >>> evaluator(model)  # doctest: +SKIP
    {'dev_isoscore_star': 0.21, 'dev_effective_dimensions': 81.2}
    """

    def __init__(
        self,
        sentences: Sequence[str],
        shrinkage_cov: Any = None,
        zeta: float = 0.0,
        estimator: str = "unbiased",
        *,
        batch_size: int = 32,
        name: str = "",
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sentences = list(sentences)
        self.shrinkage_cov = shrinkage_cov
        self.zeta = arguments.number("zeta", zeta, 0.0, 1.0)
        self.estimator = arguments.choice("estimator", estimator, arguments.MEASURING_ESTIMATORS)
        self.batch_size = batch_size
        self.name = name
        self.show_progress_bar = show_progress_bar
        self.primary_metric = "isoscore_star"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the score and the effective number of dimensions; the trainer logs both as ``eval_...``.

        Raises
        ------
        DegenerateDataError
            If there are too few sentences, or all embeddings are the same.
        """
        embeddings = model.encode(
            self.sentences, batch_size=self.batch_size, show_progress_bar=self.show_progress_bar, convert_to_numpy=True
        )
        if self.estimator == "unbiased":
            score = isoscore_unbiased(embeddings)
        else:
            score = isoscore_star(embeddings, self.shrinkage_cov, self.zeta)
        dimensions = participation_ratio(score, embeddings.shape[1])
        metrics: dict[str, float] = self.prefix_name_to_metrics(
            {"isoscore_star": score, "effective_dimensions": dimensions}, self.name
        )
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings for the model card."""
        return {"zeta": self.zeta, "estimator": self.estimator}
