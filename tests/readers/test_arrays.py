"""Readers: every format gives the points that were written, in blocks, and says what is wrong with a file."""

import sys

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.readers import (
    FileContentError,
    Reservoir,
    SelectionError,
    StreamedCloud,
    open_array,
    open_clouds,
)
from isoscore_star.readers._source import DenseSource, block_rows, joined

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


def cloud(rows=300, dim=5, dtype=np.float64):
    rng = np.random.default_rng(rows + dim)
    return (rng.normal(size=(rows, dim)) * np.arange(1, dim + 1) + 2).astype(dtype)


def arrow_lists(X, kind=None):
    flat = pa.array(X.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, X.shape[1]) if kind is None else pa.array(list(X), kind)


def write_ipc(path, table, stream=False, batch=64):
    opener = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opener(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)


def names_of(X):
    return [f"x{i}" for i in range(X.shape[1])]


# Each writer puts a cloud alone into a file of its format.
WRITERS = {
    "points.npy": lambda path, X: np.save(path, X),
    "fortran.npy": lambda path, X: np.save(path, np.asfortranarray(X)),
    "stored.npz": lambda path, X: np.savez(path, X),
    "zipped.npz": lambda path, X: np.savez_compressed(path, states=X, ids=np.arange(len(X))),
    "points.safetensors": lambda path, X: safetensors_torch.save_file({"x": torch.tensor(X)}, path),
    "tensor.pt": lambda path, X: torch.save(torch.tensor(X), path),
    "parameter.pth": lambda path, X: torch.save({"w": torch.nn.Parameter(torch.tensor(X)), "epoch": 3}, path),
    "list.pt": lambda path, X: torch.save([torch.tensor(X)], path),
    "old.pt": lambda path, X: torch.save(torch.tensor(X), path, _use_new_zipfile_serialization=False),
    "header.csv": lambda path, X: pd.DataFrame(X, columns=names_of(X)).to_csv(path, index=False),
    "bare.csv": lambda path, X: np.savetxt(path, X, delimiter=",", fmt="%.17g"),
    "index.csv": lambda path, X: pd.DataFrame(X, columns=names_of(X)).to_csv(path),
    "numbered.csv": lambda path, X: pd.DataFrame(X).to_csv(path, index=False),
    "numbered_index.csv": lambda path, X: pd.DataFrame(X).to_csv(path),
    "text.tsv": lambda path, X: pd.DataFrame(X, columns=names_of(X)).assign(t="a").to_csv(path, sep="\t"),
    "columns.parquet": lambda path, X: pd.DataFrame(X, columns=names_of(X)).to_parquet(path),
    "lists.parquet": lambda path, X: pd.DataFrame({"id": 1, "e": list(X)}).to_parquet(path),
    "index.parquet": lambda path, X: pd.DataFrame(X, np.arange(len(X))[::-1], names_of(X)).to_parquet(path),
    "fixed.arrow": lambda path, X: write_ipc(path, pa.table({"e": arrow_lists(X)})),
    "stream.arrow": lambda path, X: write_ipc(path, pa.table({"e": arrow_lists(X)}), stream=True),
    "large.arrow": lambda path, X: write_ipc(path, pa.table({"e": arrow_lists(X, pa.large_list(pa.float64()))})),
    "columns.feather": lambda path, X: pd.DataFrame(X, columns=names_of(X)).to_feather(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_points_that_were_written(tmp_path, name):
    X = cloud()
    WRITERS[name](tmp_path / name, X)
    source = open_array(tmp_path / name)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X)
    np.testing.assert_array_equal(source.whole(), X)
    assert source.shape[-1] == 5
    assert source.shape[0] in (300, None)


@pytest.mark.parametrize("name", [n for n in WRITERS if not n.endswith((".csv", ".tsv", "large.arrow"))])
def test_float32_stays_float32(tmp_path, name):
    X = cloud(dtype=np.float32)
    WRITERS[name](tmp_path / name, X)
    assert {block.dtype for block in open_array(tmp_path / name).blocks()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_leading_axes_are_flattened_and_layers_split(tmp_path, suffix):
    X = cloud(24).reshape(2, 3, 4, 5)
    WRITERS[{".npy": "points.npy", ".npz": "stored.npz", ".pt": "tensor.pt"}.get(suffix, "points" + suffix)](
        tmp_path / f"x{suffix}", X
    )
    source = open_array(tmp_path / f"x{suffix}")
    assert source.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X.reshape(-1, 5))
    for layer, expected in zip(source.layers(), X, strict=True):
        np.testing.assert_array_equal(np.concatenate(list(layer.blocks())), expected.reshape(-1, 5))


@pytest.mark.parametrize("leading", [(20001,), (2, 9001), (9001, 2), (2, 5000, 2), (0,), (0, 4), (4, 0)])
def test_blocks_are_bounded_and_in_order(leading):
    X = np.arange(np.prod(leading) * 600, dtype=np.float32).reshape(*leading, 600)
    blocks = list(DenseSource("x", X.shape, X.__getitem__).blocks())
    assert max((len(block) for block in blocks), default=0) <= block_rows(600) == 8192
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 600)), *blocks]), X.reshape(-1, 600))


