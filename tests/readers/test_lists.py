"""Columns of lists, as such and kept as text."""

import csv
import re

import numpy as np
import pytest
from point_tables import DIM, ROWS, TABLES, X, frame, holds, save, text, text_lists

from isoscore_star.readers import FileContentError, SelectionError, open_array

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")


LISTS = {
    "str(list)": text_lists(),
    "tuples": [str(tuple(map(float, x))) for x in X],
    "NumPy 2 in lists": [str([f"np.float64({float(v)!r})" for v in x]).replace("'", "") for x in X],
    "numpy": [np.array2string(x, precision=17, floatmode="unique") for x in X],
    "repr of arrays": [f"array({list(map(float, x))}, dtype=float64)" for x in X],
    "tensors": [f"tensor({list(map(float, x))}, device='cuda:0')" for x in X],
    "braces": ["{" + ",".join(map(repr, map(float, x))) + "}" for x in X],
    "blanks": [" ".join(map(repr, map(float, x))) for x in X],
}


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("case", LISTS)
def test_lists_kept_as_text_are_the_points(tmp_path, case, suffix):
    table = pd.DataFrame({"Score": np.arange(ROWS) / 3, "n_tokens": range(ROWS), "embedding": LISTS[case], "t": "x"})
    source = open_array(save(tmp_path / f"x{suffix}", table, index=False))
    notes = ("read column 'embedding' as lists of 8 numbers", "beside a column of lists: 'Score', 'n_tokens'")
    holds(source, X, *notes)
    assert (source.columns, source.shape[1]) == (("embedding",), DIM)
    np.testing.assert_array_equal(open_array(tmp_path / f"x{suffix}", "embedding").whole(), X)
    np.testing.assert_array_equal(open_array(tmp_path / f"x{suffix}", columns=["emb*"]).whole(), X)


BAD_LISTS = {
    "[0.5 0.25 ... 0.125 1.5]": "was cut by '...'",
    "[0.5, 0.25]": "a list of 2 numbers, but the first has 8",
    "": "'' is missing",
    "word": "'word' is no list of numbers",
    "[0.5, x, 1, 2, 3, 4, 5, 6]": "is no list of numbers",
    "[0.5, nan, 1, 2, 3, 4, 5, 6]": "missing numbers",
    "[[0.5], [1]]": "is a list of lists",
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("cell", BAD_LISTS)
def test_a_list_that_cannot_be_read(tmp_path, cell, suffix):
    table = pd.DataFrame({"n": range(ROWS), "e": [*text_lists()[:40], cell, *text_lists()[41:]]})
    path = save(tmp_path / f"x{suffix}", table, index=False)
    with pytest.raises(FileContentError, match=f"row 40 .*, column 'e': .*{re.escape(BAD_LISTS[cell])}"):
        open_array(path).whole()


def test_lists_that_numpy_cut_are_refused(tmp_path):
    cut = [np.array2string(np.arange(2000) / 7) for _ in range(ROWS)]
    path = save(tmp_path / "x.csv", pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "e": cut}))
    with pytest.raises(FileContentError, match=r"row 0 .*, column 'e': .* was cut by '\.\.\.' .*save the whole list"):
        open_array(path).whole()


def test_a_long_list_is_read_and_the_csv_module_left_as_it_was(tmp_path):
    before, wide = csv.field_size_limit(), np.random.default_rng(0).normal(size=(3, 10_000))
    path = save(tmp_path / "x.csv", pd.DataFrame({"e": text_lists(wide)}))
    np.testing.assert_array_equal(open_array(path).whole(), wide)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_lists_of_tokens_are_not_taken_for_embeddings(tmp_path, suffix):
    tokens = [[101, i, 102] for i in range(ROWS)]
    if suffix == ".csv":
        tokens = list(map(str, tokens))
    path = save(tmp_path / f"x{suffix}", frame(tokens=tokens), index=False)
    with pytest.raises(SelectionError, match=r"'emb_0', .*columns of lists of integers, 'tokens'; choose by"):
        open_array(path)
    np.testing.assert_array_equal(open_array(path, columns=["emb_*"]).whole(), X)
    np.testing.assert_array_equal(open_array(path, "tokens").whole()[:2], [[101, 0, 102], [101, 1, 102]])
    both = pd.DataFrame({"tokens": tokens, "e": list(X) if suffix == ".parquet" else text_lists()})
    np.testing.assert_array_equal(open_array(save(path, both, index=False)).whole(), X)


def test_lists_of_lists_are_not_passed_over(tmp_path):
    path = save(tmp_path / "x.parquet", pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "e": [[[[0.5, 1.0]]]] * ROWS}))
    with pytest.raises(FileContentError, match="column 'e' holds lists of lists of lists"):
        open_array(path)
    path = text(tmp_path / "x.csv", "e\n" + '"[[0.5, 1.0], [0.1, 0.2]]"\n' * ROWS)
    with pytest.raises(FileContentError, match="column 'e' holds lists of lists of lists, or as text"):
        open_array(path)


def test_tensors_of_arrow_are_lists(tmp_path):
    storage = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), DIM)
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), [DIM]), storage)
    parquet.write_table(pa.table({"e": column}), tmp_path / "x.parquet")
    holds(open_array(tmp_path / "x.parquet"), X)


def test_empty_lists(tmp_path):
    pd.DataFrame({"e": [np.empty(0)] * 9}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(FileContentError, match=r"row 0 .*'e': an empty list"):
        open_array(tmp_path / "x.parquet").whole()
