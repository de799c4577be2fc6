"""``isoscore-star measure``: the numbers of `isoscore_star.measure` for every file, and one line for every mistake."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star.cli import main

pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

# The command sums the same numbers as `measure`, but may cut them into other blocks, so that sums differ by rounding:
# some thousand roundings of 1e-16 for float64, and of 6e-8 on terms of either sign for products of float32.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-6}


def cloud(rows=300, dim=5, dtype=np.float64, seed=0):
    scales = np.r_[6.0, np.ones(dim - 1)]
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales + 2).astype(dtype)


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks SIGINT for a child, getrusage, pty, mkfifo")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, so that files have short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def measured(folder, capsys):
    """Give the JSON of a command that succeeds."""

    def run(*arguments):
        code = main(["measure", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def failure(folder, capsys):
    """Give the exit code and the message of a command that fails, which is one line on stderr."""

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"error: [^\n]+\n", err)
        return code, err

    return run


def agrees(found, expected, tolerance):
    wanted = expected.to_dict()
    assert found.keys() - {"layer"} == wanted.keys()
    for name in ("score", "unbiased_score", "standard_error"):
        assert found[name] == pytest.approx(wanted[name], abs=tolerance)
    assert found["effective_dimensions"] == pytest.approx(wanted["effective_dimensions"], abs=tolerance * found["dim"])
    assert (found["count"], found["dim"], found["warnings"]) == (wanted["count"], wanted["dim"], wanted["warnings"])
    for outlier, wanted_outlier in zip(found["outlier_dimensions"], wanted["outlier_dimensions"], strict=True):
        outlier.pop("column", None)
        assert outlier == pytest.approx(wanted_outlier, abs=tolerance)


def save(name, X):
    if name.endswith(".npy"):
        np.save(name, X)
    elif name.endswith(".npz"):
        np.savez_compressed(name, X)
    elif name.endswith(".safetensors"):
        safetensors.save_file({"x": X}, name)
    elif name.endswith((".pt", ".pth")):
        torch.save(torch.tensor(X), name)
    elif name.endswith((".csv", ".tsv")):
        columns = [f"x{i}" for i in range(X.shape[1])]
        pd.DataFrame(X, columns=columns).to_csv(name, sep="," if name.endswith(".csv") else "\t", index=False)
    elif name.endswith(".parquet"):
        pd.DataFrame({"embedding": list(X)}).to_parquet(name)
    else:
        pd.DataFrame(X).rename(columns=str).to_feather(name)


FORMATS = ["x.npy", "x.npz", "x.safetensors", "x.pt", "x.pth", "x.csv", "x.tsv", "x.parquet", "x.arrow", "x.feather"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [300, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_measured_like_the_array_in_memory(measured, name, rows, dtype):
    X = cloud(rows, dtype=dtype)
    save(name, X)
    found = measured(name)
    assert (found["files"], found["zeta"], found["estimator"]) == ([name], 0.0, "shrinkage")
    assert "layers" not in found
    agrees(found["union"], iso.measure(X), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint32])
def test_other_kinds_of_numbers(measured, dtype):
    X = (cloud() * 9).clip(0, 100).astype(dtype)
    save("x.npy", X)
    agrees(measured("x.npy")["union"], iso.measure(X), 1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_more_points_than_a_block_holds(measured, dtype):
    X = cloud(20_000, 300, dtype)
    save("x.npy", X)
    found, expected = measured("x.npy")["union"], iso.measure(X)
    assert found["score"] == pytest.approx(expected.score, abs=TOLERANCE[dtype])
    assert found["unbiased_score"] == pytest.approx(expected.unbiased_score, abs=TOLERANCE[dtype])


def test_files_are_one_union_across_formats(measured):
    parts = [cloud(100, seed=0), cloud(50, seed=1), cloud(70, seed=2)]
    for name, part in zip(FORMATS[:3], parts, strict=True):
        save(name, part)
    agrees(measured(*FORMATS[:3])["union"], iso.measure(parts), 1e-12)


def test_shrinkage(measured):
    X, cov = cloud(40), np.cov(cloud(1000, seed=1).T)
    save("x.npy", X)
    for name in ("cov.npy", "cov.csv", "cov.parquet"):
        save(name, cov)
        found = measured("x.npy", "--shrinkage-cov", name, "--zeta", 0.3)
        assert found["zeta"] == 0.3
        agrees(found["union"], iso.measure(X, cov, 0.3), 1e-12)


def test_a_shrinkage_matrix_among_several_arrays(measured, failure):
    X, cov = cloud(40), np.cov(cloud(1000, seed=1).T)
    save("x.npy", X)
    np.savez("many.npz", cov=cov, mean=X.mean(0), other=np.eye(5))
    found = measured("x.npy", "--shrinkage-cov", "many.npz:cov", "--zeta", 0.3)
    agrees(found["union"], iso.measure(X, cov, 0.3), 1e-12)
    save("a:cov.npy", cov)  # a file's own name comes first
    assert measured("x.npy", "--shrinkage-cov", "a:cov.npy", "--zeta", 0.3) == found
    for name, message in (
        ("many.npz", r"several arrays, .*cov \(5, 5\)"),
        ("many.npz:x", "no array 'x'"),
        ("no.npz:cov", "no.npz: no such file"),
    ):
        code, line = failure("measure", "x.npy", "--shrinkage-cov", name, "--zeta", 0.3)
        assert (code, bool(re.search(message, line))) == (2, True)


def test_repeated_keys_are_a_union_or_layers(measured):
    a, b = cloud(30, seed=1), cloud(50, seed=2)
    np.savez("x.npz", a=a, b=b)
    agrees(measured("x.npz", "--key", "b")["union"], iso.measure(b), 1e-12)
    assert "layers" not in measured("x.npz", "--key", "a", "--key", "b")
    found = measured("x.npz", "--key", "a", "--key", "b", "--by-layer")
    agrees(found["union"], iso.measure([a, b]), 1e-12)
    assert [layer["layer"] for layer in found["layers"]] == ["a", "b"]
    for layer, X in zip(found["layers"], [a, b], strict=True):
        agrees(layer, iso.measure(X), 1e-12)


def test_files_as_layers(measured):
    clouds = {"first.npy": cloud(30, seed=1), "second.npy": cloud(50, seed=2)}
    for name, X in clouds.items():
        save(name, X)
    found = measured(*clouds, "--by-layer")
    assert [layer["layer"] for layer in found["layers"]] == list(clouds)
    for layer, X in zip(found["layers"], clouds.values(), strict=True):
        agrees(layer, iso.measure(X), 1e-12)
    assert len(measured("first.npy", "first.npy", "--by-layer")["layers"]) == 2


@pytest.mark.parametrize("mask_axes", [None, (6, 7), (3, 6, 7)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_layers_along_the_first_axis(measured, suffix, mask_axes):
    X = cloud(3 * 6 * 7).reshape(3, 6, 7, 5) * np.arange(1, 4)[:, None, None, None]
    save(f"x{suffix}", X)
    masked, mask = [], None
    if mask_axes is not None:
        mask = np.random.default_rng(1).random(mask_axes) < 0.7
        X[~np.broadcast_to(mask, X.shape[:-1])] = np.nan  # what is behind the mask is no matter
        save(f"x{suffix}", X)
        np.save("mask.npy", mask)
        masked, mask = ["--mask", "mask.npy"], np.broadcast_to(mask, X.shape[:-1])
    found = measured(f"x{suffix}", "--by-layer", *masked)
    assert [layer["layer"] for layer in found["layers"]] == ["0", "1", "2"]
    agrees(found["union"], iso.measure(X, mask=mask), 1e-12)
    for i, layer in enumerate(found["layers"]):
        agrees(layer, iso.measure(X[i], mask=None if mask is None else mask[i]), 1e-12)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_a_mask_beside_the_points(measured, suffix, dtype):
    X, keep = cloud(60).reshape(6, 10, 5), (np.arange(60) % 3 > 0).reshape(6, 10)
    arrays = {"x": X, "keep": keep.astype(dtype)}
    {
        "npz": lambda: np.savez("x.npz", **arrays),
        "safetensors": lambda: safetensors.save_file(arrays, "x.safetensors"),
        "pt": lambda: torch.save({k: torch.tensor(v) for k, v in arrays.items()}, "x.pt"),
    }[suffix]()
    found = measured(f"x.{suffix}", "--key", "x", "--mask", "keep")
    agrees(found["union"], iso.measure(X, mask=keep), 1e-12)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_mask_for_a_table(measured, name):
    X, keep = cloud(60), np.arange(60) % 3 > 0
    save(name, X)
    np.save("keep.npy", keep)
    pd.DataFrame({"keep": keep.astype(int)}).to_csv("keep.csv", index=False)
    for mask in ("keep.npy", "keep.csv"):
        agrees(measured(name, "--mask", mask)["union"], iso.measure(X, mask=keep), 1e-12)


def test_notes_go_to_stderr(folder, capsys):
    pd.DataFrame(cloud(), columns=list("abcde")).assign(word="x").to_csv("x.csv")
    assert main(["measure", "x.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    agrees(json.loads(out)["union"], iso.measure(cloud()), 1e-12)
    assert err.splitlines() == [
        "note: x.csv: ignored columns that hold no numbers: 'word'",
        "note: x.csv: ignored columns of an index: 'column 0'",
    ]


def shown(capsys, *arguments):
    assert main(["measure", *arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_the_table(folder, capsys):
    X, cov = cloud(300, 10), np.eye(10)
    save("x[red].npy", X)
    np.save("cov.npy", cov)
    expected = iso.measure(X, cov, 0.2)
    out, err = shown(capsys, "x[red].npy", "--zeta", "0.2", "--shrinkage-cov", "cov.npy")
    assert err == ""
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in out.splitlines() if "│" in line]
    ((index, share),) = expected.outlier_dimensions
    assert rows == [
        ["dimensions", "10"],
        ["points", "300"],
        ["IsoScore* (zeta=0.2)", f"{expected.score:.4f}"],
        ["unbiased score", f"{expected.unbiased_score:.4f} ± {expected.standard_error:.4f}"],
        ["effective dimensions", f"{expected.effective_dimensions:.1f}"],
        ["outlier dimensions", f"{index} ({share:.1%})"],
    ]


def test_the_chosen_estimator_comes_first(folder, capsys):
    save("x.npy", cloud())
    assert re.search("IsoScore .*unbiased score", shown(capsys, "x.npy")[0], re.DOTALL)
    out, _ = shown(capsys, "x.npy", "--estimator", "unbiased")
    assert re.search("unbiased score.*IsoScore ", out, re.DOTALL)


def test_outlier_dimensions_beyond_five_are_counted(folder, capsys):
    # 7 of 100 dimensions with 100 times the variance of the others hold 100/(793/100) ≈ 12.6 times the average each.
    save("x.npy", np.random.default_rng(0).normal(size=(1000, 100)) * np.r_[np.full(7, 10.0), np.ones(93)])
    out, _ = shown(capsys, "x.npy")
    assert len(re.findall(r"\d+ \(1\d\.\d%\)", out)) == 5
    assert re.search(r"and\s+(│\s+│\s+)?2 more", out)


def test_fewer_points_than_dimensions_are_warned_of(folder, capsys):
    save("x.npy", cloud(4, 5))
    out, _ = shown(capsys, "x.npy")
    assert "warning: fewer points (4) than dimensions (5)" in out


def test_an_undefined_unbiased_score(folder, capsys, failure):
    save("x.npy", cloud(3, 5))
    assert re.search(r"unbiased score\s+│ not defined", shown(capsys, "x.npy")[0])
    code, line = failure("measure", "x.npy", "--estimator", "unbiased")
    assert (code, "needs at least 4 points; got 3" in line) == (1, True)


def test_zeta_without_its_matrix_is_not_used_by_the_unbiased_score(folder, capsys):
    save("x.npy", cloud())
    _, err = shown(capsys, "x.npy", "--estimator", "unbiased", "--zeta", "0.5")
    assert err == "note: the unbiased score needs no shrinkage, so zeta is not used\n"


def test_the_layer_table(folder, capsys):
    save("x.npy", cloud(60).reshape(2, 30, 5))
    out, _ = shown(capsys, "x.npy", "--by-layer")
    assert re.findall(r"│ (\S+)\s+│ (\d+)\s+│ 0\.\d{4}", out) == [("0", "30"), ("1", "30"), ("union", "60")]


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
    assert re.search(rf"cov\.npy: shrinkage_cov: .*{message}", line)


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
    "missing file": (["measure", "nowhere.npy"], "'nowhere.npy' does not exist"),
    "folder": (["measure", "."], "is a directory"),
    "suffix": (["measure", "x.xyz"], "unknown suffix '.xyz'; the known ones are .npy"),
    "key": (["measure", "two.npz", "--key", "c"], "has no array 'c'; it holds a"),
    "open choice": (["measure", "two.npz"], "several arrays, choose one"),
    "mask": (["measure", "two.npz", "--key", "a", "--mask", "c"], "mask 'c': there is no such file, nor"),
    "layers": (["measure", "x.npy", "--by-layer"], "layers are the first of at least 3 axes"),
    "no layers": (["measure", "none.npy", "--by-layer"], r"got one array of shape \(0, 9, 5\)"),
    "option": (["measure", "x.npy", "--zeal", "1"], "No such option"),
    "estimator": (["measure", "x.npy", "--estimator", "best"], "Invalid value for '--estimator'"),
    "zeta is a word": (["measure", "x.npy", "--zeta", "much"], "Invalid value for '--zeta'"),
    "zeta above 1": (["measure", "x.npy", "--zeta", "1.5"], r"zeta: expected a number in \[0, 1\]; got 1.5"),
    "zeta below 0": (["measure", "x.npy", "--zeta", "-1"], r"zeta: expected a number in \[0, 1\]; got -1.0"),
    "zeta is NaN": (["measure", "x.npy", "--zeta", "nan"], r"zeta: expected a number in \[0, 1\]; got nan"),
    "zeta alone": (["measure", "x.npy", "--zeta", "0.2"], "shrinkage covariance, but none was given"),
    "missing matrix": (["measure", "x.npy", "--shrinkage-cov", "no.npy"], "no.npy: no such file"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use(failure, folder, case):
    arguments, message = WRONG_USE[case]
    save("x.npy", cloud())
    (folder / "x.xyz").touch()
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


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"{iso.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["measure", "--help"]])
def test_help(capsys, arguments):
    assert main(arguments) == 0
    assert "Usage: isoscore-star" in capsys.readouterr().out


RUN = "import sys; from isoscore_star.cli import main; code = main(sys.argv[1:]); "


def large_npy(path, rows, dim=256):
    """Make a .npy file that is large but for the most part a hole, with some points at its start."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.write(cloud(100, dim, np.float32).tobytes())
        file.truncate(start + rows * dim * 4)


