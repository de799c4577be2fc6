"""``isoscore-star report``: a page of every kind of input, and one line for what is none."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_fakes as fakes

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("vl_convert")

from isoscore_star.cli import main


class _Text(HTMLParser):
    """What a page says outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.words.append(data.strip())


@pytest.fixture
def reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the words of the page, and the names of all files that were written."""

    def run(*arguments: Any) -> tuple[str, list[str]]:
        code = main(["report", *map(str, arguments), "-o", "page.html"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return "\n".join(_Text(Path("page.html").read_text(encoding="utf-8")).words), out.split()

    return run


def test_a_file(reported: Any) -> None:
    states = fakes.points(1)
    np.save("states.npy", states)
    words, written = reported("states.npy")
    assert written == ["page.html"]
    assert "Isotropy of states.npy" in words
    assert f"{iso.measure(states).unbiased_score:.3f}" in words


def test_files_are_layers(reported: Any) -> None:
    for i in range(3):
        np.save(f"layer_{i}.npy", fakes.points(i))
    words, _ = reported("layer_0.npy", "layer_1.npy", "layer_2.npy")
    union = iso.measure(np.concatenate([fakes.points(i).reshape(-1, 48) for i in range(3)]), groups=None)
    assert "all layers together" in words
    assert f"{union.score:.3f}" in words
    for i in range(3):
        assert f"{iso.measure(fakes.points(i)).unbiased_score:.3f}" in words


def test_layers_of_one_array_with_a_mask(reported: Any) -> None:
    layers = np.stack([fakes.points(i) for i in range(3)])
    mask = np.ones(layers.shape[1:3], dtype=bool)
    mask[:, 8:] = False
    np.savez("states.npz", states=layers, mask=mask)
    words, _ = reported("states.npz", "--key", "states", "--mask", "mask", "--by-layer", "--title", "mine")
    assert "Isotropy of mine" in words
    for layer in layers:
        assert f"{iso.measure(layer, mask=mask).unbiased_score:.3f}" in words


def test_a_folder_of_fine_tunings(reported: Any) -> None:
    Path("runs").mkdir()
    Path("runs/results.json").write_text(json.dumps(fakes.runs()))
    words, written = reported("runs", "--figures", "figures")
    assert "Fine-tuning with I-STAR" in words
    best = max(
        (
            np.mean([run["metric"]["value"] for run in fakes.runs()["runs"] if (run["lam"], run["estimator"]) == key]),
            key,
        )
        for key in {(run["lam"], run["estimator"]) for run in fakes.runs()["runs"]}
    )
    assert f"The highest mean accuracy is {best[0]:.3f}, with λ = {best[1][0]:g}" in words
    assert sorted(written) == sorted(
        ["page.html", *(f"figures/{name}.{kind}" for name in ("metric", "isotropy") for kind in ("svg", "png"))]
    )


def test_two_files_are_compared(reported: Any) -> None:
    before = np.stack([fakes.points(i) for i in range(2)])
    after = before * np.linspace(1, 3, 48)
    for name, layers in (("before.npz", before), ("after.npz", after)):
        np.savez(name, states=layers)
    words, _ = reported("before.npz", "--against", "after.npz", "--key", "states", "--by-layer")
    assert "Isotropy of before.npz and after.npz" in words
    for layer in (*before, *after):
        assert f"{iso.measure(layer).unbiased_score:.3f}" in words


def test_equal_results_are_equal_files(reported: Any) -> None:
    np.save("states.npy", fakes.points(1))
    found = []
    for name in ("one", "other"):
        reported("states.npy", "--figures", name)
        figures = {path.name: path.read_bytes() for path in Path(name).iterdir()}
        found.append((Path("page.html").read_bytes(), figures))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("states.npy", "-o", "report.pdf"), 2, "ends in .html; got report.pdf"),
        (("states.npy", "-o", "missing/report.html"), 1, "cannot write to missing"),
        (("empty",), 2, "expected the folder of a scan .* it holds neither"),
        (("empty", "states.npy"), 2, "empty is a folder, which is reported on alone"),
        (("unfinished",), 1, "holds no finished run yet"),
        (("damaged",), 1, "cannot be read as the results of a fine-tuning"),
        (("unfinished", "--by-layer"), 2, "belongs to files of points"),
        (("states.npy", "states.npy", "--against", "states.npy"), 2, "it compares two inputs; got 2"),
        (("nowhere.npy",), 2, "nowhere.npy"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(failure: Any, arguments: tuple[str, ...], code: int, message: str) -> None:
    np.save("states.npy", fakes.points(1))
    for name in ("empty", "unfinished", "damaged"):
        Path(name).mkdir()
    Path("unfinished/results.json").write_text('{"settings": {}, "versions": {}, "runs": []}')
    Path("damaged/results.json").write_text('{"settings": {}, "runs": [{"lam": "high"}]}')
    found, line = failure("report", *arguments)
    assert found == code
    assert re.search(message, line)
    assert not list(Path().glob("**/*.partial"))
