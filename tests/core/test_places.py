"""Which tokens of a sequence stand for all: one in each part, and each as likely as any other."""

from __future__ import annotations

import numpy as np
import pytest

from isoscore_star.core.places import token_places, tokens_taken


@pytest.mark.parametrize(("tokens", "taken"), [(32, 1), (32, 2), (25, 2), (100, 7), (512, 512), (3, 2), (9000, 1)])
def test_one_of_each_part_and_all_alike(tokens: int, taken: int) -> None:
    sequences = np.arange(4096)[:, None]
    places = token_places(sequences, np.arange(taken), tokens, taken)
    assert places.min() >= 0
    assert places.max() < tokens
    # In each sequence there is one in each part, which may reach one place into the next.
    assert (np.diff(places, axis=1) >= 0).all()
    starts = np.arange(taken) * tokens // taken
    assert ((places >= starts) & (places <= starts + -(-tokens // taken))).all()
    # Over the sequences, tenths of the tokens are met alike: a place lies off by at most one phase and one rounding.
    if tokens >= 25:
        tenths = np.histogram(places, 10, (0, tokens))[0] / places.size
        assert np.abs(tenths - 0.1).max() < 1 / 256 + 1 / tokens + 1e-9


def test_how_many() -> None:
    assert tokens_taken(25, 512, 25 * 64 * 6) == 2  # 1.33 of each sequence and layer
    assert tokens_taken(25, 512, 1_000_000) == 1
    assert tokens_taken(25, 512, 500) > 25  # all
