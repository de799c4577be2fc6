"""Tables: which columns are dimensions, what was left out and why, and where a value is that cannot be used."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, _memory, open_array, open_clouds
from isoscore_star.reference import isoscore_star

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS, DIM = 60, 8
X = np.random.default_rng(7).normal(size=(ROWS, DIM)) * np.linspace(0.3, 2, DIM)
WHOLE = np.rint(X * 50).astype(int)
NAMES = [f"emb_{i}" for i in range(DIM)]
LETTERS = list("abcdefgh")
WORDS = ["the", "of", "2019", "nan", ",", '"', "a b", "#x", "\u2028", "\xa0"] * 6


def frame(points=X, names=NAMES, **more):
    return pd.DataFrame(points, columns=names).assign(**more)


def save(path, table, index=True):
    """Write a frame in the format that the suffix names."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".arrow":
        data = pa.Table.from_pandas(table)
        with pa.ipc.new_file(str(path), data.schema) as writer:
            writer.write_table(data, max_chunksize=16)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=index)
    return path


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def lines(points, separator=",", before=()):
    cells = [list(map(repr, map(float, x))) for x in points]
    rows = [[word, *row] for word, row in zip(before, cells, strict=True)] if len(before) else cells
    return "".join(separator.join(row) + "\n" for row in rows)


def text_lists(points=X):
    return [str(list(map(float, x))) for x in points]


def holds(source, points, *notes):
    """Check the points, their score by Algorithm 1, and that there are these notes and no others."""
    found = source.whole()
    np.testing.assert_array_equal(found, points)
    # 1e-12 is what every backend is held to.
    assert iso.isoscore(found) == pytest.approx(isoscore_star(points), abs=1e-12)
    assert len(source.notes) == len(notes), source.notes
    for note, given in zip(notes, source.notes, strict=True):
        assert re.search(note, given)


TABLES = [".csv", ".tsv", ".parquet", ".arrow"]

# Columns beside the dimensions, and the note about them.
BESIDE = {
    "id": (frame(id=range(ROWS)), "beside 'emb_0' to 'emb_7': 'id'$"),
    "label and length": (frame(label=np.arange(ROWS) % 3, length=np.arange(ROWS) * 37), "'label', 'length'$"),
    "integers, names without numbers": (frame(names=LETTERS, n=np.arange(ROWS) % 3), "^ignored integer columns .*'n'$"),
    "fractions beside a numbered family": (frame(score=np.arange(ROWS) / 7), "beside 'emb_0' to 'emb_7': 'score'$"),
    "an index read back": (frame().reset_index(names="Unnamed: 0"), "of an index: 'Unnamed: 0'$"),
    "words": (frame(word=["the", "of", "12"] * 20), "hold no numbers: 'word'$"),
    "booleans": (frame(seen=np.arange(ROWS) % 2 == 0), "hold no numbers: 'seen'$"),
    "dates": (frame(day=pd.date_range("2024-01-01", periods=ROWS)), "hold no numbers: 'day'$"),
    "nothing": (frame(comment=[None] * ROWS), "empty columns: 'comment'$"),
    "integers as text": (frame(zip=[f"0{i}234" for i in range(ROWS)]), "beside 'emb_0' to 'emb_7': 'zip'$"),
    "counting integers beside integers": (frame(WHOLE, LETTERS, id=range(1, ROWS + 1)), "count the rows: 'id'$"),
    "numbered integers": (frame(WHOLE, label=np.arange(ROWS) % 3), "beside 'emb_0' to 'emb_7': 'label'$"),
}


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("case", BESIDE)
def test_columns_that_are_no_dimensions_are_left_out_with_a_note(tmp_path, case, suffix):
    table, note = BESIDE[case]
    names = LETTERS if "a" in table.columns else NAMES
    source = open_array(save(tmp_path / f"x{suffix}", table, index=False))
    holds(source, table[names].to_numpy(), note)
    assert source.columns == tuple(names)


