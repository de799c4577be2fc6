"""Word vectors, and what stands between blanks."""

from pathlib import Path

import numpy as np
import pytest
from point_tables import DIM, NAMES, ROWS, WHOLE, X, holds, lines, text

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, open_array

WORDS = ["the", "of", "2019", "nan", ",", '"', "a b", "#x", "\u2028", "\xa0"] * 6


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


@pytest.mark.parametrize("header", ["20 5", "20 4"])
def test_a_first_line_with_too_few_dimensions_is_refused(tmp_path: Path, header: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 6))
    path = tmp_path / "words.vec"
    path.write_text(header + "\n" + "".join(f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows)))
    with pytest.raises(iso.IsoScoreError, match=f"promises {header[-1]} dimensions, but 6 numbers follow each word"):
        open_array(path)
