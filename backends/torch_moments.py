"""Former place of `isoscore_star.backends.torch.StreamingMoments`."""

from isoscore_star.backends.torch.moments import StreamingMoments

__all__ = ["StreamingMoments"]
