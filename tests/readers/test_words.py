"""Word vectors, and what stands between blanks."""

import gzip
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


def saved_by_gensim(path: Path, points: np.ndarray, *, binary: bool) -> None:
    vectors = pytest.importorskip("gensim.models.keyedvectors").KeyedVectors(points.shape[1])
    vectors.add_vectors([f"wörd_{i}" for i in range(len(points))], points.astype(np.float32))
    vectors.save_word2vec_format(str(path), binary=binary)


@pytest.mark.parametrize("name", ["x.bin", "x.vec", "x.emb", "x.txt", "x.vec.gz"])
def test_what_gensim_writes_is_read_as_gensim_reads_it(tmp_path, name):
    saved_by_gensim(tmp_path / name, X, binary=name == "x.bin")
    loaded = pytest.importorskip("gensim.models.keyedvectors").KeyedVectors.load_word2vec_format(
        str(tmp_path / name), binary=name == "x.bin"
    )
    found = np.concatenate(list(open_array(tmp_path / name).blocks()))
    np.testing.assert_array_equal(found.astype(np.float32), loaded.vectors)


def binary_words(end: bytes = b"\n") -> bytes:
    """Write as word2vec's own program does, which ends each vector by a line's end."""
    body = b"".join(f"w{i}".encode() + b" " + x.astype("<f4").tobytes() + end for i, x in enumerate(X))
    return f"{ROWS} {DIM}\n".encode() + body


@pytest.mark.parametrize("end", [b"\n", b""])
def test_vectors_in_binary_form(tmp_path, end):
    (tmp_path / "x.bin").write_bytes(binary_words(end))
    holds(open_array(tmp_path / "x.bin"), X.astype(np.float32), "word2vec's binary format")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-40], r"is damaged: vector 5\d .counted from 0. does not begin with its word"),
        (lambda b: b[:900], "promises 60 vectors of 8 numbers, which take at least 2,045 bytes, but it has 900"),
        (lambda b: b + b"more", "bytes follow the last of its vectors"),
        (lambda b: b.replace(b"60 8", b"59 8"), "bytes follow the last of its vectors"),
        (lambda b: b.replace(b"60 8", b"60 7"), r"is damaged: vector \d "),
        (lambda b: b.replace(b"w30 ", b"w30"), "is damaged: vector 3[0-9] "),
        (lambda b: b[:200] + b"x" + b[200:], "is damaged: vector [5-9] "),
        (lambda b: b.replace(X[7].astype("<f4").tobytes()[:4], b"\0\0\xc0\x7f"), r"vector 7 .* has NaN or inf"),
        (lambda b: b.replace(b"60 8", b"60 0"), "promises 60 vectors of 0 numbers"),
    ],
)
def test_damaged_vectors_in_binary_form(tmp_path, change, message):
    (tmp_path / "x.bin").write_bytes(change(binary_words()))
    with pytest.raises(FileContentError, match=message):
        open_array(tmp_path / "x.bin").whole()


@pytest.mark.parametrize("name", ["x.csv.gz", "x.tsv.gz", "x.txt.gz", "x.vec.gz"])
def test_compressed_text_is_unpacked(tmp_path, name):
    separator = {".csv": ",", ".tsv": "\t"}.get(Path(name).suffixes[0], " ")
    content = lines(X, separator, WORDS if ".vec" in name else ())
    with gzip.open(tmp_path / name, "wt", encoding="utf-8", newline="") as file:
        file.write(content)
    holds(open_array(tmp_path / name), X)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(FileContentError, match=rf"{name}: cannot be read as \.\w+\.gz: Compressed file ended"):
        open_array(tmp_path / name).whole()
    (tmp_path / name).write_bytes(content.encode())
    with pytest.raises(FileContentError, match=r"cannot be read as .*Not a gzipped file"):
        open_array(tmp_path / name).whole()


def test_a_flipped_bit_in_compressed_text_is_found_by_its_checksum(tmp_path):
    content = bytearray(gzip.compress(lines(X).encode(), 0))  # stored, so that any letter can be changed
    place = content.index(repr(X[30, 4].item()).encode()) + 3
    content[place] = content[place] ^ 1
    (tmp_path / "x.csv.gz").write_bytes(content)
    with pytest.raises(FileContentError, match=r"x\.csv\.gz: .*CRC"):
        open_array(tmp_path / "x.csv.gz").whole()
