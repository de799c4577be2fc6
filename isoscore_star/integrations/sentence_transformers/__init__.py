"""sentence-transformers: `IStarLoss` wraps any loss, `IStarCallback` estimates Σ_S and logs, and an evaluator."""

from isoscore_star.integrations.sentence_transformers._callback import IStarCallback
from isoscore_star.integrations.sentence_transformers._evaluator import IsoScoreStarEvaluator
from isoscore_star.integrations.sentence_transformers._loss import IStarLoss

__all__ = ["IStarCallback", "IStarLoss", "IsoScoreStarEvaluator"]
