"""Parquet and Arrow: types, and files whose parts contradict each other."""

import re

import numpy as np
import pytest
from point_tables import DIM, ROWS, X, frame, holds, save

from isoscore_star.readers import FileContentError, open_array

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_decimals_and_columns_of_one_name(tmp_path):
    decimals = pa.array(np.rint(X[:, 0] * 100).astype(int) / 100).cast(pa.decimal128(9, 2))
    table = pa.Table.from_arrays([decimals, pa.array(X[:, 1]), pa.array(X[:, 2])], ["a", "b", "b"])
    parquet.write_table(table, tmp_path / "x.parquet")
    expected = np.column_stack([np.rint(X[:, 0] * 100) / 100, X[:, 1], X[:, 2]])
    np.testing.assert_allclose(open_array(tmp_path / "x.parquet").whole(), expected, rtol=1e-15)


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
    with pytest.raises(FileContentError, match="metadata counts 60 rows, its row groups 56"):
        open_array(path)
