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
    lam, zeta, estimator, target, rank : float, float, str, float or None, int or None
        As `IStarLoss` takes them; λ for CosReg too.
    independent : bool
        Whether the unbiased estimator takes token states for independent points.
    shrinkage : {"epoch", "frozen", "running"}
        Where Σ_S comes from: read before every epoch, read once before training, or the average of the batches.
    decay, batch_states : float, int or None
        Of that average: as `ShrinkageCovariance` takes `decay` and `batch_points`.
    reduction, layers : str, tuple of int or None
        As `IStarLoss` takes them; by default the union of all layers but the embedding layer. CosReg takes the last
        layer, as the authors do.
    lr : float or None
        Learning rate at the start, which falls linearly to 0; None for the model's own.
    batch, steps : int or None
        Examples a step, and steps, instead of those of `size`.
    brief : bool
        Whether only the task and the isotropy of all layers are measured, in a tenth of the time.
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
    target: float | None = None
    rank: int | None = None
    independent: bool = False
    decay: float = 0.99
    batch_states: int | None = None
    batch: int | None = None
    steps: int | None = None
    brief: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that its record hangs on."""
        return {**asdict(self), "lr": self.lr or learning_rate(self.model), "version": _VERSION}

    @property
    def before(self) -> Recipe:
        """Give the model as it was before any step; only its head hangs on the seed, and that one is 0."""
        return Recipe(self.model, self.task, 0, self.size, Method.untrained, brief=self.brief)

    @property
    def examples(self) -> int:
        """Give the number of examples a step."""
        return self.batch or self.size.batch

    def but(self, **changes: Any) -> Recipe:
        """Give the same with some things changed."""
        return replace(self, **changes)

    def __str__(self) -> str:
        said = {"model", "task", "seed", "size", "method"}
        own = [one for one in fields(self) if one.name not in said and getattr(self, one.name) != one.default]
        changes = "".join(f" {one.name}={getattr(self, one.name)}" for one in own)
        return f"{self.model}, {self.task}, {self.method.value}{changes}, seed {self.seed}"