@pytest.mark.parametrize("suffix", TABLES)
def test_quantised_embeddings_are_all_dimensions(tmp_path, suffix):
    holds(open_array(save(tmp_path / f"x{suffix}", frame(WHOLE, LETTERS), index=False)), WHOLE)


@pytest.mark.parametrize("suffix", TABLES)
def test_a_dead_dimension_among_numbered_ones_is_no_label(tmp_path, suffix):
    table = frame().assign(emb_3=0)
    holds(open_array(save(tmp_path / f"x{suffix}", table, index=False)), table.to_numpy())


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_an_index_with_a_name_is_no_dimension(tmp_path, suffix):
    table = frame(names=LETTERS, time=np.arange(ROWS) / 3).set_index("time")
    holds(open_array(save(tmp_path / f"x{suffix}", table)), X, "of an index: 'time'$")


@pytest.mark.parametrize("suffix", TABLES)
def test_columns_are_taken_by_name_and_pattern(tmp_path, suffix):
    table = frame(id=np.arange(ROWS), seen=np.arange(ROWS) % 2 == 0, word="x")
    path = save(tmp_path / f"x{suffix}", table, index=False)
    for wanted, expected in [
        (["id", "emb_0"], ["id", "emb_0"]),
        (["emb_3", "emb_1"], ["emb_3", "emb_1"]),
        (["emb_[0-2]", "emb_0"], NAMES[:3]),
        (["*"], [*NAMES, "id"]),
        (["seen", "emb_0"], ["seen", "emb_0"]),
    ]:
        source = open_array(path, columns=wanted)
        assert source.columns == tuple(expected)
        np.testing.assert_array_equal(source.whole(), table[expected].to_numpy(float))
        assert source.notes == ()
    np.testing.assert_array_equal(open_array(path, "emb_*").whole(), X)


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"columns": ["word"]}, "column 'word' holds no numbers"),
        ({"columns": ["x*"]}, r"no column 'x\*'; its columns are 'emb_0', .*'emb_7', 'w0', 'w1' and 21 more$"),
        ({"key": "embedding"}, "no column 'embedding'; its columns are 'emb_0'"),
        ({"key": "emb_1"}, "'emb_1' .floating-point numbers. holds no lists of numbers.*--columns"),
        ({"key": "emb_1", "columns": ["emb_2"]}, "give one of them"),
    ],
)
def test_columns_that_are_not_there(tmp_path, suffix, selection, message):
    path = save(tmp_path / f"x{suffix}", frame(**{f"w{i}": "x" for i in range(22)}, word="x"), index=False)
    with pytest.raises(SelectionError, match=message):
        open_array(path, **selection)


