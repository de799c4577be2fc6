"""Batches that are packed into one row: a sequence is a group, and not the row."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_huggingface import LOGGED, arguments, assert_same, llama, losses, made, task_loss, tolerance

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from isoscore_star.integrations._shared.union import groups_of_calls  # noqa: E402
from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402
from isoscore_star.integrations.huggingface._calls import joined  # noqa: E402
from isoscore_star.integrations.huggingface._states import ModelStates  # noqa: E402

LENGTHS = (5, 3, 7, 1, 4, 8, 2, 6)
NUMBERS = np.repeat(np.arange(8), LENGTHS)


class Flattening:
    """The collator of transformers, which remembers the lengths of a shuffled batch, and the batch."""

    def __init__(self, start: int = 0) -> None:
        self.flatten, self.start = transformers.DataCollatorWithFlattening(), start

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        self.numbers = np.repeat(np.arange(len(features)), [len(feature["input_ids"]) for feature in features])
        self.batch = self.flatten(features)
        self.batch["position_ids"] += self.start  # as RoBERTa's begin at 2
        return dict(self.batch)


def sentences() -> list[dict[str, list[int]]]:
    rng = np.random.default_rng(0)
    return [{"input_ids": rng.integers(4, 39, length).tolist()} for length in LENGTHS]


def trained(folder: Path, model: Any, istar: dict[str, Any], collator: Any, **more: Any) -> Any:
    args = arguments(folder, max_steps=1, **more)
    trainer = IStarTrainer(model=model, args=args, train_dataset=sentences(), data_collator=collator, istar=istar)
    trainer.train()
    return trainer


def halves_score(states: list[Any], numbers: np.ndarray) -> Any:
    """The score of the two halves of the sequences, from covariances written out."""
    parts = [torch.cat([layer.flatten(0, -2)[numbers % 2 == half] for layer in states]) for half in (0, 1)]
    a, b = (torch.cov(part.T) for part in parts)
    return (a.trace() * b.trace() / (a * b).sum() - 1) / (len(a) - 1)


def packed_batch() -> dict[str, Any]:
    tokens = torch.tensor([[token for sentence in sentences() for token in sentence["input_ids"]]])
    positions = torch.tensor([[place for length in LENGTHS for place in range(length)]])
    return {"input_ids": tokens, "position_ids": positions}


@pytest.mark.parametrize("start", [0, 2])
def test_one_step_by_the_halves_of_the_sequences(tmp_path: Path, start: int) -> None:
    model, collator = made(llama), Flattening(start)
    twin = copy.deepcopy(model)
    trainer = trained(tmp_path, model, {"lam": 1.0, "estimator": "unbiased"}, collator)
    out = twin(**collator.batch, output_hidden_states=True, use_cache=False)
    score = halves_score(out.hidden_states[1:], collator.numbers)
    assert losses(trainer, "isoscore_star") == pytest.approx([score.item()], abs=LOGGED)
    gradients = torch.autograd.grad(score, list(twin.model.parameters()), retain_graph=True)
    assert max(gradient.abs().max() for gradient in gradients) > 0.01
    (task_loss(twin, out.logits, collator.batch["labels"]) + 1 - score).backward()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter -= 0.1 * parameter.grad
    assert_same(model, twin, tolerance(llama))


def test_the_log_of_the_anchored_loss(tmp_path: Path) -> None:
    model, collator = made(llama), Flattening()
    twin = copy.deepcopy(model)
    trainer = trained(tmp_path, model, {"lam": 1.0}, collator)
    states = twin(**collator.batch, output_hidden_states=True, use_cache=False).hidden_states[1:]
    expected = halves_score(states, collator.numbers).item()
    assert losses(trainer, "isoscore_star") == pytest.approx([expected], abs=LOGGED)


def test_few_sequences_train_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    istar = {"lam": 1.0, "estimator": "unbiased"}
    trainer = trained(tmp_path, made(llama), istar, Flattening(), per_device_train_batch_size=3)
    assert losses(trainer, "istar_penalty") == [1.0]
    assert "this one has 3" in caplog.text


class Penalty:
    layers, skip_embeddings = None, False


def groups_of(model: Any, *batches: dict[str, Any]) -> Any:
    source = ModelStates(model, model, None)
    with source.watching(model) as calls:
        for batch in batches:
            model(**batch)
    return joined(calls, Penalty()).groups


def test_numbers_of_sequences() -> None:
    model = made(llama)
    packed = packed_batch()
    assert groups_of(model, packed).tolist() == [NUMBERS.tolist()]
    assert groups_of(model, packed, packed).tolist() == [*NUMBERS, *NUMBERS]  # sequence i of both
    tokens = packed["input_ids"][:, :12].reshape(2, 6)
    positions = torch.tensor([[0, 1, 2, 3, 4, 5], [0, 1, 0, 0, 1, 2]])
    assert groups_of(model, {"input_ids": tokens, "position_ids": positions}).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 1, 2, 3, 3, 3],
    ]


def test_a_row_with_one_sequence_is_a_group_as_ever() -> None:
    model = made(llama)
    tokens = packed_batch()["input_ids"][:, :12].reshape(2, 6)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    left = (mask.cumsum(1) - 1).masked_fill(mask == 0, 1)  # 1, 1, 0, 1, 2, 3
    rows = {"input_ids": tokens, "position_ids": torch.arange(6).expand(2, 6)}
    for same in ({"input_ids": tokens}, rows, {"input_ids": tokens, "attention_mask": mask, "position_ids": left}):
        assert groups_of(model, same) == 0
    assert groups_of(model, {**rows, "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}) == 0  # of another shape
    twice = groups_of(model, rows, rows)
    assert all(labels.tolist() == [0] * 6 + [1] * 6 + [0] * 6 + [1] * 6 for labels in twice)


def test_nothing_waits_for_a_device() -> None:
    states = [torch.zeros(2, 6, 4, device="meta")]
    ids = torch.zeros(2, 6, dtype=torch.int64, device="meta")
    found = groups_of_calls([states], positions=[ids])
    assert (found.shape, found.device.type) == ((2, 6), "meta")
    assert groups_of_calls([states, states], positions=[ids, ids]).shape == (24,)


def test_ranks_begin_in_other_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert groups_of(made(llama), packed_batch()).tolist() == [(NUMBERS + 1).tolist()]
