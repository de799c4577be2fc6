"""``isoscore-star measure`` of tables: which columns were taken, and outlier dimensions by their column."""

import json
import re

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.reference import isoscore_star

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star.cli import main

pd = pytest.importorskip("pandas")

# Dimension 2 has 400 of 407 parts of the variance, about 7.9 times the average.
X = np.random.default_rng(3).normal(size=(200, 8)) * np.array([1, 1, 20, 1, 1, 1, 1, 1])
NAMES = [f"emb_{i}" for i in range(8)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, and with lines long enough for a table of one row each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def table(**more):
    return pd.DataFrame(X, columns=NAMES).assign(**more)


def run(capsys, *arguments):
    code = main(["measure", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def found(capsys, *arguments):
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_json_names_the_columns_and_the_outliers_by_theirs(capsys, name):
    frame = table(id=range(200))
    frame.to_csv(name, index=False) if name == "x.csv" else frame.to_parquet(name)
    printed = found(capsys, name)
    assert printed["columns"] == NAMES
    assert printed["union"]["score"] == pytest.approx(isoscore_star(X), abs=1e-12)
    ((expected, share),) = iso.measure(X).outlier_dimensions
    (outlier,) = printed["union"]["outlier_dimensions"]
    assert outlier == {"dimension": expected, "variance_share": pytest.approx(share, abs=1e-12), "column": "emb_2"}


def test_the_table_names_the_columns_and_the_outliers_by_theirs(capsys):
    table(word="w").to_csv("x.csv", index=False)
    code, out, err = run(capsys, "x.csv")
    assert (code, err) == (0, "note: x.csv: ignored columns that hold no numbers: 'word'\n")
    assert re.search(r"columns +│ emb_0, emb_1, emb_2, emb_3, emb_4, emb_5, emb_6, emb_7 ", out)
    assert re.search(r"outlier dimensions +│ emb_2 \(9\d\.\d%\)", out)


def test_of_many_columns_the_first_and_the_last_are_shown(capsys):
    pd.DataFrame(np.hstack([X, X + 1])).add_prefix("d").to_csv("x.csv", index=False)
    assert re.search(r"columns +│ d0, d1, d2, \.\.\., d15 ", run(capsys, "x.csv")[1])


def test_columns_are_chosen(capsys):
    table(n=np.arange(200) % 7).to_csv("x.csv", index=False)
    wanted = ["emb_0", "emb_1", "n"]
    printed = found(capsys, "x.csv", "--columns", "emb_[01]", "--columns", "n")
    assert printed["columns"] == wanted
    expected = isoscore_star(table(n=np.arange(200) % 7)[wanted].to_numpy())
    assert printed["union"]["score"] == pytest.approx(expected, abs=1e-12)
    assert found(capsys, "x.csv", "--key", "emb_*")["columns"] == NAMES


def test_columns_that_are_not_there(capsys):
    table().to_csv("x.csv", index=False)
    code, out, err = run(capsys, "x.csv", "--columns", "dim_*")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: x.csv: has no column 'dim_\*'; its columns are 'emb_0', .*\n", err)


def test_a_column_of_lists_is_named_and_its_dimensions_are_not(capsys):
    pd.DataFrame({"id": range(200), "embedding": list(X)}).to_parquet("x.parquet")
    printed = found(capsys, "x.parquet")
    assert printed["columns"] == ["embedding"]
    assert [set(one) for one in printed["union"]["outlier_dimensions"]] == [{"dimension", "variance_share"}]
    _, out, _ = run(capsys, "x.parquet")
    assert re.search(r"columns +│ embedding ", out)
    assert re.search(r"outlier dimensions +│ 2 \(", out)


def test_arrays_have_no_columns(capsys):
    np.save("x.npy", X)
    assert "columns" not in found(capsys, "x.npy")
    assert "columns" not in run(capsys, "x.npy")[1]


def test_layers_of_tables(capsys):
    table().to_csv("a.csv", index=False)
    pd.DataFrame(2 * X, columns=NAMES).to_csv("b.csv", index=False)
    printed = found(capsys, "a.csv", "b.csv", "--by-layer")
    assert [layer["outlier_dimensions"][0]["column"] for layer in printed["layers"]] == ["emb_2", "emb_2"]
    assert printed["columns"] == NAMES
    _, out, _ = run(capsys, "a.csv", "b.csv", "--by-layer")
    assert len(re.findall(r"emb_2 \(", out)) == 3
    assert re.search("8 dimensions: emb_0, emb_1", out)


def test_names_of_columns_are_shown_and_not_obeyed(capsys):
    table().rename(columns={"emb_2": "\x1b[31mred"}).to_csv("x.csv", index=False)
    _, out, err = run(capsys, "x.csv", "--columns", "*")
    assert "\x1b" not in out + err
    assert out.count(r"\x1b[31mred") == 2


def test_a_matrix_says_which_of_its_columns_were_left_out(capsys):
    np.save("x.npy", X[:, :2])
    pd.DataFrame([[1, 0.5], [2, 1.5]], columns=["a", "b"]).to_csv("cov.csv", index=False)
    code, _, err = run(capsys, "x.npy", "--shrinkage-cov", "cov.csv", "--zeta", "0.5")
    assert code == 1
    assert re.search(r"error: --shrinkage-cov: cov.csv: .*got shape \(2, 1\); ignored integer columns .*: 'a'", err)


def test_explain_takes_columns(capsys):
    table(score=X[:, 0]).to_csv("x.csv", index=False)
    assert main(["explain", "x.csv", "--columns", "emb_*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dim"] == 8
