"""Files that are damaged, hostile or only odd: the right number, or one line that names the file and the place."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, _memory, open_array, open_clouds

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")


def cloud(rows: int = 200, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, dim)) * np.linspace(0.3, 2, dim)


def npy(
    descr: str = "<f4", shape: str = "(5, 4)", data: int = 80, version: int = 1, length: int | None = None
) -> bytes:
    """Write a .npy file by hand, so that it can be wrong."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", length or len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + bytes(data)


def npz(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", content)


def encrypted(path: Path) -> None:
    npz(path, npy())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flags in the local header
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # and in the directory
    path.write_bytes(content)


def unknown_compression(path: Path) -> None:
    npz(path, npy())
    content = bytearray(path.read_bytes())
    content[8] = content[content.rindex(b"PK\x01\x02") + 10] = 9  # deflate64
    path.write_bytes(content)


def four_bit(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F4", "shape": [50, 4], "data_offsets": [0, 100]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))


def cyclic(path: Path) -> None:
    endless: list[object] = []
    endless += [endless, endless]
    torch.save(endless, path)


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        {"npy": np.save, "npz": np.savez}[name](path, cloud())
        path.write_bytes(change(path.read_bytes()))

    return write


DAMAGED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a header without its end": ("x.npy", lambda p: p.write_bytes(npy(shape="(5, 4 ")), "header is damaged"),
    "a header of nonsense": ("x.npy", lambda p: p.write_bytes(npy(descr="<q9")), "header is damaged"),
    "a header with a stray backslash": ("x.npy", lambda p: p.write_bytes(npy(descr="\\d")), "header is damaged"),
    "a header nested without end": ("x.npy", lambda p: p.write_bytes(npy(shape="(" * 9000)), "header is damaged"),
    "a header of four gigabytes": ("x.npy", lambda p: p.write_bytes(npy(version=2, length=2**32 - 1)), "header"),
    "a version from nowhere": ("x.npy", lambda p: p.write_bytes(b"\x93NUMPY\x09\x00" + npy()[8:]), "version"),
    "a size beyond all numbers": ("x.npy", lambda p: p.write_bytes(npy(shape=f"({2**62}, 4)")), "promises shape"),
    "a negative size": ("x.npy", lambda p: p.write_bytes(npy(shape="(-5, -4)")), "promises shape"),
    "fewer rows than the file has": ("x.npy", lambda p: p.write_bytes(npy(shape="(4, 4)")), "promises shape"),
    "values without size": ("x.npy", lambda p: p.write_bytes(npy("<U0", f"({2**60}, 4)", 0)), "promises shape"),
    "an array and a half": ("x.npy", rewritten("npy", lambda content: content + content[:99]), "promises shape"),
    "an encrypted archive": ("x.npz", encrypted, ":a.*encrypted"),
    "an unknown compression": ("x.npz", unknown_compression, ":a.*compression method"),
    "a member that is no array": ("x.npz", lambda p: npz(p, b"words"), ":a.*magic"),
    "a member cut off": ("x.npz", lambda p: npz(p, npy(data=79)), ":a.*promises shape"),
    "a flipped value": ("x.npz", rewritten("npz", lambda content: content[:500] + b"!" + content[501:]), "CRC"),
    "a line break in a name": (
        "x.npz",
        lambda p: (np.savez(p, aaa=cloud()), p.write_bytes(p.read_bytes().replace(b"aaa", b"a\na", 1))),
        r"aaa.npy.*differ|a\\na",
    ),
    "four-bit numbers": ("x.safetensors", four_bit, ":a: .*its numbers are F4"),
    "lists without end": ("x.pt", cyclic, "holds more than 1,000,000 entries|holds no arrays"),
    "sparse": ("x.pt", lambda p: torch.save(torch.eye(5).to_sparse(), p), "layout torch.sparse_coo.*to_dense"),
    "quantized": (
        "x.pt",
        lambda p: torch.save(torch.quantize_per_tensor(torch.eye(5), 0.1, 0, torch.qint8), p),
        "dtype torch.qint8.*dequantize",
    ),
    "without values": (
        "x.pt",
        lambda p: torch.save({"a": torch.empty(5, 3, device="meta")}, p),
        ":a: .*it holds no values",
    ),
    "repeated without end": (
        "x.pt",
        lambda p: torch.save({"a": torch.randn(1, 8).expand(10**9, 8)}, p),
        r":a: .*it shows 8,000,000,000 values .*but holds 8.*expanded",
    ),
    "ragged": (
        "x.pt",
        lambda p: torch.save(torch.nested.nested_tensor([torch.zeros(3, 4), torch.zeros(3, 5)]), p),
        ": cannot be read as .pt: Sizes",
    ),
    **{
        f"{what} in x{suffix}": (f"x{suffix}", lambda p, content=content: p.write_bytes(content), message)
        for suffix in (".npy", ".npz", ".safetensors", ".pt", ".bin", ".csv", ".parquet", ".arrow")
        for what, content, message in [
            ("nothing", b"", "is empty"),
            ("a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "Git LFS pointer"),
        ]
    },
}


@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning")
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    name, write, reason = DAMAGED[case]
    with warnings.catch_warnings():  # torch's, of what a test asks of it
        warnings.simplefilter("ignore")
        write(tmp_path / name)
    with pytest.raises(FileContentError, match=rf"{re.escape(str(tmp_path / name))}.*{reason}") as found:
        open_array(tmp_path / name).whole()
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600


def test_rows_without_end_of_no_points_are_no_work(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(shape=f"({2**60}, 0, 4)", data=0))
    assert list(open_array(tmp_path / "x.npy").blocks()) == []


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_npy_is_read(tmp_path: Path, version: int) -> None:
    X = cloud(5, 4).astype(np.float32)
    (tmp_path / "x.npy").write_bytes(npy(version=version, data=0) + X.tobytes())
    np.testing.assert_array_equal(open_array(tmp_path / "x.npy").whole(), X)


def test_a_header_of_python_2_is_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(shape="(5L, 4L)"))
    assert open_array(tmp_path / "x.npy").shape == (5, 4)


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(SelectionError, match=r"x\.npy: is a folder"):
        open_array(tmp_path / "x.npy")


def vectors(X: np.ndarray) -> dict[str, torch.Tensor]:
    return {f"item_{i}": torch.tensor(x) for i, x in enumerate(X)}


STACKED: dict[str, tuple[Callable[[Path, np.ndarray], object], str | None]] = {
    "vectors.pt": (lambda p, X: torch.save(vectors(X), p), None),
    "list.pt": (lambda p, X: torch.save(list(vectors(X).values()), p), None),
    "below.pt": (lambda p, X: torch.save({"a": vectors(X), "b": vectors(X[:9, :5])}, p), "a"),
    "vectors.bin": (lambda p, X: torch.save(vectors(X), p), None),
    "vectors.npz": (lambda p, X: np.savez(p, **{f"item_{i}": x for i, x in enumerate(X)}), None),
    "vectors.safetensors": (lambda p, X: safetensors.save_file({f"{i:04}": x for i, x in enumerate(X)}, p), None),
}


@pytest.mark.parametrize("name", STACKED)
def test_vectors_that_were_saved_one_by_one_are_stacked_with_a_note(tmp_path: Path, name: str) -> None:
    write, key = STACKED[name]
    X = cloud()
    write(tmp_path / name, X)
    source = open_array(tmp_path / name, key)
    assert source.notes == ("stacked 200 vectors of 8 numbers, each saved by itself, as points",)
    assert source.shape == X.shape
    np.testing.assert_array_equal(source.whole(), X)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X)


def test_one_of_the_vectors_can_still_be_chosen(tmp_path: Path) -> None:
    torch.save(vectors(cloud()), tmp_path / "x.pt")
    np.testing.assert_array_equal(open_array(tmp_path / "x.pt", "item_7").whole(), cloud()[7])


@pytest.mark.parametrize("others", [{"b": torch.zeros(7)}, {"b": torch.zeros(8, dtype=torch.int64)}])
def test_arrays_that_are_not_alike_are_not_stacked(tmp_path: Path, others: dict[str, torch.Tensor]) -> None:
    torch.save(vectors(cloud()) | others, tmp_path / "x.pt")
    with pytest.raises(SelectionError, match="several arrays"):
        open_array(tmp_path / "x.pt")


@pytest.mark.parametrize("key", [None, "representations/33"])
def test_a_nested_dict_is_reached_by_a_path(tmp_path: Path, key: str | None) -> None:
    X = cloud()
    torch.save({"label": "P1", "representations": {33: torch.tensor(X)}}, tmp_path / "x.pt")
    np.testing.assert_array_equal(open_array(tmp_path / "x.pt", key).whole(), X)


def test_a_nested_tensor_is_read_as_its_points(tmp_path: Path) -> None:
    X = cloud()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.nested.nested_tensor([torch.tensor(X[:120]), torch.tensor(X[120:])]), tmp_path / "x.pt")
    np.testing.assert_array_equal(open_array(tmp_path / "x.pt").whole(), X)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_a_message_lists_ten_names_and_cuts_long_ones(tmp_path: Path, suffix: str) -> None:
    arrays = {f"{i:04}" + "x" * 5000: np.zeros((2, 2 + i)) for i in range(500)}
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    elif suffix == "pt":
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    else:
        safetensors.save_file(arrays, path)
    for key in (None, "nowhere"):
        with pytest.raises(SelectionError, match=r"xxx\.\.\. \(2, 2\).* and 490 more") as found:
            open_array(path, key)
        assert len(str(found.value)) < 2000


def bomb(path: Path, rows: int) -> None:
    """Zip an array of zeros that is far larger than its file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(rows // 1024):
            file.write(bytes(1024 * 1024))


def test_a_bomb_is_refused_with_the_figure_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(tmp_path / "x.npz", 102_400)
    monkeypatch.setattr(_memory, "free_memory", lambda: 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(iso.InvalidValueError, match=r"x.npz: .*takes 0\.1 GB of memory; 0\.1 GB are free"):
            open_clouds([tmp_path / "x.npz"])
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_free_memory_is_that_of_the_machine_or_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "_CGROUP", tmp_path)
    assert _memory.free_memory() == 5000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert _memory.free_memory() == 5000 * 1024
    for name, content in {"max": "4000000", "current": "3000000", "stat": "anon 5\ninactive_file 500000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert _memory.free_memory() == 1_500_000


def test_an_array_beside_the_points_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "states.npz", states=np.zeros((3, 4, 5)), mask=np.ones((3, 4), np.int64))
    (note,) = open_array(tmp_path / "states.npz").notes
    assert note == "took 'states' alone; the file also holds mask (3, 4)"
    assert not open_array(tmp_path / "states.npz", "states").notes
