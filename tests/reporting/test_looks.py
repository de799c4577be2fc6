"""The page in the dark, on a phone, on paper, and for those who do not see it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_pages import THINGS, page

PHONE = 380


def _brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_it_follows_the_scheme(scheme: str, is_dark: bool, opened: Any) -> None:
    found = opened(page("scan"), color_scheme=scheme)
    paper, ink = found.style("body", "background-color"), found.style("body", "color")
    label = found.style("#chart-profile .role-axis-label text", "fill")
    assert (_brightness(paper) < 0.3) is is_dark
    assert (_brightness(ink) > 0.7) is is_dark
    assert abs(_brightness(label) - _brightness(paper)) > 0.35


def test_charts_follow_a_change_of_the_scheme(opened: Any) -> None:
    found = opened(page("scan"), color_scheme="light")
    line = "#chart-profile .mark-line path"
    before = found.style(line, "stroke")
    found.page.emulate_media(color_scheme="dark")
    assert found.style(line, "stroke") != before


@pytest.mark.parametrize("kind", THINGS)
def test_a_phone_does_not_scroll_sideways(kind: str, opened: Any) -> None:
    found = opened(page(kind), width=PHONE)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE
    found.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE
    widths = found.page.eval_on_selector_all(".chart svg", "all => all.map((one) => one.getBoundingClientRect().right)")
    assert max(widths) <= PHONE


@pytest.mark.parametrize("kind", THINGS)
def test_labels_of_axes_do_not_overlap(kind: str, opened: Any) -> None:
    for width in (PHONE, 1280):
        found = opened(page(kind), width=width)
        overlapping = found.page.evaluate("""() => {
          const found = [];
          for (const axis of document.querySelectorAll('.role-axis-label')) {
            const boxes = [...axis.querySelectorAll('text')]
              .filter((one) => one.getAttribute('opacity') !== '0' && one.textContent)
              .map((one) => [one.textContent, one.getBoundingClientRect()]);
            for (let i = 1; i < boxes.length; i++) {
              const [[a, one], [b, other]] = [boxes[i - 1], boxes[i]];
              const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
              const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
              if (across > 1 && down > 3) found.push(a + ' | ' + b);
            }
          }
          return found;
        }""")
        assert overlapping == []


def test_it_prints_light_without_navigation(opened: Any) -> None:
    found = opened(page("scan"), color_scheme="dark")
    found.page.emulate_media(media="print", color_scheme="dark")
    assert not found.page.locator("nav").is_visible()
    assert _brightness(found.style("body", "background-color")) > 0.9
    assert _brightness(found.style("body", "color")) < 0.3
    assert found.page.pdf(format="A4")[:5] == b"%PDF-"


@pytest.mark.sampled("kind")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", THINGS)
def test_axe_finds_nothing(kind: str, scheme: str, opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = opened(page(kind), color_scheme=scheme, bypass_csp=True)  # axe comes in as a script
    found.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    violations = axe.Axe().run(found.page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in violations] == []


def test_every_chart_says_in_words_what_it_shows(opened: Any) -> None:
    for kind in THINGS:
        found = opened(page(kind))
        words = found.page.eval_on_selector_all(".chart", "all => all.map((one) => one.getAttribute('aria-label'))")
        assert all(len(text) > 30 for text in words)
        assert found.count("figure h3") == len(words)