def test_columns_of_what_is_no_table(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(SelectionError, match="is no table"):
        open_array(tmp_path / "x.npy", columns=["a"])


BAD_CELLS = ["5..1", "-", "None", "NaN", "", "1,234", "0,5", "abc", "[1]", "--1"]


@pytest.mark.parametrize("cell", BAD_CELLS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("row", [5, 1500])
def test_a_column_is_not_lost_to_one_cell(tmp_path, cell, suffix, row):
    # Row 1500 lies behind the rows from which columns are understood.
    points = np.resize(X, (2000, DIM))
    table = frame(points).astype({"emb_2": object})
    table.loc[row, "emb_2"] = cell
    if suffix == ".parquet":
        table["emb_2"] = table["emb_2"].astype(str)
    path = save(tmp_path / f"x{suffix}", table, index=False)
    line = "" if suffix == ".parquet" else f", line {row + 2}"
    with pytest.raises(FileContentError, match=rf"row {row} \(counted from 0{line}\), column 'emb_2': .* is (no|miss)"):
        open_array(path).whole()
    others = [name for name in NAMES if name != "emb_2"]
    np.testing.assert_array_equal(open_array(path, columns=others).whole(), np.delete(points, 2, 1))


@pytest.mark.parametrize(("words", "is_text"), [(31, True), (30, False)])
def test_a_column_of_words_for_the_most_part_is_one_of_words(tmp_path, words, is_text):
    table = frame(names=LETTERS, mixed=["word"] * words + [0.5] * (ROWS - words))
    source = open_array(save(tmp_path / "x.csv", table, index=False))
    if is_text:
        holds(source, X, "hold no numbers: 'mixed'")
    else:
        with pytest.raises(FileContentError, match=r"row 0 .*'mixed': 'word' is no number"):
            source.whole()


@pytest.mark.parametrize(("late", "message"), [("0.5", "integers"), ("1e-3", "integers")])
def test_integers_that_go_on_as_fractions_are_not_left_out_in_silence(tmp_path, late, message):
    rows = [f"{x!r},{y!r},3" for x, y in np.resize(X, (2000, 2)).tolist()]
    path = text(tmp_path / "x.csv", "\n".join(["a,b,n", *rows, f"0.25,0.5,{late}"]) + "\n")
    with pytest.raises(FileContentError, match=f"row 2000 .*'n': '{late}', but the column held {message} before"):
        open_array(path).whole()


def test_a_column_that_is_empty_at_first(tmp_path):
    path = text(tmp_path / "x.csv", "a,b,c\n" + "0.5,1.5,\n" * 2000 + "0.25,0.5,0.5\n")
    with pytest.raises(FileContentError, match=r"row 2000 .*'c': '0.5', but the column held no values before"):
        open_array(path).whole()


# First rows, and whether they are names; below stand the points.
HEADERS = {
    "names": ("a,b,c,d,e,f,g,h", ()),
    "positions": ("0,1,2,3,4,5,6,7", ("took the first row, '0' to '7', as names",)),
    "positions from 1": ("1,2,3,4,5,6,7,8", ("took the first row, '1' to '8', as names",)),
    "years": ("2011,2012,2013,2014,2015,2016,2017,2018", ("took the first row, '2011' to '2018'",)),
    "a name and positions": ("x,0,1,2,3,4,5,6", ("took the first row, '0' to '6', as names", "beside '0' to '6': 'x'")),
    "some names missing": ("a,b,,d,e,f,,h", ()),
    "quoted": ('"a, b","b","c","d","e","f","g","h"', ()),
    "comment": ("# a,b,c,d,e,f,g,h", ()),
    "comments of other lengths": ("# saved by a program\n# on a day, late\na,b,c,d,e,f,g,h", ()),
    "byte order mark": ("\ufeffa,b,c,d,e,f,g,h", ()),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tmp_path, case):
    header, notes = HEADERS[case]
    if case == "some names missing":  # which pandas takes for an index
        expected, notes = np.delete(X, [2, 6], 1), ("of an index: 'column 2', 'column 6'",)
    else:
        expected = X[:, 1:] if case == "a name and positions" else X
    source = open_array(text(tmp_path / "x.csv", header + "\n" + lines(X)))
    np.testing.assert_array_equal(source.whole(), expected)
    assert [bool(re.search(n, g)) for n, g in zip(notes, source.notes, strict=True)] == [True] * len(notes)


@pytest.mark.parametrize("points", [X[:, :2], WHOLE[:, :2]])
def test_what_pandas_writes_without_names_is_read(tmp_path, points):
    pd.DataFrame(points).to_csv(tmp_path / "x.csv", index=False)
    holds(open_array(tmp_path / "x.csv"), points, "took the first row, '0' to '1', as names of the columns")


@pytest.mark.parametrize("first", ["0,0,0", "1,0,0", "3,5,7", "0.0,1.0,2.0"])
def test_numbers_that_are_no_positions_are_a_point(tmp_path, first):
    source = open_array(text(tmp_path / "x.csv", f"{first}\n4,5.5,6.5\n7.5,1.5,0.5\n-1.5,2.5,0.25\n"))
    assert source.whole().tolist()[0] == list(map(float, first.split(",")))
    assert len(source.whole()) == 4


def test_numbers_behind_a_word_are_a_point(tmp_path):
    words = [f"w{i}" for i in range(ROWS)]
    for name, separator in (("x.tsv", "\t"), ("x.csv", ",")):
        holds(open_array(text(tmp_path / name, lines(X, separator, words))), X, "hold no numbers: '0'")


def test_words_may_be_quotes_in_tab_separated_text(tmp_path):
    words = ['"', "a", '"b', '"', "c", 'd"'] * 10
    holds(open_array(text(tmp_path / "x.tsv", lines(X, "\t", words))), X, "hold no numbers: '0'")


def test_most_columns_are_not_left_out_for_a_few(tmp_path):
    path = save(tmp_path / "x.csv", frame(WHOLE, LETTERS, score=X[:, 0], loss=X[:, 1]), index=False)
    with pytest.raises(SelectionError, match=r"integers, 'a', .*'h', and fewer of fractions, 'score', 'loss'; choose"):
        open_array(path)


def test_integers_among_fractions_without_names(tmp_path):
    rows = [f"{i},{x!r},{y!r},{i % 3}" for i, (x, y) in enumerate(X[:, :2].tolist())]
    source = open_array(text(tmp_path / "x.csv", "\n".join(rows)))
    holds(source, X[:, :2], "^ignored integer columns .*'0', '3'$")


def test_names_of_rows_as_r_writes_them(tmp_path):
    header = "\t".join(f'"{name}"' for name in NAMES)
    body = lines(X, "\t", [f'"{i}"' for i in range(1, ROWS + 1)])
    source = open_array(text(tmp_path / "x.tsv", f"{header}\n{body}"))
    np.testing.assert_array_equal(source.whole(), X)
    assert source.columns == tuple(NAMES)


def test_semicolons_and_decimal_commas(tmp_path):
    frame(word="a, b").to_csv(tmp_path / "x.csv", sep=";", decimal=",", index=False)
    holds(open_array(tmp_path / "x.csv"), X, "separated by ';', and decimals by a comma", "hold no numbers: 'word'")
    frame().to_csv(tmp_path / "dots.csv", sep=";", index=False)
    holds(open_array(tmp_path / "dots.csv"), X, "columns are separated by ';'$")


def test_a_comma_at_the_end_of_each_line_makes_no_column(tmp_path):
    holds(open_array(text(tmp_path / "x.csv", lines(X).replace("\n", ",\n"))), X, "empty columns: '8'")


def test_a_row_of_another_length_is_named(tmp_path):
    with pytest.raises(
        FileContentError, match=r"row 1700 \(counted from 0, line 1702\) has 3 columns, the first line 2"
    ):
        open_array(text(tmp_path / "x.csv", "a,b\n" + "0.5,1\n" * 1700 + "0.5,1,2\n" + "0.5,1\n" * 9)).whole()


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
    path = save(tmp_path / "x.parquet", pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "e": [[[0.5, 1.0]]] * ROWS}))
    with pytest.raises(FileContentError, match="column 'e' holds lists of lists"):
        open_array(path)


