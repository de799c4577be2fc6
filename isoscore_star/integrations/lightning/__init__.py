"""Lightning: `IStarCallback` adds I-STAR to an unchanged module."""

from isoscore_star.integrations.lightning._callback import IStarCallback

__all__ = ["IStarCallback"]
