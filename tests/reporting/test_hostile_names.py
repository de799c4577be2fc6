"""No name of a file, a layer, a token, a setting or a model becomes markup or a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import report_fakes as fakes

import isoscore_star as iso
from isoscore_star import reporting

HOSTILE = [
    "</script><script>window.ran = 1; alert(1)</script>",
    '"><img src=x onerror="window.ran = 1">',
    "'><svg onload=window.ran=1>",
    "<!--<script>",
    "javascript:window.ran=1//\u2028\u2029\u202e",
    "a{b}${window.ran=1}`\\",
    "__proto__",
    "constructor",
    "\ud800 lone",
    "datum.x); window.ran = (1",
]


def _scan(name: str) -> Any:
    found = fakes.scan([f"{name} {i}" for i in range(3)], model=name, token=name)
    without = {f"without {name}": found.layers[0].without["first tokens"]}
    layers = tuple(replace(layer, without=without) for layer in found.layers)
    return replace(found, layers=layers, notes=(name,), warnings=(name,), provenance={name: name, "a": {name: [name]}})


THINGS: dict[str, Callable[[str], Any]] = {
    "measurement": lambda name: iso.measure(fakes.points(1)),
    "layers": lambda name: {name: iso.measure(fakes.points(1)), f"{name}2": iso.measure(fakes.points(2))},
    "scan": _scan,
    "comparison": lambda name: replace(fakes.comparison([name, f"{name}."], name, name), sentences=(name,)),
    "runs": lambda name: fakes.runs(name, name) | {"settings": {name: name}},
}


@pytest.mark.sampled("kind")
@pytest.mark.parametrize("kind", THINGS)
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_runs(kind: str, name: str, opened: Any) -> None:
    found = opened(reporting.to_html(THINGS[kind](name), name))
    for cell in found.page.locator(".chart .mark-symbol path, .chart .mark-rect path").all()[:3]:
        cell.hover(force=True)
    assert found.page.evaluate("window.ran") is None
    assert found.asked_by_dialog == []
    assert found.said == []
    assert found.count("img") == 0
    assert found.count("script") == 3  # the data, the charts' library, the page's own
    assert found.page.evaluate("Object.keys(Object.prototype).length") == 0
    title = found.page.locator("h1").inner_text()
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)
    assert title == f"Isotropy of {shown}"


def test_a_script_that_came_in_is_refused(opened: Any) -> None:
    """The policy holds, too: it is the second wall, tried here without the first."""
    page = reporting.to_html(iso.measure(fakes.points(1)), "x")
    found = opened(page.replace("<main", "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'><main", 1))
    assert found.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in found.said)


@pytest.mark.parametrize("name", HOSTILE)
def test_fragments_have_no_markup_of_names(name: str, opened: Any) -> None:
    whole = "".join(reporting.fragment(make(name)) for kind, make in THINGS.items() if kind in ("scan", "comparison"))
    html = f"<!DOCTYPE html><meta charset=utf-8><body>{whole}</body>"
    found = opened(html, wait=False)
    assert found.page.evaluate("window.ran") is None
    assert found.count("img, script, svg, iframe") == 0
    assert found.said == []
