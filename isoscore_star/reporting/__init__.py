"""Show measurements, scans, comparisons and fine-tunings: a page, a fragment for notebooks, figures, tables.

What is shown is known by its attributes, not by its class.
"""

from isoscore_star.reporting._figures import figures, plot
from isoscore_star.reporting._fragment import fragment
from isoscore_star.reporting._frame import to_frame
from isoscore_star.reporting._methods import Reported
from isoscore_star.reporting._page import to_html

__all__ = ["Reported", "figures", "fragment", "plot", "to_frame", "to_html"]
