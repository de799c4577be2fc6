"""Which states of a batch an integration takes for one group: all that came from one example."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from isoscore_star.integrations._shared.union import groups_of_calls, union_of_calls  # noqa: E402


def layers(rows: int, tokens: int) -> list[torch.Tensor | None]:
    """Three layers, of which the second is left out."""
    return [torch.zeros(rows, tokens, 4), None, torch.zeros(rows, tokens, 4)]


def test_one_call_with_a_row_for_each_example() -> None:
    assert groups_of_calls([layers(6, 5)]) == 0


def test_the_choices_of_a_question_are_one_group() -> None:
    groups = groups_of_calls([layers(6, 2)], rows_of_example=3)
    expected = np.array([[0, 0], [0, 0], [0, 0], [1, 1], [1, 1], [1, 1]])
    assert np.array_equal(groups[0], expected)
    assert groups[1] is None
    assert groups[2] is groups[0]  # numbered once


def test_anchor_and_positive_are_one_group_in_the_order_of_their_union() -> None:
    calls = [layers(3, 2), layers(3, 1)]
    groups = groups_of_calls(calls)
    assert groups[0].tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    states, _ = union_of_calls([(call, [None] * 3) for call in calls])
    assert states[0] is not None
    assert states[0].shape[:-1] == groups[0].shape


def test_multiple_choice_in_a_trainer() -> None:
    pytest.importorskip("transformers")
    from isoscore_star.integrations.huggingface._calls import Call, joined

    class Penalty:
        layers, skip_embeddings = None, False

    call = Call(layers(6, 2), [None] * 3, examples=2)
    assert joined([call], Penalty()).groups[0][:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert joined([call._replace(examples=6)], Penalty()).groups == 0
