"""What a fine-tuning run is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any

from paper_checks.training._models import learning_rate
from paper_checks.training._sizes import Size

# To be raised when the code that makes a record changes what comes out: older records are then made anew.
_VERSION = 1


class Method(str, Enum):
    """What is added to the task's loss."""

    untrained = "untrained"
    none = "none"
    istar = "I-STAR"
    cosreg = "CosReg"


@dataclass(frozen=True)
class Recipe:
    """One run.

    Attributes
    ----------
    model, task : str
        See `_models` and `_tasks`.
    seed : int
        Of the head's weights, the order of the examples, and dropout.
    size : Size
        How much of everything.
    method : Method
        What is added to the task's loss; `untrained` is the model before any step.
    lam, zeta, estimator : float, float, str
        As `IStarLoss` takes them; λ for CosReg too.
    shrinkage : {"epoch", "frozen", "running"}
        Where Σ_S comes from: read before every epoch, read once before training, or the average of the batches.
    reduction, layers : str, tuple of int or None
        As `IStarLoss` takes them; by default the union of all layers but the embedding layer. CosReg takes the last
        layer, as the authors do.
    lr : float or None
        Learning rate at the start, which falls linearly to 0; None for the model's own.
    """

    model: str
    task: str
    seed: int
    size: Size
    method: Method = Method.none
    lam: float = 0.0
    zeta: float = 0.2
    estimator: str = "shrinkage"
    shrinkage: str = "epoch"
    reduction: str = "union"
    layers: tuple[int, ...] | None = None
    lr: float | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that its record hangs on."""
        return {**asdict(self), "lr": self.lr or learning_rate(self.model), "version": _VERSION}

    @property
    def before(self) -> Recipe:
        """Give the model as it was before any step; only its head hangs on the seed, and that one is 0."""
        return Recipe(self.model, self.task, 0, self.size, Method.untrained)

    def but(self, **changes: Any) -> Recipe:
        """Give the same with some things changed."""
        return replace(self, **changes)

    def __str__(self) -> str:
        said = {"model", "task", "seed", "size", "method"}
        own = [one for one in fields(self) if one.name not in said and getattr(self, one.name) != one.default]
        changes = "".join(f" {one.name}={getattr(self, one.name)}" for one in own)
        return f"{self.model}, {self.task}, {self.method.value}{changes}, seed {self.seed}"
