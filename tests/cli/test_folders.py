"""Folders and patterns as arguments of every command."""

import json
import re

import numpy as np
import pytest
from point_files import TOLERANCE, agrees, cloud

import isoscore_star as iso
from isoscore_star.cli import main


@pytest.fixture
def shards(folder):
    X = np.random.default_rng(0).normal(size=(60, 4, 6))
    (folder / "shards").mkdir()
    for i, part in enumerate(np.split(X, 12)):
        np.save(f"shards/img_emb_{i}.npy", part)
    return X


@pytest.mark.parametrize("place", ["shards", "shards/", "shards/img_emb_*.npy", "**/*.npy"])
def test_shards_are_one_cloud(shards, capsys, place):
    assert main(["measure", place, "--json"]) == 0
    out, err = capsys.readouterr()
    agrees(json.loads(out)["union"], iso.measure(shards), TOLERANCE[np.float64])
    assert re.search(r"took 12 files, '.*img_emb_0\.npy' to '.*img_emb_11\.npy', as one array", err.replace("\n", " "))


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "shards", "--json"],
        ["compare", "shards", "shards/*.npy", "--json"],
        ["transform", "shards", "-o", "new.npy", "--json"],
        ["report", "shards", "-o", "page.html"],
    ],
)
def test_every_command_takes_a_folder(shards, folder, capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out
    if words[0] == "transform":
        assert np.load("new.npy").shape == shards.shape


def test_an_error_names_the_shard_and_its_row(shards, failure, capsys):
    part = np.load("shards/img_emb_10.npy")
    part[2, 3, 1] = np.nan
    np.save("shards/img_emb_10.npy", part)
    for command in (["measure", "shards"], ["transform", "shards", "-o", "x.npy", "--remove", "1"]):
        assert main(command) == 1
        assert re.search(r"error: .*img_emb_10\.npy: .*first in row 11 \(counted from 0\)", capsys.readouterr().err)
    np.save("shards/img_emb_10.npy", cloud(9, 7))
    code, line = failure("measure", "shards")
    assert (code, bool(re.search(r"img_emb_10\.npy: has shape \(9, 7\), .* shards of one array", line))) == (1, True)
