"""``isoscore-star measure`` of points in groups: by the first of three axes, by labels in any file, or none."""

import re

import numpy as np
import pytest
from point_files import agrees, cloud, save

import isoscore_star as iso
from isoscore_star.readers import _source

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star.cli import main

pd = pytest.importorskip("pandas")
safetensors = pytest.importorskip("safetensors.numpy")


def states(layers=1, groups=70, tokens=6, seed=0):
    """Tokens of sequences, which resemble each other, in several layers."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(layers, groups, 1, 5)) * [3, 1, 1, 1, 1] + rng.normal(size=(layers, groups, tokens, 5))
    return points if layers > 1 else points[0]


def test_three_axes_are_sequences(measured):
    X = states()
    save("x.npy", X)
    found = measured("x.npy")
    agrees(found["union"], iso.measure(X), 1e-12)
    assert (found["estimator"], found["union"]["groups"], found["union"]["group_count"]) == ("unbiased", "axis 0", 70)
    assert found["union"]["design_effect"] == pytest.approx(iso.measure(X).design_effect, rel=1e-9)
    assert found["union"]["interval"] == pytest.approx(iso.measure(X).interval, rel=1e-9)
    assert found["union"]["longest_points"] == pytest.approx(iso.measure(X).longest_points._asdict(), rel=1e-9)


@pytest.mark.parametrize("tokens", [1, 7, 50])
def test_blocks_that_cut_a_sequence(measured, monkeypatch, tokens):
    monkeypatch.setattr(_source, "_LEAST_ROWS", 16)
    monkeypatch.setattr(_source, "_BLOCK_VALUES", 80)
    X, keep = states(tokens=tokens), np.random.default_rng(1).random((70, tokens)) < 0.8
    save("x.npy", X)
    np.save("keep.npy", keep)
    agrees(measured("x.npy")["union"], iso.measure(X), 1e-12)
    agrees(measured("x.npy", "--mask", "keep.npy")["union"], iso.measure(X, mask=keep), 1e-12)


def test_layers_of_the_same_sequences(measured):
    X = states(layers=3)
    save("x.npy", X)
    found = measured("x.npy", "--by-layer")
    agrees(found["union"], iso.measure(list(X)), 1e-12)
    for layer, one in zip(found["layers"], X, strict=True):
        agrees(layer, iso.measure(one), 1e-12)
    assert found["union"]["group_count"] == found["layers"][0]["group_count"] == 70
    names = [f"{i}.npy" for i in range(3)]
    for name, one in zip(names, X, strict=True):
        save(name, one)
    agrees(measured(*names)["union"], iso.measure(list(X)), 1e-12)
    agrees(measured(*names, "--by-layer")["union"], iso.measure(list(X)), 1e-12)


def test_files_with_fewer_sequences_are_groups_by_their_index(measured):
    parts = [states(groups=70), states(groups=30, seed=1)]
    for name, part in zip(("a.npy", "b.npy"), parts, strict=True):
        save(name, part)
    labels = [np.repeat(np.arange(len(part)), 6).reshape(len(part), 6) for part in parts]
    found, expected = measured("a.npy", "b.npy")["union"], iso.measure(parts, groups=labels)
    assert (found["groups"], found["group_count"]) == ("axis 0", 70)
    assert found["standard_error"] == pytest.approx(expected.standard_error, abs=1e-12)


@pytest.mark.parametrize("kind", ["integers", "strings"])
@pytest.mark.parametrize("form", ["x.npy", "x.npz", "x.safetensors", "x.csv", "x.tsv", "x.parquet", "x.feather"])
def test_labels(measured, capsys, form, kind):
    order = np.random.default_rng(2).permutation(70 * 6)
    X, labels = states().reshape(-1, 5)[order], np.repeat(np.arange(70), 6)[order]
    if kind == "strings":
        labels = np.char.add("s", labels.astype(str))
    if form == "x.npy":
        save(form, X)
        np.save("g.npy", labels)
        arguments = [form, "--groups", "g.npy"]
    elif form == "x.npz":
        np.savez(form, x=X, g=labels)
        arguments = [form, "--key", "x", "--groups", "g"]
    elif form == "x.safetensors":
        if kind == "strings":
            pytest.skip("safetensors has no strings")
        safetensors.save_file({"x": X, "g": labels}, form)
        arguments = [form, "--key", "x", "--groups", "g"]
    else:
        table = pd.DataFrame(X, columns=list("abcde")).assign(g=labels)
        if form in ("x.csv", "x.tsv"):
            table.to_csv(form, sep="," if form == "x.csv" else "\t", index=False)
        else:
            (table.to_parquet if form == "x.parquet" else table.to_feather)(form)
        arguments = [form, "--columns", "[a-e]", "--groups", "g"]
    found = measured(*arguments)["union"]
    agrees(found, iso.measure(X, groups=labels), 1e-12)
    assert (found["groups"], found["group_count"]) == ("labels", 70)


def test_a_label_is_one_group_in_all_files(measured):
    X = states(layers=2)
    labels = np.repeat(np.random.default_rng(3).permutation(70), 6)
    for name, one in zip(("a.npz", "b.npz"), X, strict=True):
        np.savez(name, x=one.reshape(-1, 5), g=labels)
    found = measured("a.npz", "b.npz", "--key", "x", "--groups", "g", "--by-layer")
    flat = [one.reshape(-1, 5) for one in X]
    agrees(found["union"], iso.measure(flat, groups=[labels, labels]), 1e-12)
    np.save("labels.npy", labels)
    np.save("x.npy", X.reshape(2, -1, 5))  # layers of rows, which share their labels
    assert measured("x.npy", "--by-layer", "--groups", "labels.npy")["union"] == found["union"]


def test_no_groups(measured, capsys):
    X = states()
    save("x.npy", X)
    found = measured("x.npy", "--groups", "none")
    assert (found["estimator"], found["union"]["groups"], found["union"]["group_count"]) == (
        "shrinkage",
        "independent points",
        None,
    )
    agrees(found["union"], iso.measure(X, groups=None), 1e-12)
    assert "neighbouring rows resemble each other" in found["union"]["warnings"][0]


def test_too_few_sequences(measured, failure):
    save("x.npy", states(groups=3))
    found = measured("x.npy")["union"]
    assert (found["unbiased_score"], found["standard_error"]) == (None, None)
    assert found["warnings"] == ["too few groups (3) for the unbiased score"]
    code, line = failure("measure", "x.npy", "--estimator", "unbiased")
    assert (code, "at least 4 groups" in line) == (1, True)


def test_the_table_of_groups(folder, capsys):
    X = states()
    save("x.npy", X)
    expected = iso.measure(X)
    low, high = expected.interval
    assert main(["measure", "x.npy"]) == 0
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert rows[1:7] == [
        ["groups", "70 groups (axis 0)"],
        ["points", "420"],
        ["score of halves", f"{expected.unbiased_score:.4f} (95 %: {low:.4f} to {high:.4f})"],
        ["IsoScore", f"{expected.score:.4f}"],
        ["if independent", f"{expected.independent_score:.4f}"],
        ["design effect", f"{expected.design_effect:.1f}"],
    ]


MISTAKES = {
    "four axes": (
        ["four.npy"],
        r"four.npy: arrays of three axes .*got shape \(2, 3, 4, 5\).*--by-layer.*--groups none",
    ),
    "two and three axes": (["x.npy", "flat.npy"], "both came in one union.*--groups none"),
    "no such labels": (["flat.npy", "--groups", "g"], "groups 'g': there is no such file, nor such an array"),
    "no such column": (["x.csv", "--groups", "z"], "groups 'z': .*no single column 'z'; its columns are 'a', 'b', 'g'"),
    "shape": (["flat.npy", "--groups", "nine.npy"], r"nine.npy: the labels need shape \(420,\).*got \(9,\)"),
    "fewer than rows": (
        ["x.csv", "--columns", "[ab]", "--groups", "nine.npy"],
        "more points than the 9 entries of the labels",
    ),
    "more than rows": (["x.csv", "--columns", "[ab]", "--groups", "many.npy"], "20 points, but the labels 420 entries"),
    "NaN": (["flat.npy", "--groups", "nan.npy"], "nan.npy: labels of groups are integers or strings; got NaN"),
    "missing": (["x.csv", "--columns", "[ab]", "--groups", "g"], r"row 3 \(counted from 0\): the group has no label"),
    "a dimension": (["x.csv", "--groups", "b"], r"the groups 'b' count as a dimension; name the others \(--columns\)"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(failure, folder, case):
    arguments, message = MISTAKES[case]
    save("x.npy", states())
    save("four.npy", cloud(24).reshape(2, 3, 4, 5))
    np.save("flat.npy", states().reshape(-1, 5))
    np.save("nine.npy", np.arange(9))
    np.save("many.npy", np.arange(420))
    np.save("nan.npy", np.where(np.arange(420) == 7, np.nan, 1.0))
    table = pd.DataFrame(cloud(20, 2), columns=["a", "b"]).assign(g=["s"] * 3 + [None] + ["t"] * 16)
    table.to_csv("x.csv", index=False)
    code, line = failure("measure", *arguments)
    assert code in (1, 2)
    assert re.search(message, line)
