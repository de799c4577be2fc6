"""Texts from files of every kind, and what is wrong with those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso
from isoscore_star.scanning._texts import texts_of

TEXTS = ["a first text", 'with "quotes", commas', "an em dash \u2014 and \u2028 a separator", "<b>\x1b[31mred</b>"]


def _tsv(path: Path) -> None:
    path.write_text("id\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)), encoding="utf-8")


def _csv(path: Path) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([n, text] for n, text in enumerate(TEXTS))])


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS))


def _lines(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{text}\r\n" for text in TEXTS).encode())


def _parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": list(range(4)), "text": TEXTS}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.tsv", _tsv), ("a.csv", _csv), ("a.jsonl", _jsonl), ("a.txt", _lines), ("a", _lines), ("a.parquet", _parquet)],
)
def test_files(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    assert texts_of(tmp_path / name).items == TEXTS
    assert texts_of(tmp_path / name, most=2).items == TEXTS[:2]


def test_column_by_name(tmp_path: Path) -> None:
    _tsv(tmp_path / "a.tsv")
    assert texts_of(tmp_path / "a.tsv", "id").items == ["0", "1", "2", "3"]
    with pytest.raises(iso.InvalidValueError, match="no column 'body'; its columns are 'id', 'text'"):
        texts_of(tmp_path / "a.tsv", "body")
    (tmp_path / "b.csv").write_text("one,two,three\nx,y,z\n")
    with pytest.raises(iso.InvalidValueError, match="--text-column"):
        texts_of(tmp_path / "b.csv")
    _lines(tmp_path / "a.txt")
    with pytest.raises(iso.InvalidValueError, match="leave out --text-column text"):
        texts_of(tmp_path / "a.txt", "text")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\n\xff\xfe", "is not UTF-8 text .* at byte 5"),
        ("a.txt", b"", "holds no text"),
        ("a.txt", b"\n \n\t\n", "holds 3 texts, all of them empty"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"row 1 has a surrogate alone, U\+D800"),
        ("a.jsonl", b'{"text": 3}\n', "row 1 has no text in column 'text'; got int"),
        ("a.jsonl", b'{"text": "a"}\n{', "line 2 is not JSON"),
        ("a.csv", b'text\n"open', "cannot be read as CSV"),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as Parquet"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(iso.InvalidValueError, match=message):
        texts_of(tmp_path / name)


def test_what_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(iso.InvalidValueError, match="no such file"):
        texts_of(tmp_path / "missing.txt")
    with pytest.raises(iso.InvalidValueError, match="no such file"):
        texts_of(tmp_path)
    with pytest.raises(iso.InvalidTypeError, match="got int at place 1"):
        texts_of(["a", 2])
    with pytest.raises(iso.InvalidValueError, match="place 1 has a surrogate alone"):
        texts_of(["a", "\udcff"])
    with pytest.raises(iso.InvalidValueError, match="holds no text"):
        texts_of([])
    with pytest.raises(iso.InvalidTypeError, match="expected texts"):
        texts_of(3)


def test_places_of_texts_that_are_left() -> None:
    found = texts_of(["", "a", " ", "b"])
    assert (found.items, found.places) == (["a", "b"], [1, 3])
    assert texts_of(["a", "b"]).fingerprint == found.fingerprint != texts_of(["ab"]).fingerprint


def test_a_data_set_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(iso.InvalidValueError, match=r"nobody/nothing is no file here.*Give a file of lines"):
        texts_of("nobody/nothing")


def test_embedded_sentences_are_varied() -> None:
    items = texts_of().items
    assert len(items) == len(set(items)) == 256
    assert all(8 <= len(text.split()) <= 30 for text in items)
