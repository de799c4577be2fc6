"""``isoscore-star measure --by``: classes from a column, a file or the first axis; tables, JSON, files."""

import csv
import json
import re

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

import isoscore_star as iso
from isoscore_star.cli import main


@pytest.fixture
def table(folder, rng):
    """A table of points with a language and a document, and the same as arrays."""
    points, languages, documents = rng.normal(size=(240, 4)), rng.integers(0, 3, size=240), np.arange(240) // 6
    names = np.array(["de", "en", "fr"])[languages]
    with (folder / "x.csv").open("w") as file:
        file.write("a,b,c,e,language,document\n")
        for row, *labels in zip(points.tolist(), names, documents, strict=True):
            file.write(",".join(map(str, [*row, *labels])) + "\n")
    np.save("x.npy", points)
    np.save("languages.npy", names)
    np.savez("x.npz", points=points, language=names.astype("S2"))
    return points, names, documents


@pytest.mark.parametrize(
    "words",
    [
        ["x.csv", "--columns", "[abce]", "--by", "language"],
        ["x.npy", "--by", "languages.npy"],
        ["x.npz", "--key", "points", "--by", "language"],
    ],
)
def test_where_labels_come_from(folder, table, capsys, words):
    points, names, _ = table
    assert main(["measure", *words, "--groups", "none", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = iso.measure_groups(points, by=names).to_dict()
    assert found["classes"] == expected["classes"]
    assert found["between"] == expected["between"]
    assert (found["files"], found["by"]) == ([words[0]], words[-1])


def test_groups_within_classes(folder, table, capsys):
    points, names, documents = table
    assert main(["measure", "x.csv", "--columns", "[abce]", "--by", "language", "--groups", "document", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = iso.measure_groups(points, by=names, groups=documents)
    assert found["classes"] == expected.to_dict()["classes"]
    assert (found["whole"]["groups"], found["whole"]["group_count"]) == ("labels", 40)


def test_several_files_are_one_union(folder, table, capsys):
    points, names, _ = table
    np.save("y.npy", points * 2)
    np.savez("both.npz", first=points, second=points * 2)
    assert main(["measure", "x.npy", "y.npy", "--by", "languages.npy", "--groups", "none", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = iso.measure_groups(np.concatenate([points, points * 2]), by=np.concatenate([names, names]))
    assert found["classes"] == expected.to_dict()["classes"]


def test_arrays_of_clouds_and_masks(folder, rng, capsys):
    clouds, mask = rng.normal(size=(30, 9, 3)), rng.random((30, 9)) < 0.8
    np.save("clouds.npy", clouds)
    np.save("mask.npy", mask)
    assert main(["measure", "clouds.npy", "--by", "auto", "--mask", "mask.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == iso.measure_groups(clouds, mask=mask).to_dict()["classes"]


def test_table(folder, table, rng, capsys):
    np.save("many.npy", rng.normal(size=(400, 5, 3)))
    for words, parts in (
        (["x.csv", "--by", "language"], ["3 (by language)", "unbiased scores of classes", "variance between", "│ fr"]),
        (["many.npy", "--by", "auto"], ["400 (by auto)", "lowest", "highest", "if all classes were alike"]),
    ):
        assert main(["measure", *words]) == 0
        out = capsys.readouterr().out
        assert all(part in out for part in parts)
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_results_in_a_file(folder, table, rng, capsys, suffix):
    points, names, _ = table
    names = np.append(names, "a\nlabel")
    np.save("x.npy", np.concatenate([points, points[:1]]))
    np.save("languages.npy", names)
    assert main(["measure", "x.npy", "--by", "languages.npy", "-o", f"out{suffix}"]) == 0
    if suffix == ".csv":
        with (folder / "out.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0] == dict.fromkeys(rows[0], "") | {"label": "a\nlabel", "count": "1"}
        scores = [float(row["score"]) for row in rows[1:]]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table("out.parquet").to_pylist()
        assert rows[0] == dict.fromkeys(rows[0]) | {"label": "a\nlabel", "count": 1}
        scores = [row["score"] for row in rows[1:]]
    expected = [iso.isoscore(points[names[:-1] == name]) for name in ("de", "en", "fr")]
    assert scores == pytest.approx(expected, abs=1e-13)
    assert "a\\nlabel" not in capsys.readouterr().out  # it has no score, so it is neither low nor high
    assert [path.name for path in folder.glob(".*")] == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["x.csv", "--by", "nothing"], 2, r"error: by 'nothing': there is no such file, nor such an array"),
        (["x.csv", "--by", "none"], 2, r"error: --by: expected a file, or an array or column"),
        (["x.npy", "--by", "auto"], 2, r"error: --by: 'auto' is the first of three axes"),
        (["x.npy", "--by", "languages.npy", "--zeta", "0.5"], 2, r"error: --zeta: it is of the whole alone"),
        (["x.npy", "--by", "languages.npy", "--by-layer"], 2, r"error: --by-layer: it is of the whole alone"),
        (
            ["x.npy", "--by", "languages.npy", "-o", "out.txt"],
            2,
            r"error: --output: expected a file that ends in",
        ),
        (["x.npy", "-o", "out.csv"], 2, r"error: --output: it is the table of the classes of --by"),
        (["x.npy", "--by", "short.npy"], 1, r"error: short.npy: the labels need shape \(240,\)"),
        (["x.csv", "--columns", "[abce]", "--by", "short.npy"], 2, r"error: x.csv: has 240 points, but 3 labels"),
        (["bad.npy", "--by", "languages.npy"], 1, r"error: bad.npy: every value has to be finite; .* row 7"),
    ],
)
def test_mistakes(folder, table, failure, words, code, message):
    points, _, _ = table
    np.save("short.npy", np.arange(3))
    points[7, 1] = np.inf
    np.save("bad.npy", points)
    found, err = failure("measure", *words)
    assert found == code
    assert re.match(message, err)
    assert not (folder / "out.txt").exists()


def test_points_that_do_not_fit(folder, table, failure, monkeypatch):
    asked = []

    def require(name, needed, what, advice):
        asked.append(needed)
        raise iso.InvalidValueError(name, f"{what} takes much of memory; none is free{advice}")

    monkeypatch.setattr("isoscore_star.cli.groupwise.require_memory", require)
    code, err = failure("measure", "x.csv", "--columns", "[abce]", "--by", "language")
    assert code == 1
    assert err.startswith("error: x.csv: its points are taken class by class")
    assert err.endswith("Save them as .npy, which is read in parts\n")
    assert asked == [240 * 4 * 8]  # the only block is there; it is joined, and so once more
    assert main(["measure", "x.npy", "--by", "languages.npy", "--json"]) == 0
