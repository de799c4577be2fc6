"""The anchored score in a graph, which chooses the paper's form by itself where Σ_S is far from the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from isoscore_star.core import checks
from isoscore_star.core.checks import Points
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import anchored_score, following_score
from isoscore_star.core.trust import averaged_sides, is_near
from isoscore_star.functions import training_score


class Anchored(NamedTuple):
    """The score, and of the trust test with this batch both sides (2,) and whether they are near each other."""

    score: Any
    sides: Any
    near: Any


def following(cloud: Points, cov: Any) -> Any:
    """Compute the anchored score of a batch by a Σ_S that follows the batches."""
    return following_score(_invariants(cloud, cov), cloud.dim, cloud.backend.where, ops.stop_gradient)


def anchored(cloud: Points, cov: Any, sides: Any) -> Anchored:
    """Compute the anchored score of a batch, and take it into the averages of the test.

    One product, X·Σ_S, is that of the score, its gradient and the test.
    """
    backend, invariants = cloud.backend, _invariants(cloud, cov)
    constant = invariants._replace(t=ops.stop_gradient(invariants.t), cross=ops.stop_gradient(invariants.cross))
    before = ops.cast(sides, constant.t.dtype)
    sides = ops.stack(averaged_sides((before[0], before[1]), constant, backend.where))
    return Anchored(anchored_score(invariants, cloud.dim, backend.where), sides, is_near(sides[0], sides[1]))


def _invariants(cloud: Points, cov: Any) -> Invariants:
    backend = cloud.backend
    target = backend.constant(checks.square_matrix("shrinkage_cov", cov, backend, cloud.dim), cloud.clouds[0])
    return backend.anchored(cloud.clouds, cloud.masks, target)


def anchored_or_shrunk(cloud: Points, cov: Any, zeta: Any, sides: Any) -> Anchored:
    """Compute the same or, where the batches before were far from Σ_S, IsoScore* with ζ.

    Its products come on top, but only where it is chosen: by the host or, in a graph, as a branch of a condition.
    """
    found, near = anchored(cloud, cov, sides), is_near(sides[0], sides[1])

    def paper(clouds: list[Any]) -> Any:
        return training_score(cloud._replace(clouds=clouds), cov, zeta)

    known = cloud.backend.concrete(near)
    if known is None:
        return found._replace(score=cloud.backend.where(near, found.score, _only_if(~near, paper, cloud)))
    return found if known else found._replace(score=paper(cloud.clouds))


def _only_if(condition: Any, score: Callable[[list[Any]], Any], cloud: Points) -> Any:
    """Compute a score of the clouds where the condition holds, else 0."""
    if keras.backend.backend() == "tensorflow":
        from isoscore_star.backends.tensorflow.branch import only_if

        return only_if(condition, score, cloud.clouds)
    zero = cloud.backend.constant(0.0, cloud.clouds[0])
    return ops.cond(condition, lambda: score(cloud.clouds), lambda: zero)
