"""Parts of a measurement: points that are read once, in a state that files keep and that merges with others."""

from __future__ import annotations

from isoscore_star.parts._inputs import identity
from isoscore_star.parts._memory import Plan, plan
from isoscore_star.parts._part import Part, merged, read_part
from isoscore_star.parts._reading import read_in_parts

__all__ = ["Part", "Plan", "identity", "merged", "plan", "read_in_parts", "read_part"]