def test_tensors_of_arrow_are_lists(tmp_path):
    storage = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), DIM)
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), [DIM]), storage)
    parquet.write_table(pa.table({"e": column}), tmp_path / "x.parquet")
    holds(open_array(tmp_path / "x.parquet"), X)


def test_decimals_and_columns_of_one_name(tmp_path):
    decimals = pa.array(np.rint(X[:, 0] * 100).astype(int) / 100).cast(pa.decimal128(9, 2))
    table = pa.Table.from_arrays([decimals, pa.array(X[:, 1]), pa.array(X[:, 2])], ["a", "b", "b"])
    parquet.write_table(table, tmp_path / "x.parquet")
    expected = np.column_stack([np.rint(X[:, 0] * 100) / 100, X[:, 1], X[:, 2]])
    np.testing.assert_allclose(open_array(tmp_path / "x.parquet").whole(), expected, rtol=1e-15)


# Word vectors: what stands in the file, and notes.
PROMISE = "took the first line as the number of points and of dimensions"
VECTORS = {
    "word2vec.vec": (f"{ROWS} {DIM}\n" + lines(X, " ", WORDS), (PROMISE,)),
    "blank_at_the_end.txt": (f"{ROWS} {DIM}\n" + lines(X, " ", WORDS).replace("\n", " \n"), (PROMISE,)),
    "without_words.vec": (f"{ROWS} {DIM}\n" + lines(X, " "), (PROMISE,)),
    "glove.txt": (lines(X, " ", WORDS), ()),
    "tabs.txt": (lines(X, "\t", WORDS), ()),
    "matrix.txt": (lines(X, " "), ()),
    "padded.txt": (lines(X, "   ").replace("\n", "\n  "), ()),
    "commas.txt": (lines(X), ("separated by ','",)),
    "table.txt": ("\t".join(NAMES) + "\n" + lines(X, "\t"), (r"separated by '\\t'",)),
    "named.txt": (" ".join(NAMES) + "\n" + lines(X, " "), ()),
}


