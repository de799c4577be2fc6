"""Fixtures, where all is installed that they need."""

import contextlib

import pytest

with contextlib.suppress(pytest.skip.Exception):
    from support_sentence_transformers import folder, model, trained, trainer_of

    __all__ = ["folder", "model", "trained", "trainer_of"]
