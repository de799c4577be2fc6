"""Text tables: headers, separators, decimal signs, rows of another length."""

import re
from pathlib import Path

import numpy as np
import pytest
from point_tables import NAMES, ROWS, WHOLE, X, frame, holds, lines, text

import isoscore_star as iso
from isoscore_star.readers import FileContentError, open_array

pd = pytest.importorskip("pandas")


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


def test_a_separator_behind_each_row_shifts_no_names(tmp_path: Path) -> None:
    rows = "".join(",".join(map(str, row)) + ",\n" for row in X[:, :4])
    (tmp_path / "a.csv").write_text("a,b,c,d\n" + rows)
    source = open_array(tmp_path / "a.csv")
    assert source.columns == ("a", "b", "c", "d")
    assert np.array_equal(source.whole(), X[:, :4])


def test_a_row_of_another_length_is_named(tmp_path):
    with pytest.raises(
        FileContentError, match=r"row 1700 \(counted from 0, line 1702\) has 3 columns, the first line 2"
    ):
        open_array(text(tmp_path / "x.csv", "a,b\n" + "0.5,1\n" * 1700 + "0.5,1,2\n" + "0.5,1\n" * 9)).whole()


def test_a_short_row_is_found_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("".join("0.5,1.5,2.5\n" if i != 20 else "0.5,1.5\n" for i in range(30)))
    with pytest.raises(iso.IsoScoreError, match="row 21 of the file"):
        open_array(path)
