"""The score of a whole evaluation set, from moments that stream through the evaluation loop."""

from __future__ import annotations

import logging
from typing import Any

from isoscore_star import DegenerateDataError, isoscore_from_cov
from isoscore_star.backends.torch import StreamingMoments, select_layers
from isoscore_star.integrations.huggingface._calls import Call

LOGGER = logging.getLogger("isoscore_star")


class EvaluationScore:
    """Moments of the layers that a penalty regularizes; for each layer separately, if the penalty logs layers."""

    def __init__(self, penalty: Any) -> None:
        self.penalty = penalty
        self.by_layer = bool(getattr(penalty, "log_layers", False))
        self.moments: dict[str, StreamingMoments] = {}

    def update(self, call: Call) -> None:
        """Add the states of a batch."""
        chosen = select_layers(
            call.states, call.masks, layers=self.penalty.layers, skip_embeddings=self.penalty.skip_embeddings
        )
        for index, states, mask in zip(*chosen, strict=True):
            name = f"/layer_{index:02d}" if self.by_layer else ""
            if name not in self.moments:
                self.moments[name] = StreamingMoments(states.shape[-1], states.device)
            self.moments[name].update(states, mask)

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the scores of the states of all ranks; none for fewer than two states, or identical ones."""
        parts = {name: moments.reduce() for name, moments in self.moments.items()}
        if self.by_layer and parts:
            first = next(iter(parts.values()))
            union = StreamingMoments(first.dim, first.scatter.device)
            for moments in parts.values():
                union.merge(moments)
            parts = {"": union, **parts}
        scores = {}
        for name, moments in parts.items():
            try:
                scores[f"{prefix}_isoscore_star{name}"] = float(isoscore_from_cov(moments.cov))
            except DegenerateDataError as error:
                LOGGER.warning("No score of the evaluation set (%s%s): %s", prefix, name, error)
        return scores
