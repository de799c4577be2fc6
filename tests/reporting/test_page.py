"""In a browser the page draws its data, says nothing on the console, and asks the network for nothing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from report_pages import THINGS, page, thing


@pytest.mark.parametrize("kind", THINGS)
def test_it_is_drawn_without_a_word_and_without_a_network(kind: str, opened: Any) -> None:
    found = opened(page(kind))
    assert found.said == []
    assert [url for url in found.asked if not url.startswith("file:")] == []
    assert len(found.asked) == 1
    charts = found.count(".chart")
    assert charts >= 2
    assert found.count(".chart svg.marks") == charts


def test_a_mark_for_each_value(opened: Any) -> None:
    found, scan = opened(page("scan")), thing("scan")
    layers = len(scan.layers)
    assert (
        found.count("#chart-profile .mark-symbol.layer_1_layer_1_marks path") == 3 * layers
    )  # all, and without two kinds
    outliers = {i for layer in scan.layers for i, _ in layer.measurement.outlier_dimensions}
    assert found.count("#chart-heat .mark-rect path") == layers * len(outliers)
    points = found.count("#chart-spectrum-linear .mark-symbol path")
    assert points == scan.embeddings.measurement.dim  # so few that none is left out
    assert found.count("#chart-stability .mark-line path") == 2


def test_a_point_for_each_run_and_each_side(opened: Any) -> None:
    runs = opened(page("runs"))
    for name in ("metric", "isotropy"):
        assert runs.count(f"#chart-sweep-{name} .mark-symbol.layer_1_marks path") == len(thing("runs")["runs"])
    compared = opened(page("comparison"))
    rows = thing("comparison").rows
    assert compared.count("#chart-compared .mark-symbol.layer_1_marks path") == 2 * len(rows)
    sure = [row for row in rows if row.interval is not None]
    assert compared.count("#chart-differences .mark-symbol.layer_2_marks path") == len(sure)


def test_a_pointer_is_told_dimension_and_value(opened: Any) -> None:
    found, scan = opened(page("scan")), thing("scan")
    variances = np.stack([layer.measurement.variances for layer in scan.layers])
    shares = variances / variances.sum(axis=1, keepdims=True)
    layer, dimension = 7, int(shares[7].argmax())
    chosen = sorted({i for one in scan.layers for i, _ in one.measurement.outlier_dimensions})
    place = layer * len(chosen) + chosen.index(dimension)
    found.page.locator("#chart-heat .mark-rect path").nth(place).hover()
    told = found.page.locator("#vg-tooltip-element.visible").inner_text().split("\n")
    values = dict(re.split(r"\t", row) for row in told if "\t" in row)
    assert values["dimension"] == str(dimension)
    assert values["layer"] == scan.layers[layer].name
    assert float(values["share of variance"].rstrip("%")) == pytest.approx(100 * shares[layer, dimension], rel=5e-3)


def test_the_chosen_layer_is_the_one_that_is_drawn(opened: Any) -> None:
    found, scan = opened(page("scan")), thing("scan")
    line = "#chart-spectrum-linear .mark-line.layer_1_layer_0_marks path"
    before = found.page.locator(line).get_attribute("d")
    found.page.select_option("#chosen-layer", label="layer 9")
    expect(found.page.locator(line)).not_to_have_attribute("d", before or "")
    found.page.locator("#chart-spectrum-linear .mark-symbol path").first.hover(force=True)
    told = found.page.locator("#vg-tooltip-element.visible").inner_text()
    spectrum = np.linalg.eigvalsh(scan.layers[9].measurement.cov)[::-1]
    share = float(re.search(r"share of variance\t([\d.]+)%", told)[1])  # type: ignore[index]
    assert share == pytest.approx(100 * spectrum[0] / spectrum.sum(), rel=5e-3)


@pytest.mark.parametrize("kind", ["scan", "measurement"])
def test_the_verdict_comes_first(kind: str, opened: Any) -> None:
    text = opened(page(kind)).page.locator("main").inner_text()
    one = thing(kind) if kind == "measurement" else thing(kind).embeddings.measurement
    assert text.index(f"{one.unbiased_score:.3f}") < 200
    assert text.index("every direction is used evenly") < 400
    assert "What can be done" in text


def test_without_a_script_the_tables_are_there(opened: Any) -> None:
    found = opened(page("scan"), wait=False, java_script_enabled=False)
    assert found.page.locator(".noscript").is_visible()
    assert found.count("#layers tbody tr") == len(thing("scan").layers)
