"""What ``isoscore-star measure`` prints: tables, notes, warnings, help."""

import json
import re

import numpy as np
import pytest
from point_files import agrees, cloud, save

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star.cli import main

pd = pytest.importorskip("pandas")


def test_notes_go_to_stderr(folder, capsys):
    pd.DataFrame(cloud(), columns=list("abcde")).assign(word="x").to_csv("x.csv")
    assert main(["measure", "x.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    agrees(json.loads(out)["union"], iso.measure(cloud()), 1e-12)
    assert err.splitlines() == [
        "note: x.csv: ignored columns that hold no numbers: 'word'",
        "note: x.csv: ignored columns of an index: 'column 0'",
    ]


def shown(capsys, *arguments):
    assert main(["measure", *arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_the_table(folder, capsys):
    X, cov = cloud(300, 10), np.eye(10)
    save("x[red].npy", X)
    np.save("cov.npy", cov)
    expected = iso.measure(X, cov, 0.2)
    out, err = shown(capsys, "x[red].npy", "--zeta", "0.2", "--shrinkage-cov", "cov.npy")
    assert err == ""
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in out.splitlines() if "│" in line]
    ((index, share),) = expected.outlier_dimensions
    assert rows == [
        ["dimensions", "10"],
        ["groups", "independent points"],
        ["points", "300"],
        ["IsoScore* (zeta=0.2)", f"{expected.score:.4f}"],
        ["unbiased score", f"{expected.unbiased_score:.4f} ± {expected.standard_error:.4f}"],
        ["effective dimensions", f"{expected.effective_dimensions:.1f}"],
        ["outlier dimensions", f"{index} ({share:.1%})"],
    ]


def test_the_chosen_estimator_comes_first(folder, capsys):
    save("x.npy", cloud())
    assert re.search("IsoScore .*unbiased score", shown(capsys, "x.npy")[0], re.DOTALL)
    out, _ = shown(capsys, "x.npy", "--estimator", "unbiased")
    assert re.search("unbiased score.*IsoScore ", out, re.DOTALL)


def test_outlier_dimensions_beyond_five_are_counted(folder, capsys):
    # 7 of 100 dimensions with 100 times the variance of the others hold 100/(793/100) ≈ 12.6 times the average each.
    save("x.npy", np.random.default_rng(0).normal(size=(1000, 100)) * np.r_[np.full(7, 10.0), np.ones(93)])
    out, _ = shown(capsys, "x.npy")
    assert len(re.findall(r"\d+ \(1\d\.\d%\)", out)) == 5
    assert re.search(r"and\s+(│\s+│\s+)?2 more", out)


def test_fewer_points_than_dimensions_are_warned_of(folder, capsys):
    save("x.npy", cloud(4, 5))
    out, _ = shown(capsys, "x.npy")
    assert "warning: fewer points (4) than dimensions (5)" in out


def test_an_undefined_unbiased_score(folder, capsys, failure):
    save("x.npy", cloud(3, 5))
    assert re.search(r"unbiased score\s+│ not defined", shown(capsys, "x.npy")[0])
    code, line = failure("measure", "x.npy", "--estimator", "unbiased")
    assert (code, "needs at least 4 points; got 3" in line) == (1, True)


def test_zeta_without_its_matrix_is_not_used_by_the_unbiased_score(folder, capsys):
    save("x.npy", cloud())
    _, err = shown(capsys, "x.npy", "--estimator", "unbiased", "--zeta", "0.5")
    assert err == "note: the unbiased score needs no shrinkage, so zeta is not used\n"


def test_the_layer_table(folder, capsys):
    save("x.npy", cloud(60).reshape(2, 30, 5))
    out, _ = shown(capsys, "x.npy", "--by-layer")
    assert re.findall(r"│ (\S+)\s+│ (\d+)\s+│ 0\.\d{4}", out) == [("0", "30"), ("1", "30"), ("union", "60")]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"{iso.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["measure", "--help"]])
def test_help(capsys, arguments):
    assert main(arguments) == 0
    assert "Usage: isoscore-star" in capsys.readouterr().out
