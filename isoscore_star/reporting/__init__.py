"""Show measurements, scans, comparisons and fine-tunings: a page, a fragment for notebooks, figures, tables.

What is shown is known by its attributes, not by its class.
"""

from isoscore_star.reporting._page import to_html

__all__ = ["to_html"]