def test_small_blocks_are_joined():
    X = cloud(100)
    found = list(joined(np.split(X, 50), rows=30))
    assert [len(block) for block in found] == [30, 30, 30, 10]
    np.testing.assert_array_equal(np.concatenate(found), X)


def test_bfloat16_is_read_as_the_numbers_it_holds(tmp_path):
    X = torch.tensor(cloud(dtype=np.float32)).bfloat16()
    safetensors_torch.save_file({"x": X}, tmp_path / "x.safetensors")
    torch.save(X, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        np.testing.assert_array_equal(open_array(tmp_path / name).whole(), X.float().numpy())


def test_a_rewritten_archive_is_read_anew(tmp_path):
    for X in (cloud(20), cloud(30)):
        np.savez(tmp_path / "x.npz", X)
        np.testing.assert_array_equal(open_array(tmp_path / "x.npz").whole(), X)


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors", "parquet"])
def test_keys(tmp_path, suffix):
    a, b, path = cloud(20), cloud(20, 3), tmp_path / f"x.{suffix}"
    {
        "npz": lambda: np.savez(path, a=a, b=b),
        "pt": lambda: torch.save({"a": torch.tensor(a), "b": torch.tensor(b)}, path),
        "safetensors": lambda: safetensors_torch.save_file({"a": torch.tensor(a), "b": torch.tensor(b)}, path),
        "parquet": lambda: pd.DataFrame({"a": list(a), "b": list(b), "id": range(20)}).to_parquet(path),
    }[suffix]()
    np.testing.assert_array_equal(open_array(path, "b").whole(), b)
    assert open_array(path, "b").name == f"{path}:b"
    with pytest.raises(SelectionError, match=r"several arrays.*a \(20, 5\), b \(20, 3\)"):
        open_array(path)
    with pytest.raises(SelectionError, match=r"no array 'c'; it holds a \(20, 5\), b"):
        open_array(path, "c")


@pytest.mark.parametrize("name", ["points.npy", "tensor.pt"])
def test_a_key_for_a_lone_array_is_refused(tmp_path, name):
    WRITERS[name](tmp_path / name, cloud())
    with pytest.raises(SelectionError, match="no array 'x'; it holds one array without a name"):
        open_array(tmp_path / name, "x")


def test_a_column_of_single_numbers_is_no_cloud(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SelectionError, match=r"column 'a' \(floating-point numbers\) holds no lists"):
        open_array(tmp_path / "x.parquet", "a")


def test_what_is_left_out_of_a_table_is_said(tmp_path):
    frame = pd.DataFrame(cloud(10, 3)).assign(**{f"t{i}": "word" for i in range(7)})
    frame.to_csv(tmp_path / "x.csv")
    frame.rename(columns=str).to_parquet(tmp_path / "x.parquet")
    csv_notes = open_array(tmp_path / "x.csv").notes
    assert csv_notes == (
        "ignored columns that hold no numbers: 't0', 't1', 't2', 't3', 't4', 't5', 't6'",
        "ignored columns of an index: 'column 0'",
    )
    assert open_array(tmp_path / "x.parquet").notes == csv_notes[:1]


def test_integers_followed_by_fractions(tmp_path):
    # The start of the file, from which columns are understood, holds integers only.
    X = np.vstack([np.ones((3000, 3)), [[0.5, 2.0, 3.0]]])
    (tmp_path / "x.csv").write_text("1,1,1\n" * 3000 + "0.5,2,3\n")
    np.testing.assert_array_equal(open_array(tmp_path / "x.csv").whole(), X)


def garbage(name):
    return lambda path: (path / name).write_bytes(b"no such thing" * 99)


def truncated(name):
    def write(path):
        WRITERS[name](path / name, cloud(3000))
        (path / name).write_bytes((path / name).read_bytes()[:-9000])

    return write


def bytes_of(name, content):
    return lambda path: (path / name).write_bytes(content)


def flipped(name, signature):
    """Damage the last record of a zip file that starts so, in a field that says how many disks there are."""

    def write(path):
        WRITERS[name](path / name, cloud())
        content = bytearray((path / name).read_bytes())
        content[content.rindex(signature) + 16] ^= 2
        (path / name).write_bytes(content)

    return write


def csv_text(text):
    return lambda path: (path / "x.csv").write_text(text)


def saved(name, *args):
    return lambda path: (np.save if name.endswith("npy") else np.savez)(path / name, *args, allow_pickle=True)


def parquet(data):
    return lambda path: pd.DataFrame(data).to_parquet(path / "x.parquet")


GARBAGE = ["x.npy", "x.npz", "x.parquet", "x.arrow", "x.feather", "x.safetensors"]
OBJECTS = np.array([{"a": 1}, None], dtype=object)
BROKEN = {
    **{f"garbage in {name}": (name, garbage(name), "cannot be read as") for name in GARBAGE},
    "garbage in x.pt": ("x.pt", garbage("x.pt"), "damaged or holds other Python objects than tensors"),
    # An unpickler takes the first for the start of a number, and the second for an instruction on an empty stack.
    "a word in x.pt": ("x.pt", bytes_of("x.pt", b"junk"), "damaged or holds other Python objects than tensors"),
    "a letter in x.pt": ("x.pt", bytes_of("x.pt", b"e"), "damaged or holds other Python objects than tensors"),
    "flipped end of x.pt": ("tensor.pt", flipped("tensor.pt", b"PK\x06\x07"), "cannot be read as .pt: .*disk"),
    **{
        f"truncated {name}": (name, truncated(name), "cannot be read as")
        for name in ("points.npy", "stored.npz", "points.safetensors", "lists.parquet", "fixed.arrow", "tensor.pt")
    },
    "objects in .npy": ("x.npy", saved("x.npy", OBJECTS), "never unpickled"),
    "objects in .npz": ("x.npz", saved("x.npz", OBJECTS), "never unpickled"),
    "no arrays": ("x.npz", lambda path: np.savez(path / "x.npz"), "holds no arrays"),
    "pickled objects": ("x.pt", lambda path: torch.save({"f": cloud}, path / "x.pt"), "never unpickled"),
    "empty csv": ("x.csv", csv_text(""), "is empty"),
    "ragged csv": ("x.csv", csv_text("a,b\n1,2\n3\n"), "row 3 of the file .* has 1 columns, the first 2"),
    "text without header": ("x.csv", csv_text("1,2,3\n4,x,6\n"), "row 1 .*line 2.*, column '1': 'x' is no number"),
    "late text": ("x.csv", csv_text("a,b\n" + "1,2\n" * 20_000 + "1,x\n"), "row 20000 .*line 20002.*'x' is no number"),
    "no numbers": ("x.csv", csv_text("a|b\n1|2\n"), "neither columns of numbers nor"),
    "not text": ("x.csv", lambda path: (path / "x.csv").write_bytes(b"\xff\xfe\x80"), "cannot be read as .csv"),
    "gap in csv": ("x.csv", csv_text("a,b\n1,\n3,4\n"), "row 0 .*line 2.*, column 'b': '' is missing"),
    "gap in the first row": ("x.csv", csv_text("1,,3\n4,5,6\n"), "row 0 .*line 1.*, column '1': '' is missing"),
    "gap in columns": ("x.parquet", parquet({"a": [1.0, 2.0], "b": [1, None]}), "row 1 .*column 'b': a missing value"),
    "missing list": ("x.parquet", parquet({"e": [[1.0, 2.0], None]}), "row 1 .*column 'e': a missing value"),
    "gap in a list": ("x.parquet", parquet({"e": [[1.0, 2.0], [1.0, None]]}), "row 1 .*column 'e': a missing value"),
    "ragged lists": ("x.parquet", parquet({"e": [[1.0, 2.0], [1.0]]}), "row 1 .*column 'e': a list of 1 numbers"),
    "words only": ("x.parquet", parquet({"a": ["x", "y"]}), "neither columns of numbers nor a column of lists"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_the_reason(tmp_path, case):
    name, write, reason = BROKEN[case]
    write(tmp_path)
    with pytest.raises(iso.IsoScoreError, match=f"{name}.*{reason}"):
        open_array(tmp_path / name).whole()


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'burst')!r}, 'w')",))

    np.save(tmp_path / "x.npy", np.array([Bomb()], dtype=object))
    np.savez(tmp_path / "x.npz", np.array([Bomb()], dtype=object))
    torch.save({"x": Bomb()}, tmp_path / "x.pt")
    for name in ("x.npy", "x.npz", "x.pt"):
        with pytest.raises(FileContentError):
            open_array(tmp_path / name)
    assert not (tmp_path / "burst").exists()


