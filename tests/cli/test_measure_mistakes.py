"""``isoscore-star measure``: one line for every mistake in data or use."""

import os
import re
import sys

import numpy as np
import pytest
from point_files import cloud, save

pytest.importorskip("typer")
pytest.importorskip("rich")


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks SIGINT for a child, getrusage, pty, mkfifo")


def changed(X, index, value):
    X = X.copy()
    X[index] = value
    return X


BAD_POINTS = {
    "one point": (cloud(1), "needs at least 2 points; got 1"),
    "no point": (cloud(0), "needs at least 2 points; got 0"),
    "one dimension": (cloud(9)[:, :1], "at least 2 dimensions"),
    "no dimension": (cloud(9)[:, :0], "at least 2 dimensions"),
    "vector": (cloud(9)[0], r"expected points as rows, .*got shape \(5,\)"),
    "number": (np.float64(1), r"expected points as rows, .*got shape \(\)"),
    "NaN": (changed(cloud(20_000), (15_000, 2), np.nan), "every value has to be finite.* row 15000 "),
    "inf": (changed(cloud(), (7, 2), -np.inf), "every value has to be finite.* row 7 "),
    "identical points": (np.ones((9, 5)), "all 9 points are identical"),
    "complex": (cloud() * 1j, "expected real .*got dtype complex128"),
    "bool": (cloud() > 0, "expected real .*got dtype bool"),
    "string": (cloud().astype(str), "expected real .*got dtype str"),
    "object": (cloud().astype(object), "holds Python objects"),
}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("case", BAD_POINTS)
def test_bad_points(failure, case, suffix):
    X, message = BAD_POINTS[case]
    (np.save if suffix == "npy" else np.savez)(f"x.{suffix}", X, allow_pickle=True)
    code, line = failure("measure", f"x.{suffix}")
    assert code == 1
    assert re.search(rf"x\.{suffix}.*: .*{message}", line)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.safetensors", "x.pt"])
def test_bad_values_in_other_formats(failure, name):
    save(name, changed(cloud(), (7, 2), np.inf))
    code, line = failure("measure", name)
    assert (code, bool(re.search(rf"{name}.*finite.* row 7 ", line))) == (1, True)


BAD_MATRICES = {
    "not square": (np.ones((5, 4)), r"square matrix of shape \(d, d\).*got shape \(5, 4\)"),
    "other d": (np.eye(4), r"expected shape \(5, 5\).*got \(4, 4\)"),
    "asymmetric": (np.eye(5) + np.eye(5, k=1), "a covariance is symmetric"),
    "negative": (np.diag([1.0, 1, 1, 1, -1]), "cannot be negative"),
    "zero": (np.zeros((5, 5)), "every variance is zero"),
    "NaN": (np.full((5, 5), np.nan), "every entry has to be finite"),
    "bool": (np.eye(5) > 0, "got dtype bool"),
}


@pytest.mark.parametrize("case", BAD_MATRICES)
def test_bad_shrinkage_matrices(failure, case):
    matrix, message = BAD_MATRICES[case]
    save("x.npy", cloud())
    np.save("cov.npy", matrix)
    code, line = failure("measure", "x.npy", "--shrinkage-cov", "cov.npy", "--zeta", "0.5")
    assert code == 1
    assert re.search(rf"error: --shrinkage-cov: cov\.npy: .*{message}", line)


