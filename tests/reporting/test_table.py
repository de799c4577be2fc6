"""Tables sort by a click and by the keyboard, by numbers as numbers, with what is not defined last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from report_pages import page, thing

HEADING = "#layers th:has(button:text-is('score'))"


def _names(found: Any, section: str) -> list[str]:
    return list(found.page.locator(f"#{section} table.sortable tbody th").all_inner_texts())


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_it_sorts(way: str, opened: Any) -> None:
    found = opened(page("scan"))
    button = found.page.locator(f"{HEADING} button")

    def press() -> None:
        if way == "click":
            button.click()
        else:
            button.focus()
            found.page.keyboard.press("Enter")

    layers = thing("scan").layers
    scores = np.array([layer.measurement.unbiased_score for layer in layers])
    press()
    assert found.page.locator(HEADING).get_attribute("aria-sort") == "descending"
    assert _names(found, "layers") == [layers[i].name for i in np.argsort(-scores)]
    press()
    assert found.page.locator(HEADING).get_attribute("aria-sort") == "ascending"
    assert _names(found, "layers") == [layers[i].name for i in np.argsort(scores)]


def test_the_keyboard_reaches_the_headings(opened: Any) -> None:
    found = opened(page("scan"))
    found.page.locator("#layers .scroll").focus()
    found.page.keyboard.press("Tab")
    assert found.page.evaluate("document.activeElement.textContent") == "layer"


def test_names_sort_with_their_numbers(opened: Any) -> None:
    found = opened(page("comparison"))
    for _ in range(2):
        found.page.locator("#compared th button:text-is('layer')").click()
    assert _names(found, "compared") == [f"layer {i}" for i in range(12, 0, -1)]


def test_what_is_not_defined_is_last_both_ways(opened: Any) -> None:
    found = opened(page("comparison"))
    button = found.page.locator("#compared th button:text-is('95 % interval')")
    for _ in range(2):
        button.click()
        assert _names(found, "compared")[-1] == "layer 8"
