"""Kinds of models, each of which gives the states of its layers batch by batch."""

from isoscore_star.scanning.sources._opening import open_source
from isoscore_star.scanning.sources._options import DTYPES, Options
from isoscore_star.scanning.sources._states import EMBEDDINGS

__all__ = ["DTYPES", "EMBEDDINGS", "Options", "open_source"]
