"""What is measured where many short runs are compared: the task, and the isotropy of all layers of held-out text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from isoscore_star.backends.torch import StreamingMoments
from isoscore_star.finetuning import encode, scores
from paper_checks.training._sizes import Size
from paper_checks.training._tasks import TaskSplits

_BATCH = 64


@torch.no_grad()
def held_out(model: Any, tokenizer: Any, collate: Any, splits: TaskSplits, size: Size) -> dict[str, Any]:
    """Measure a model on test examples.

    Returns
    -------
    dict
        ``test``: the task's metric. ``score``: that of two halves of the examples, of all layers but the embedding
        layer together; ``layers``: that of each. They are None, and ``diverged`` says why, where there is none.
    """
    device = next(model.parameters()).device
    rows = encode(splits.test.at_most(size.test), tokenizer, size.length)
    union, *layers = (
        StreamingMoments(model.config.hidden_size, device, fourth_order=True)
        for _ in range(model.config.num_hidden_layers + 1)
    )
    logits = []
    model.eval()
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        inputs = collate([{name: row[name] for name in row if name != "labels"} for row in batch]).to(device)
        out = model(**inputs, output_hidden_states=True)
        states, mask = list(out.hidden_states[1:]), inputs["attention_mask"]
        union.update(states, mask)
        for layer, state in zip(layers, states, strict=True):
            layer.update(state, mask)
        logits.append(out.logits.double().cpu().numpy())
    test = scores(splits.metric, np.concatenate(logits), np.array([row["labels"] for row in rows]))[splits.metric]
    found = [moments.isoscore_unbiased().item() for moments in (union, *layers)]
    if not np.isfinite(found).all():
        return {"test": test, "score": None, "layers": None, "diverged": "states are not finite, or have no spread"}
    return {"test": test, "score": found[0], "layers": found[1:], "diverged": None}
