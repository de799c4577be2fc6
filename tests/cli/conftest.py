"""Runs of the command: in an empty folder, with its JSON, or with the one line that says why it failed."""

import json
import re

import pytest

from isoscore_star.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, so that files have short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def measured(folder, capsys):
    """Give the JSON of a command that succeeds."""

    def run(*arguments):
        code = main(["measure", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def failure(folder, capsys):
    """Give the exit code and the message of a command that fails, which is one line on stderr."""

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"error: [^\n]+\n", err)
        return code, err

    return run