@pytest.mark.parametrize(("name", "match"), [("x.npy", "no such file"), ("x.xyz", "unknown suffix '.xyz'")])
def test_wrong_files(tmp_path, name, match):
    with pytest.raises(SelectionError, match=match):
        open_array(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "module", "package", "extra"),
    [
        ("points.safetensors", "_safetensors", "safetensors", "files"),
        ("columns.parquet", "_arrow", "pyarrow", "files"),
        ("tensor.pt", "_torch", "torch", "torch"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, module, package, extra):
    WRITERS[name](tmp_path / name, cloud())
    monkeypatch.delitem(sys.modules, f"isoscore_star.readers.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(iso.MissingDependencyError, match=rf'needs {package}.*"isoscore-star\[{extra}\]"'):
        open_array(tmp_path / name)


def test_reservoir_keeps_everything_while_it_fits():
    X, sample = cloud(100), Reservoir(100, 5, np.random.default_rng(0))
    for block in np.split(X, 10):
        sample.add(block)
    np.testing.assert_array_equal(sample.rows, X)


@pytest.mark.parametrize("merged", [False, True])
def test_reservoir_is_uniform(merged):
    # Each of 40 rows is in a sample of 10 with probability 1/4, so in 2000 samples 500 times, with a standard
    # deviation of √(2000·¼·¾) ≈ 19.4; none of 40 deviates by five of those but once in 40,000 correct programs.
    rng, rows, hits = np.random.default_rng(0), np.arange(40.0)[:, None], np.zeros(40)
    for _ in range(2000):
        samples = [Reservoir(10, 1, rng), Reservoir(10, 1, rng)]
        for i, block in enumerate(np.split(rows, [7, 20, 21])):
            samples[i % 2 if merged else 0].add(block)
        samples[0].merge(samples[1])
        assert samples[0].rows.shape == (10, 1)
        hits[samples[0].rows[:, 0].astype(int)] += 1
    assert np.abs(hits - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_the_standard_error_of_a_sample_is_near_that_of_all_points(tmp_path):
    X = cloud(30_000)
    np.save(tmp_path / "x.npy", X)
    streamed = StreamedCloud(5, np.random.default_rng(0))
    streamed.take(open_array(tmp_path / "x.npy"))
    found, expected = streamed.measurement(), iso.measure(X)
    assert found.unbiased_score == pytest.approx(expected.unbiased_score, abs=1e-12)
    # A variance from 4096 of the points has a relative error of about √(kurtosis/4096), here about 4 %; a standard
    # error half of that. 20 % leaves room for heavy tails.
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.2)


def test_clouds_need_one_width(tmp_path):
    np.save(tmp_path / "a.npy", cloud(10, 5))
    np.save(tmp_path / "b.npy", cloud(10, 4))
    with pytest.raises(iso.InvalidValueError, match=r"same number of dimensions.*5 \(.*a.npy\), 4 \(.*b.npy\)"):
        open_clouds([tmp_path / "a.npy", tmp_path / "b.npy"])
