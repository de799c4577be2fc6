"""Pretrained models by name or folder: loaded without remote code, after a look at their files and at the network."""

from isoscore_star.pretrained.hub import has_model, offline_if_unreachable
from isoscore_star.pretrained.loading import first_line, load, quiet
from isoscore_star.pretrained.model_files import require_own_weights

__all__ = ["first_line", "has_model", "load", "offline_if_unreachable", "quiet", "require_own_weights"]
