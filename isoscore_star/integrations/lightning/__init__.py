"""Lightning: `IStarCallback` adds I-STAR to an unchanged module, `IsotropyMonitorCallback` only measures it."""

from isoscore_star.integrations.lightning._callback import IStarCallback
from isoscore_star.integrations.lightning._monitor import IsotropyMonitorCallback

__all__ = ["IStarCallback", "IsotropyMonitorCallback"]
