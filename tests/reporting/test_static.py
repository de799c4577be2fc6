"""Figures, tables and fragments hold the numbers that they are of."""

from __future__ import annotations

import builtins
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import report_fakes as fakes
from report_pages import THINGS, thing

import isoscore_star as iso
from isoscore_star import reporting

figure = pytest.importorskip("matplotlib.figure")


def test_plot_draws_the_spectrum() -> None:
    measurement = thing("measurement")
    ax = measurement.plot(figure.Figure().subplots())
    eigenvalues = np.linalg.eigvalsh(measurement.cov)[::-1]
    drawn, even = ax.lines
    assert drawn.get_ydata() == pytest.approx(eigenvalues / eigenvalues.sum(), rel=1e-9)
    assert set(even.get_ydata()) == {1 / measurement.dim}


def test_plot_makes_a_figure_of_its_own() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    ax = reporting.plot(thing("scan"))
    assert ax.figure.number in pyplot.get_fignums()
    pyplot.close(ax.figure)
    assert dict(matplotlib.rcParams) == before


def test_plot_draws_the_layers_of_a_scan() -> None:
    scan = thing("scan")
    ax = reporting.plot(scan, figure.Figure().subplots())
    every, first, _ = ax.lines
    assert list(every.get_ydata()) == [layer.measurement.unbiased_score for layer in scan.layers]
    assert list(first.get_ydata()) == [layer.without["first tokens"].unbiased_score for layer in scan.layers]


@pytest.mark.parametrize("kind", THINGS)
def test_figures_are_written(kind: str, tmp_path: Any) -> None:
    for name, drawn in reporting.figures(thing(kind)).items():
        drawn.savefig(tmp_path / f"{name}.svg")
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        axes = [one for one in root.iter("{http://www.w3.org/2000/svg}g") if one.get("id", "").startswith("axes")]
        assert len(axes) == len(drawn.axes)
        marks = [mark for one in drawn.axes for mark in (*one.lines, *one.collections, *one.patches, *one.images)]
        assert marks


def test_names_are_no_mathematics_in_figures(tmp_path: Any) -> None:
    names = ["$x$", r"\frac{$", "$_^{"]
    layers = {name: iso.measure(fakes.points(i)) for i, name in enumerate(names)}
    for name, drawn in reporting.figures(layers).items():
        drawn.savefig(tmp_path / f"{name}.png")  # matplotlib raises for mathematics that it cannot read


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(library)
    other = {"pandas": "polars", "polars": "pandas"}[library]
    monkeypatch.setitem(sys.modules, other, None)
    scan = thing("scan")
    frame = reporting.to_frame(scan)
    assert isinstance(frame, module.DataFrame)
    assert list(frame["layer"]) == [*(layer.name for layer in scan.layers), "union", "embeddings"]
    assert list(frame["score"])[:2] == [layer.measurement.score for layer in scan.layers[:2]]
    without = scan.layers[9].without["first tokens"].unbiased_score
    assert list(frame["unbiased_score_without_first_tokens"])[9] == without
    assert list(reporting.to_frame(thing("comparison"))["difference"]) == [
        row.difference for row in thing("comparison").rows
    ]
    assert list(thing("measurement").to_frame()["count"]) == [thing("measurement").count]


def test_a_frame_takes_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    polars = pytest.importorskip("polars")
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    assert isinstance(thing("measurement").to_frame(), polars.DataFrame)


def test_a_frame_without_either_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(iso.MissingDependencyError, match="pandas or polars"):
        thing("measurement").to_frame()


@pytest.mark.parametrize(
    ("module", "what", "extra"), [("vl_convert", "to_html", "report"), ("matplotlib", "plot", "plot")]
)
def test_what_is_missing_is_named(module: str, what: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.reporting import _vega

    monkeypatch.setitem(sys.modules, module, None)
    _vega.bundle.cache_clear()
    with pytest.raises(iso.MissingDependencyError, match=rf"isoscore-star\[{extra}\]"):
        getattr(thing("measurement"), what)()


@pytest.mark.parametrize("what", [reporting.to_html, reporting.fragment, reporting.plot, reporting.to_frame])
def test_other_things_are_refused(what: Any) -> None:
    with pytest.raises(iso.InvalidTypeError, match="expected a Measurement"):
        what(builtins.object())


def test_a_fragment_has_the_numbers_and_no_script() -> None:
    html = thing("measurement")._repr_html_()
    assert f"{thing('measurement').unbiased_score:.3f}" in html
    assert "<script" not in html
    assert len(html) < 4000
