"""Lightning: `IStarCallback` adds I-STAR to a module that knows nothing of it."""

from isoscore_star.integrations.lightning._callback import IStarCallback

__all__ = ["IStarCallback"]
