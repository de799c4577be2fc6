"""Tables: which columns are dimensions, what was left out and why, and where a value is that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from point_tables import DIM, LETTERS, NAMES, ROWS, TABLES, WHOLE, X, frame, holds, save, text

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, _memory, open_array, open_clouds

pd = pytest.importorskip("pandas")


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


def test_most_columns_are_not_left_out_for_a_few(tmp_path):
    path = save(tmp_path / "x.csv", frame(WHOLE, LETTERS, score=X[:, 0], loss=X[:, 1]), index=False)
    with pytest.raises(SelectionError, match=r"integers, 'a', .*'h', and fewer of fractions, 'score', 'loss'; choose"):
        open_array(path)


def test_integers_among_fractions_without_names(tmp_path):
    rows = [f"{i},{x!r},{y!r},{i % 3}" for i, (x, y) in enumerate(X[:, :2].tolist())]
    source = open_array(text(tmp_path / "x.csv", "\n".join(rows)))
    holds(source, X[:, :2], "^ignored integer columns .*'0', '3'$")


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


def test_a_table_too_wide_for_memory_is_refused_with_the_figure(tmp_path, monkeypatch):
    path = save(tmp_path / "x.csv", frame(), index=False)
    monkeypatch.setattr(_memory, "free_memory", lambda: 1000)
    with pytest.raises(iso.InvalidValueError, match=r"x.csv: a block of 6\d points of 8 dimensions takes .* of memory"):
        open_array(path)


def test_more_columns_than_a_block_of_text_held(tmp_path):
    wide = np.random.default_rng(0).normal(size=(3, 30_000)).round(3)
    np.savetxt(tmp_path / "x.csv", wide, delimiter=",", fmt="%.3f")
    np.testing.assert_array_equal(open_array(tmp_path / "x.csv").whole(), wide)


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


def test_a_pattern_stands_for_all_keys_that_it_matches(tmp_path):
    np.savez(tmp_path / "x.npz", layer_0=X, layer_1=2 * X, ids=np.arange(ROWS))
    clouds = open_clouds([tmp_path / "x.npz"], ["layer_*"])
    assert [cloud.label for cloud in clouds] == ["layer_0", "layer_1"]
    np.testing.assert_array_equal(clouds[1].source.whole(), 2 * X)
    pd.DataFrame({"e_a": list(X), "e_b": list(2 * X), "n": range(ROWS)}).to_parquet(tmp_path / "x.parquet")
    assert [cloud.label for cloud in open_clouds([tmp_path / "x.parquet"], ["e_*"])] == ["e_a", "e_b"]
    with pytest.raises(SelectionError, match=r"'layer_\*' matches several arrays"):
        open_array(tmp_path / "x.npz", "layer_*")