@pytest.mark.parametrize("name", VECTORS)
def test_word_vectors_and_tables_between_blanks(tmp_path, name):
    content, notes = VECTORS[name]
    (tmp_path / name).write_bytes(content.encode())
    holds(open_array(tmp_path / name), X, *notes)


def test_two_integers_at_the_start_of_a_matrix_are_a_point(tmp_path):
    np.savetxt(tmp_path / "x.txt", WHOLE[:, :2], fmt="%d")
    holds(open_array(tmp_path / "x.txt"), WHOLE[:, :2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.rsplit("\n", 3)[0] + "\n", r"promises 60 points, but 58 follow"),
        (lambda text: text[:-30], r"line 61: expected a word and 8 numbers; got"),
        (lambda text: text.replace(repr(X[30, 4].item()), "0..5"), "line 32: expected a word and 8 numbers; got"),
        (lambda text: text.replace(repr(X[30, 4].item()), "nan"), "line 32: expected a word and 8 numbers; got"),
    ],
)
def test_damaged_word_vectors(tmp_path, change, message):
    words = [f"w{i}" for i in range(ROWS)]
    path = text(tmp_path / "x.vec", change(f"{ROWS} {DIM}\n" + lines(X, " ", words)))
    with pytest.raises(FileContentError, match=message):
        open_array(path).whole()


def test_word_vectors_have_no_columns_to_choose(tmp_path):
    path = text(tmp_path / "x.txt", lines(X, " ", ["w"] * ROWS))
    with pytest.raises(SelectionError, match="no names"):
        open_array(path, columns=["a"])


def test_a_pattern_stands_for_all_keys_that_it_matches(tmp_path):
    np.savez(tmp_path / "x.npz", layer_0=X, layer_1=2 * X, ids=np.arange(ROWS))
    clouds = open_clouds([tmp_path / "x.npz"], ["layer_*"])
    assert [cloud.label for cloud in clouds] == ["layer_0", "layer_1"]
    np.testing.assert_array_equal(clouds[1].source.whole(), 2 * X)
    pd.DataFrame({"e_a": list(X), "e_b": list(2 * X), "n": range(ROWS)}).to_parquet(tmp_path / "x.parquet")
    assert [cloud.label for cloud in open_clouds([tmp_path / "x.parquet"], ["e_*"])] == ["e_a", "e_b"]
    with pytest.raises(SelectionError, match=r"'layer_\*' matches several arrays"):
        open_array(tmp_path / "x.npz", "layer_*")


def test_columns_in_another_order_are_no_union(tmp_path):
    one = save(tmp_path / "one.csv", frame(), index=False)
    other = save(tmp_path / "other.csv", frame()[NAMES[::-1]], index=False)
    with pytest.raises(iso.InvalidValueError, match=r"other.csv: has the columns of .*one.csv in another order"):
        open_clouds([one, other])
    clouds = open_clouds([one, other], columns=NAMES)
    np.testing.assert_array_equal(clouds[1].source.whole(), X)


