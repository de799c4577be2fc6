"""``isoscore-star transform``: the numbers of `SpectralTransform` for every file, written whole or not at all."""

import json

import numpy as np
import pytest
from full_disk import no_file_above
from point_files import FORMATS, cloud, save

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("sklearn")
pytest.importorskip("pandas")
pytest.importorskip("torch")
pytest.importorskip("safetensors")

from isoscore_star.cli import main
from isoscore_star.transforms import SpectralTransform


@pytest.fixture
def transformed(folder, capsys):
    """Return the JSON and the new points of a command that succeeds."""

    def run(*arguments):
        code = main(["transform", *map(str, arguments), "--output", "new.npy", "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out), np.load("new.npy")

    return run


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(transformed, name):
    X = cloud(300, dtype=np.float64)
    save(name, X)
    found, new = transformed(name, "--remove", 1, "--power", 0.5, "--shrinkage", 0.1)
    wanted = SpectralTransform(1, 0.5, 0.1).fit_transform(X)
    assert np.allclose(new, wanted, rtol=0, atol=1e-12 * np.ptp(X))
    assert found["score_before"] == pytest.approx(iso.isoscore(X), abs=1e-12)
    assert found["score_after"] == pytest.approx(iso.isoscore(wanted), abs=1e-12)
    assert (found["count"], found["dim"]) == X.shape


def test_more_points_than_a_block_holds_and_three_axes(transformed):
    X = cloud(20_000, 300, np.float32).reshape(100, 200, 300)
    save("x.npy", X)
    _, new = transformed("x.npy", "--power", 1)
    assert (new.shape, new.dtype) == (X.shape, X.dtype)
    wanted = SpectralTransform(power=1.0).fit_transform(X.reshape(-1, 300).astype(np.float64))
    # A sum of 300 products of float32.
    assert np.allclose(new.reshape(-1, 300), wanted, rtol=0, atol=300 * 2**-24 * np.ptp(wanted))


def test_fitted_to_other_points(transformed):
    train, X = cloud(200, seed=1), cloud(50)
    save("train.npy", train)
    save("x.npy", X)
    found, new = transformed("x.npy", "--power", 1, "--fit", "train.npy")
    assert np.allclose(new, SpectralTransform(power=1.0).fit(train).transform(X), rtol=0, atol=1e-12 * np.ptp(X))
    assert found["fitted_to"] == 200
    assert "score_before" not in found


def test_padding_is_not_fitted_to(transformed):
    X, keep = cloud(100, dtype=np.float64), np.arange(100) < 80
    X[~keep] = np.nan
    save("x.npy", X)
    np.save("keep.npy", keep)
    found, new = transformed("x.npy", "--mask", "keep.npy", "--remove", 1)
    assert np.allclose(new[keep], SpectralTransform(remove=1).fit_transform(X[keep]), atol=1e-10)
    assert found["count"] == 80


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--output", "new.csv"], 2, "--output: expected a file that ends in .npy"),
        (["--output", "new.npy", "--power", "2"], 2, "--power: expected a number in [0, 1]"),
        (["--output", "new.npy", "--remove", "99"], 2, "--remove: of 5 directions one has to stay"),
        (["--output", "new.npy", "--fit", "wide.npy"], 2, "--fit: expected points of 5 dimensions"),
        (["--output", "no_folder/new.npy"], 1, "--output: cannot write to no_folder"),
        (["--output", "new.npy", "--fit", "line.npy", "--remove", "1"], 1, "line.npy: no variance is left"),
        (["--output", "new.npy", "--fit", "empty.npy"], 1, "empty.npy: a covariance needs at least 2 points"),
    ],
)
def test_failures_are_one_line_and_leave_no_file(failure, folder, arguments, code, message):
    save("x.npy", cloud(30, 5))
    save("wide.npy", cloud(30, 6))
    save("line.npy", np.outer(np.arange(9.0), np.ones(5)))
    save("empty.npy", np.ones((0, 5)))
    given = sorted(path.name for path in folder.iterdir())
    assert failure("transform", "x.npy", *arguments)[0] == code
    assert message in failure("transform", "x.npy", *arguments)[1]
    assert sorted(path.name for path in folder.iterdir()) == given


def test_a_value_that_is_not_finite(failure, folder):
    X = cloud(30, 5)
    save("train.npy", X)
    X[7, 2] = np.nan
    save("x.npy", X)
    code, message = failure("transform", "x.npy", "--fit", "train.npy", "--output", "new.npy")
    assert code == 1
    assert "x.npy: every value has to be finite; got NaN or inf, the first in row 7" in message
    assert sorted(path.name for path in folder.iterdir()) == ["train.npy", "x.npy"]


def test_columns_are_those_that_were_fitted(failure, folder):
    pd = pytest.importorskip("pandas")
    pd.DataFrame(cloud(30, 3), columns=list("abc")).to_csv("x.csv", index=False)
    pd.DataFrame(cloud(30, 3), columns=list("cab")).to_csv("y.csv", index=False)
    code, message = failure("transform", "x.csv", "--fit", "y.csv", "--output", "new.npy")
    assert code == 2
    assert "--fit: expected the columns of x.csv, a, b, c; got c, a, b" in message


def test_large_integers_are_centred(transformed):
    X = (cloud(200, 5) * 10).astype(np.int64) + 2**40
    save("x.npy", X)
    _, new = transformed("x.npy", "--power", 1)
    assert np.abs(new.mean(axis=0)).max() < 1e-5 * new.std()  # a mean that is rounded to float32 is off by 2¹⁶


def test_a_full_disk(failure, folder):
    save("x.npy", cloud(20_000, 8, np.float64))
    with no_file_above(200 * 1024):
        code, message = failure("transform", "x.npy", "--output", "new.npy")
    assert code == 1
    assert "--output: cannot write to .: File too large" in message
    assert [path.name for path in folder.iterdir()] == ["x.npy"]


def test_one_line_for_people(folder, capsys):
    save("x.npy", cloud(30, 5))
    assert main(["transform", "x.npy", "--power", "1", "--output", "new.npy"]) == 0
    assert capsys.readouterr().out.startswith("new.npy: 30 points of 5 dimensions, IsoScore 0.")
