"""``isoscore-star compare``: the numbers of `compare` for files of every format, and what cannot be compared."""

import json
import re

import numpy as np
import pytest
from point_files import FORMATS, cloud, save

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("pandas")
pytest.importorskip("torch")
pytest.importorskip("safetensors")

from isoscore_star.cli import main


@pytest.fixture
def compared(folder, capsys):
    """Return the JSON of a command that succeeds."""

    def run(*arguments):
        code = main(["compare", *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def close(found, expected):
    """Compare plain numbers, whatever order they were summed in."""
    for name in ("difference", "log_ratio", "log_ratio_error", "cka", "debiased_cka"):
        wanted = getattr(expected, name)
        assert found[name] == (wanted if wanted is None else pytest.approx(wanted, rel=1e-12)), name
    for name in ("interval", "log_ratio_interval", "unpaired_log_ratio_interval"):
        assert found[name] == pytest.approx(list(getattr(expected, name)), abs=1e-12)
    assert found["angles"] == pytest.approx(list(expected.angles), abs=1e-6)
    for name in ("paired", "pairing", "differs"):
        assert found[name] == getattr(expected, name)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(compared, name):
    a = cloud(300, dtype=np.float64)
    b = a * np.linspace(0.5, 2, a.shape[1])
    save(name, a)
    np.save("b.npy", b)
    (row,) = compared(name, "b.npy")["rows"]
    close(row, iso.compare(a, b).rows[0])
    assert row["pairing"] == "paired over 300 points"


def test_sequences_in_more_than_a_block(compared):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 30, 8)) + rng.normal(size=(400, 1, 8))
    b = a + 0.3 * rng.normal(size=a.shape)
    mask = rng.random((400, 30)) > 0.2
    mask[399] = False  # the last sequence is padding
    np.save("a.npy", a)
    np.save("b.npy", b)
    np.save("mask.npy", mask)
    close(compared("a.npy", "b.npy")["rows"][0], iso.compare(a, b).rows[0])
    both = compared("a.npy", "b.npy", "--mask", "mask.npy")["rows"][0]
    close(both, iso.compare(a, b, mask_a=mask, mask_b=mask).rows[0])
    np.save("none.npy", np.ones((400, 30)))
    other = compared("a.npy", "b.npy", "--mask", "none.npy", "--mask-b", "mask.npy")["rows"][0]
    close(other, iso.compare(a, b, mask_b=mask).rows[0])
    assert other["pairing"] == "paired over 400 sequences"
    alone = compared("a.npy", "b.npy", "--not-paired")["rows"][0]
    close(alone, iso.compare(a, b, paired=False).rows[0])


def test_layers_and_directions(compared):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 70, 4, 6)) * np.geomspace(3, 1, 6)
    b = a * np.linspace(1, 2, 6)
    np.save("a.npy", a)
    np.savez("b.npz", **{str(i): layer for i, layer in enumerate(b)}, other=b[0])
    found = compared("a.npy", "b.npz", "--key-b", "*", "--by-layer", "--directions", 2)
    assert [row["name"] for row in found["rows"]] == ["0", "1", "2"]
    for row, x, y in zip(found["rows"], a, b, strict=True):
        close(row, iso.compare(x, y, directions=2).rows[0])
    assert "only B has other" in found["warnings"]


def test_labels(compared):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(70), 4)
    a = rng.normal(size=(280, 4)) + rng.normal(size=(70, 4))[labels]
    b = a * [1, 2, 3, 4]
    np.savez("a.npz", x=a, sentence=labels)
    np.savez("b.npz", x=b, sentence=labels, id=labels + 1)
    keys = ("--key", "x", "--groups", "sentence")
    close(compared("a.npz", "b.npz", *keys)["rows"][0], iso.compare(a, b, groups=labels).rows[0])
    other = compared("a.npz", "b.npz", *keys, "--groups-b", "id")["rows"][0]
    close(other, iso.compare(a, b, groups=labels, groups_b=labels + 1).rows[0])
    assert other["pairing"] == "not paired: other labels of groups"


def test_words_and_table(folder, capsys):
    a = np.random.default_rng(0).normal(size=(2000, 8))
    np.save("before.npy", a)
    np.save("after.npy", a * [3, 1, 1, 1, 1, 1, 1, 1])
    assert main(["compare", "before.npy", "after.npy"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("A: before.npy B: after.npy B uses 62 % fewer dimensions than A (95 %: 61 to 64 %), paired")
    row = iso.compare(a, a * [3, 1, 1, 1, 1, 1, 1, 1]).rows[0]
    for number in (f"{row.difference:+.4f}", f"{row.cka:.3f}", f"{row.angles[0]:.1f}°", "yes"):
        assert number in out


def test_names_of_files_are_no_markup(folder, capsys):
    np.save("[red]\x1b[31m.npy", cloud(20))
    assert main(["compare", "[red]\x1b[31m.npy", "[red]\x1b[31m.npy"]) == 0
    out = capsys.readouterr().out
    assert "A: [red]\\x1b[31m.npy" in out
    assert "have the same score" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.npy", "few.npy", "--paired"], 1, r"--paired: expected .*30 and 20 points"),
        (["a.npy", "same.npy"], 1, r"B: all 30 points are identical"),
        (["same.npy", "a.npy"], 1, r"A: all 30 points are identical"),
        (["a.npy", "nan.npy"], 1, r"nan.npy: .*NaN or inf, the first in row 3"),
        (["a.npy", "missing.npy"], 2, r"missing.npy: no such file"),
        (["a.npy"], 2, r"Missing argument 'B'"),
        (["a.npy", "few.npy", "--directions", "0"], 2, r"--directions: expected an integer of at least 1"),
        (["a.npy", "layers.npz", "--by-layer"], 2, r"a.npy: layers are the first"),
        (
            ["one.npz", "layers.npz", "--key", "*", "--by-layer"],
            1,
            r"the same name in both: A has z, w, B x, y",
        ),
    ],
)
def test_what_cannot_be_compared(failure, words, code, message):
    a = cloud(30)
    np.save("a.npy", a)
    np.save("few.npy", a[:20])
    np.save("same.npy", np.ones_like(a))
    np.save("nan.npy", np.where(np.arange(30)[:, None] == 3, np.nan, a))
    np.savez("layers.npz", x=a, y=a)
    np.savez("one.npz", z=a, w=a)
    found, text = failure("compare", *words)
    assert found == code
    assert re.search(message, text)
