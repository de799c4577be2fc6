"""The page: one file that asks the network for nothing, and runs no script but its own three."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from isoscore_star._version import __version__
from isoscore_star.reporting._charts import CONFIG, Chart
from isoscore_star.reporting._compared import compared
from isoscore_star.reporting._content import Content, content_of
from isoscore_star.reporting._escaping import json_in_script, visible
from isoscore_star.reporting._html import Html, element, joined, listed
from isoscore_star.reporting._section import Section
from isoscore_star.reporting._sweep import sweep
from isoscore_star.reporting._tables import layers, measures, provenance, spectrum
from isoscore_star.reporting._vega import bundle
from isoscore_star.reporting._verdict import verdict, warnings
from isoscore_star.reporting._why import why


def to_html(thing: Any, name: str | None = None) -> str:
    """Write a report: one HTML page with everything in it.

    Parameters
    ----------
    thing : Measurement, mapping of str to Measurement, Scan, Comparison, or the content of a results.json
        What it is of. Of a mapping, the entries are layers, and one called ``"union"`` is the union of all.
    name : str, optional
        What it is called, such as a file's name.

    Returns
    -------
    str
        The page, under 3 MB, mostly the charts' library.

    Raises
    ------
    InvalidTypeError
        If it is none of these.
    MissingDependencyError
        If vl-convert-python is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star import reporting
    >>> page = reporting.to_html(iso.measure(np.random.default_rng(0).normal(size=(100, 8))), "normal.npy")
    >>> page[:15], "normal.npy" in page, len(page) < 3e6
    ('<!DOCTYPE html>', True, True)
    """
    content = content_of(thing, name)
    found = sections(content)
    charts = [chart for section in found for chart in section.charts]
    scripts = [bundle(), _read("page.js")] if charts else [_read("page.js")]
    title = f"Isotropy of {content.title}"
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html(f'<meta name="generator" content="isoscore-star {__version__}">'),
        element("title", title),
        Html(f"<style>{_read('page.css')}</style>"),
    ]
    contents = listed([element("a", section.title, href=f"#{section.id}") for section in found])
    body = [
        Html('<a class="skip" href="#content">To the content</a>'),
        element("header", joined([element("h1", title), element("nav", contents, aria_label="Sections")])),
        Html('<noscript><p class="noscript">The charts need JavaScript; the tables do not.</p></noscript>'),
        element("main", joined(section.html() for section in found), id="content"),
        element("footer", element("p", f"Made by isoscore-star {__version__}. All of this page is in this file.")),
        Html(f'<script type="application/json" id="charts">{json_in_script(_drawn(charts))}</script>'),
        *(Html(f"<script>{script}</script>") for script in scripts),
    ]
    whole = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(whole)


def sections(content: Content) -> list[Section]:
    """Return the report's sections, without those that have nothing to show."""
    makers = (verdict, compared, sweep, warnings, layers, why, spectrum, measures, provenance)
    return [section for make in makers for section in make(content)]


def _policy(scripts: list[str]) -> str:
    """Allow the page's own scripts by their hashes: markup that came in from outside could not run one."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _drawn(charts: list[Chart]) -> dict[str, Any]:
    data = {name: rows.to_dict() for chart in charts for name, rows in chart.data.items()}
    drawn = [
        {
            "id": chart.id,
            "spec": {"title": None, "description": visible(chart.alt), **chart.spec},
            "follows": chart.follows,
            "longest": max(map(len, chart.legend), default=0),
        }
        for chart in charts
    ]
    return {"config": CONFIG, "data": data, "charts": drawn}


def _read(name: str) -> str:
    return resources.files("isoscore_star.reporting").joinpath(name).read_text(encoding="utf-8")