def test_a_pipe_gets_no_progress_bar(folder):
    save("x.npy", cloud())
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["union"]["count"] == 300


@posix
def test_a_terminal_gets_a_progress_bar(folder):
    import pty

    save("x.npy", cloud())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", "--json"]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while part := os.read(ours, 4096):
                shown += part
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(out)["union"]["count"] == 300
    assert b"reading" in shown


@pytest.mark.parametrize("more", [[], ["--by-layer"]])
def test_signs_that_the_terminal_cannot_show(folder, more):
    save("x.npy", cloud(600).reshape(2, 300, 5))
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", *more]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"0\.\d{4} \? 0\.\d{4}", done.stdout)  # score ± standard error


@posix
def test_memory_does_not_grow_with_the_file(folder):
    report = RUN + "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, code)"
    peaks = []
    for rows in (40_000, 600_000):
        large_npy(folder / "x.npy", rows)
        command = [sys.executable, "-c", report, "measure", "x.npy", "--json"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        peak, code = map(int, out.splitlines()[-1].split())
        assert code == 0
        peaks.append(peak if sys.platform == "darwin" else peak * 1024)
    # The files have 41 MB and 614 MB; both fill the blocks (2**22 values, 16 MB, of which two are held at a time) and
    # the sample. So the peaks should be equal, and one more pair of blocks is what allocation may add by chance.
    assert peaks[1] - peaks[0] < 2 * 16 * 2**20


@posix
def test_ctrl_c(folder):
    # The program says when it has begun to read, which takes far longer than this test waits: the file has 200 GB.
    large_npy(folder / "x.npy", 200_000_000)
    announce = (
        "from isoscore_star.readers import StreamedCloud; take = StreamedCloud.take; "
        "StreamedCloud.take = lambda *args: (print('reading', flush=True), take(*args)); "
    )
    # A shell lets what it runs in the background ignore the signal, and so all that is started from there.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", heed + announce + RUN + "sys.exit(code)", "measure", "x.npy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")