@pytest.mark.parametrize("suffix", TABLES)
def test_a_mask_is_a_column_of_the_table(tmp_path, suffix):
    keep = np.arange(ROWS) % 3 > 0
    for values in (keep, keep.astype(int)):
        path = save(tmp_path / f"x{suffix}", frame(keep=values), index=False)
        (cloud,) = open_clouds([path], mask="keep")
        np.testing.assert_array_equal(cloud.mask, keep)
        assert cloud.source.columns == tuple(NAMES)
    path = save(tmp_path / f"x{suffix}", frame(WHOLE, LETTERS, keep=keep.astype(int)), index=False)
    with pytest.raises(SelectionError, match="the mask 'keep' counts as a dimension"):
        open_clouds([path], mask="keep")


def damaged_offsets(path, value):
    """Write lists to an .arrow file, and overwrite an offset."""
    offsets = np.arange(0, (ROWS + 1) * DIM, DIM, dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(X.reshape(-1)))
    with pa.ipc.new_file(str(path), pa.schema({"e": lists.type})) as writer:
        writer.write_batch(pa.record_batch([lists], ["e"]))
    content = bytearray(path.read_bytes())
    at = content.index(offsets.tobytes()) + 4 * 30
    content[at : at + 4] = np.int32(value).tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize("value", [2**24, -8, 29 * DIM, 31 * DIM + 1, ROWS * DIM + 8])
def test_offsets_that_point_beyond_their_values_are_refused(tmp_path, value):
    damaged_offsets(tmp_path / "x.arrow", value)
    with pytest.raises(FileContentError, match=r"x.arrow: "):
        open_array(tmp_path / "x.arrow").whole()


def test_empty_lists(tmp_path):
    pd.DataFrame({"e": [np.empty(0)] * 9}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(FileContentError, match=r"row 0 .*'e': an empty list"):
        open_array(tmp_path / "x.parquet").whole()


def test_a_table_too_wide_for_memory_is_refused_with_the_figure(tmp_path, monkeypatch):
    path = save(tmp_path / "x.csv", frame(), index=False)
    monkeypatch.setattr(_memory, "free_memory", lambda: 1000)
    with pytest.raises(iso.InvalidValueError, match=r"x.csv: a block of 6\d points of 8 dimensions takes .* of memory"):
        open_array(path)


def test_more_columns_than_a_block_of_text_held(tmp_path):
    wide = np.random.default_rng(0).normal(size=(3, 30_000)).round(3)
    np.savetxt(tmp_path / "x.csv", wide, delimiter=",", fmt="%.3f")
    np.testing.assert_array_equal(open_array(tmp_path / "x.csv").whole(), wide)


def test_parquet_is_not_read_ahead(tmp_path, monkeypatch):
    asked = {}
    opened = parquet.ParquetFile
    monkeypatch.setattr(
        parquet, "ParquetFile", lambda path, **options: asked.update(options) or opened(path, **options)
    )
    open_array(save(tmp_path / "x.parquet", frame())).whole()
    assert asked["pre_buffer"] is False


def arrow_stream(path):
    with pa.ipc.new_stream(str(path), (data := pa.table({"a": X[:, 0], "b": X[:, 1]})).schema) as writer:
        writer.write_table(data, max_chunksize=20)
    return path.read_bytes()


def test_a_stream_with_bytes_behind_its_end_is_refused(tmp_path):
    content = arrow_stream(path := tmp_path / "x.arrow")
    path.write_bytes(content + content[-200:])
    with pytest.raises(FileContentError, match=r"x\.arrow: is damaged: 200 bytes follow its end"):
        open_array(path).whole()


def test_a_stream_without_an_end_may_have_been_cut(tmp_path):
    content = arrow_stream(path := tmp_path / "x.arrow")
    holds(open_array(path), X[:, :2])
    path.write_bytes(content[:-8])
    holds(open_array(path), X[:, :2], "may have been cut")


def test_a_file_that_lists_fewer_batches_than_it_holds_is_refused(tmp_path):
    path = save(tmp_path / "x.arrow", frame())  # four batches
    content = path.read_bytes()
    # A list of four blocks, the first of which starts where a message does.
    number, message = (4).to_bytes(4, "little"), b"\xff\xff\xff\xff"
    for match in re.finditer(re.escape(number), content):
        start = int.from_bytes(content[match.end() : match.end() + 8], "little")
        if content[start : start + 4] == message:
            path.write_bytes(content[: match.start()] + (2).to_bytes(4, "little") + content[match.end() :])
    with pytest.raises(FileContentError, match="holds 4 batches of rows, but lists 2"):
        open_array(path)


def test_parquet_whose_parts_differ_on_its_rows_is_refused(tmp_path):
    path = save(tmp_path / "x.parquet", frame(), index=False)
    # The last number of 60 rows is that of the group of rows: field and value of Thrift's compact protocol.
    start, _, end = path.read_bytes().rpartition(b"\x16\x78")
    path.write_bytes(start + b"\x16\x70" + end)
    with pytest.raises(FileContentError, match="tells of 60 rows, its parts of 56"):
        open_array(path)


@pytest.mark.parametrize("header", ["20 5", "20 4"])
def test_a_first_line_with_too_few_dimensions_is_refused(tmp_path: Path, header: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 6))
    path = tmp_path / "words.vec"
    path.write_text(header + "\n" + "".join(f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows)))
    with pytest.raises(iso.IsoScoreError, match=f"promises {header[-1]} dimensions, but 6 numbers follow each word"):
        open_array(path)


