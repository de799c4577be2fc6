"""What tests of `isoscore-star finetune` have in common: a tiny model with data, and how a failure looks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_finetuning import make_home

from isoscore_star.cli import main


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_home(tmp_path_factory.mktemp("finetuning"))


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Any:
    def failure(*words: str) -> tuple[int, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert len(line) < 1500
        return code, line

    return failure
