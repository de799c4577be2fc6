"""sentence-transformers: `IStarLoss` around any of its losses, `IStarCallback` for Σ_S and the log, an evaluator."""

from isoscore_star.integrations.sentence_transformers._callback import IStarCallback
from isoscore_star.integrations.sentence_transformers._evaluator import IsoScoreStarEvaluator
from isoscore_star.integrations.sentence_transformers._loss import IStarLoss

__all__ = ["IStarCallback", "IStarLoss", "IsoScoreStarEvaluator"]