BAD_MASKS = {
    "shape": (np.ones(299), r"the mask needs shape \(300,\), one entry for each point of x.npy .*got \(299,\)"),
    "weights": (np.full(300, 0.5), "only zeros and ones"),
    "strings": (np.full(300, "a"), "got dtype <U1"),
    "nothing left": (np.zeros(300), "needs at least 2 points; got 0"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_bad_masks(failure, case):
    mask, message = BAD_MASKS[case]
    save("x.npy", cloud())
    np.save("mask.npy", mask)
    code, line = failure("measure", "x.npy", "--mask", "mask.npy")
    assert code == 1
    assert re.search(message, line)


@pytest.mark.parametrize(("length", "message"), [(299, "more points than the 299"), (301, "300 points, .*301 entries")])
def test_a_mask_of_another_length_than_a_table(failure, length, message):
    save("x.csv", cloud())
    np.save("mask.npy", np.ones(length))
    code, line = failure("measure", "x.csv", "--mask", "mask.npy")
    assert (code, bool(re.search(message, line))) == (1, True)


WRONG_USE = {
    "no command": ([], "Missing command"),
    "unknown command": (["weigh"], "No such command 'weigh'"),
    "no file": (["measure"], "Missing argument 'FILE...'"),
    "missing file": (["measure", "nowhere.npy"], "nowhere.npy: no such file"),
    "empty folder": (["measure", "empty"], "empty: is a folder that holds no file of a known format"),
    "folder of several formats": (["measure", "."], "files of several formats .2 .npy, 1 .npz."),
    "pattern": (["measure", "y*.npy"], "is a pattern that fits no file of a known format"),
    "suffix": (["measure", "x.xyz"], "unknown suffix '.xyz'; the known ones are .npy"),
    "key": (["measure", "two.npz", "--key", "c"], "has no array 'c'; it holds a"),
    "open choice": (["measure", "two.npz"], "several arrays, choose one"),
    "mask": (["measure", "two.npz", "--key", "a", "--mask", "c"], "mask 'c': there is no such file, nor"),
    "layers": (["measure", "x.npy", "--by-layer"], "layers are the first of at least 3 axes"),
    "no layers": (["measure", "none.npy", "--by-layer"], r"got one array of shape \(0, 9, 5\)"),
    "option": (["measure", "x.npy", "--zeal", "1"], "No such option"),
    "estimator": (["measure", "x.npy", "--estimator", "best"], "Invalid value for '--estimator'"),
    "zeta is a word": (["measure", "x.npy", "--zeta", "much"], "Invalid value for '--zeta'"),
    "zeta above 1": (["measure", "x.npy", "--zeta", "1.5"], r"error: --zeta: expected a number in \[0, 1\]; got 1.5"),
    "zeta below 0": (["measure", "x.npy", "--zeta", "-1"], r"error: --zeta: expected a number in \[0, 1\]; got -1.0"),
    "zeta is NaN": (["measure", "x.npy", "--zeta", "nan"], r"error: --zeta: expected a number in \[0, 1\]; got nan"),
    "zeta alone": (
        ["measure", "x.npy", "--zeta", "0.2"],
        r"--shrinkage-cov: .* none was given.*--estimator unbiased",
    ),
    "missing matrix": (["measure", "x.npy", "--shrinkage-cov", "no.npy"], "no.npy: no such file"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use(failure, folder, case):
    arguments, message = WRONG_USE[case]
    save("x.npy", cloud())
    (folder / "x.xyz").touch()
    (folder / "empty").mkdir()
    np.savez("two.npz", a=cloud(), b=cloud())
    np.save("none.npy", np.empty((0, 9, 5)))
    code, line = failure(*arguments)
    assert code == 2
    assert re.search(message, line)


def test_a_damaged_file(failure, folder):
    (folder / "x.npy").write_bytes(b"\x93NUMPY damaged")
    code, line = failure("measure", "x.npy")
    assert (code, "x.npy: cannot be read as .npy" in line) == (1, True)


@posix
def test_a_pipe_is_no_file_to_measure(failure, folder):
    os.mkfifo("x.npy")
    code, line = failure("measure", "x.npy")
    assert (code, "x.npy: is no regular file" in line) == (2, True)


def test_widths_differ(failure):
    save("a.npy", cloud(9, 5))
    save("b.npy", cloud(9, 4))
    code, line = failure("measure", "a.npy", "b.npy")
    assert (code, "5 (a.npy), 4 (b.npy)" in line) == (1, True)


def test_a_missing_reader(failure, monkeypatch):
    save("x.parquet", cloud())
    monkeypatch.delitem(sys.modules, "isoscore_star.readers._arrow", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, line = failure("measure", "x.parquet")
    assert (code, 'pip install "isoscore-star[files]"' in line) == (1, True)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_command_line(failure, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("isoscore_star.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    code, line = failure("measure", "x.npy")
    assert (code, f'needs {package}, which is not installed: pip install "isoscore-star[cli]"' in line) == (1, True)
