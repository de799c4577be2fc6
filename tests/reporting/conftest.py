"""A real browser, without a network, that writes down what a page says, asks for and draws."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Opened:
    """A page, and what happened in it."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    asked_by_dialog: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def style(self, selector: str, name: str) -> str:
        found = self.page.eval_on_selector(
            selector, "(one, name) => getComputedStyle(one).getPropertyValue(name)", name
        )
        return str(found)


Opening = Callable[..., Opened]


def _missing(reason: str) -> None:
    """Skip; where CI is set, a missing browser would hide all of these tests."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; .ci/browser installs it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _missing("playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        _missing(f"no browser is installed: none of {', '.join(NAMES)}")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opening]:
    """Open a page's text from a file, and wait until all is drawn."""
    contexts = []

    def opening(html: str, width: int = 1280, wait: bool = True, **options: Any) -> Opened:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("dialog", lambda dialog: (found.asked_by_dialog.append(dialog.message), dialog.dismiss()))
        found.page.goto(path.as_uri())
        if wait:
            # By a selector: a function would be evaluated, which the page's policy forbids.
            found.page.wait_for_selector("html[data-drawn='all']", state="attached", timeout=20_000)
        return found

    yield opening
    for context in contexts:
        context.close()
