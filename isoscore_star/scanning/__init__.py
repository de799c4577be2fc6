"""Scans: a model run over texts once, and what state each of its layers is in."""

from isoscore_star.scanning._result import LongToken, Scan, ScannedLayer, Stability, hangs_on_few
from isoscore_star.scanning._run import load_scan, scan
from isoscore_star.scanning._weights import scan_weights

__all__ = ["LongToken", "Scan", "ScannedLayer", "Stability", "hangs_on_few", "load_scan", "scan", "scan_weights"]