def test_a_short_row_is_found_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("".join("0.5,1.5,2.5\n" if i != 20 else "0.5,1.5\n" for i in range(30)))
    with pytest.raises(iso.IsoScoreError, match="row 21 of the file"):
        open_array(path)


@pytest.mark.parametrize("sign", ["{:,.3f}", "${:.2f}", "({:.1f})", "{:.2f}%"])
def test_numbers_with_signs_are_no_text(tmp_path: Path, sign: str) -> None:
    table = frame(X[:, :3] * 1e6, LETTERS[:3]).assign(d=[sign.format(abs(x) * 1e6 + 1000) for x in X[:, 3]])
    save(tmp_path / "a.csv", table, index=False)
    with pytest.raises(FileContentError, match="column 'd' holds numbers with signs"):
        open_array(tmp_path / "a.csv")
    assert open_array(tmp_path / "a.csv", columns=["a", "b"]).columns == ("a", "b")


def test_ids_that_became_fractions_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.csv", frame(X[:, :3], LETTERS[:3]).assign(id=np.arange(ROWS) * 1.0), index=False)
    source = open_array(tmp_path / "a.csv")
    assert source.columns == ("a", "b", "c")
    assert "ignored columns that count the rows: 'id'" in source.notes


def test_a_separator_behind_each_row_shifts_no_names(tmp_path: Path) -> None:
    rows = "".join(",".join(map(str, row)) + ",\n" for row in X[:, :4])
    (tmp_path / "a.csv").write_text("a,b,c,d\n" + rows)
    source = open_array(tmp_path / "a.csv")
    assert source.columns == ("a", "b", "c", "d")
    assert np.array_equal(source.whole(), X[:, :4])


def test_a_nameless_column_of_fractions_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",b,c\n" + "".join(",".join(map(str, row)) + "\n" for row in X[:, :3]))
    with pytest.raises(SelectionError, match="'column 0' holds fractions and has no name"):
        open_array(tmp_path / "a.csv")
    assert open_array(tmp_path / "a.csv", columns=["column 0", "b", "c"]).shape[1] == 3


@pytest.mark.parametrize("word", ["missing", "n.a."])
def test_numbers_that_begin_late_are_not_lost(tmp_path: Path, word: str) -> None:
    late = [word] * 1500 + list(map(str, range(1500)))
    points = np.random.default_rng(0).normal(size=(3000, 3))
    save(tmp_path / "a.csv", frame(points, LETTERS[:3]).assign(d=late), index=False)
    with pytest.raises(FileContentError, match="column 'd'"):
        open_array(tmp_path / "a.csv").whole()
