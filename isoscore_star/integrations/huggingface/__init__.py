"""Hugging Face transformers: `IStarTrainer`, `IStarMixin` for any other Trainer, and `IsotropyMonitorCallback`.

The penalty is added to the loss in `compute_loss`; a Trainer is unchanged otherwise.

Examples
--------
>>> from isoscore_star.integrations.huggingface import IStarTrainer
>>> make_trainer = lambda model, args, data: IStarTrainer(
...     model=model, args=args, train_dataset=data, istar={"lam": 1.0, "zeta": 0.2})
"""

from isoscore_star.integrations.huggingface._mixin import IStarMixin
from isoscore_star.integrations.huggingface._monitor import IsotropyMonitorCallback
from isoscore_star.integrations.huggingface._trainer import IStarTrainer

__all__ = ["IStarMixin", "IStarTrainer", "IsotropyMonitorCallback"]
