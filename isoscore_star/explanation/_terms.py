"""What the parts of an explanation are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Direction:
    """A principal direction of the cloud.

    Attributes
    ----------
    index : int or None
        Its place, 0 for the largest; None for all others together.
    variance_share : float
        p = λ/tr S.
    share : float
        p²/Σp², its share of 1/PR = Σp². Of all directions these add up to 1.
    halves_share : float or None
        uᵀABu/⟨A, B⟩ with its direction u: the same of the score of two halves A and B, adding up to 1, too.
    """

    index: int | None
    variance_share: float
    share: float
    halves_share: float | None


@dataclass(frozen=True)
class Coordinate:
    """An outlier coordinate, one with at least five times the average variance.

    Attributes
    ----------
    dimension : int or None
        Its index; None for all others together.
    variance_share : float
        Its variance as a fraction of tr S.
    share : float
        Sᵢᵢ²/‖S‖², its share of 1/PR. All of these, and what lies off the diagonal, add up to 1.
    halves_share : float or None
        Aᵢᵢ·Bᵢᵢ/⟨A, B⟩, the same of the score of two halves.
    """

    dimension: int | None
    variance_share: float
    share: float
    halves_share: float | None


@dataclass(frozen=True)
class Part:
    """Some of the points, such as first tokens, and what the cloud is without them.

    Attributes
    ----------
    name : str
        What they are.
    count : int
        How many.
    variance_share : float
        Share of the scatter's trace that goes with them.
    share : float
        Share of ‖A‖² that goes with them; negative where they make the cloud more isotropic.
    score_without : float or None
        IsoScore of the others; None of fewer than two, or identical ones.
    unbiased_without : float or None
        Their unbiased score, where it is defined.
    """

    name: str
    count: int
    variance_share: float
    share: float
    score_without: float | None
    unbiased_without: float | None


@dataclass(frozen=True)
class Between:
    """What lies between the means of groups, S = W + B.

    Attributes
    ----------
    name : str
        What the groups are, such as ``"groups"`` or ``"layers"``.
    group_count : int
        How many.
    variance_share : float
        tr B/tr S.
    shares : tuple of three floats
        ‖W‖², 2⟨W, B⟩ and ‖B‖² as shares of ‖S‖², which add up to 1.
    score_within : float or None
        IsoScore of W: of the points less their group's mean; None where nothing lies within groups.
    lidar : float or None
        LiDAR, the effective rank of B seen with W's metric; see `Explanation.measures`.
    """

    name: str
    group_count: int
    variance_share: float
    shares: tuple[float, float, float]
    score_within: float | None
    lidar: float | None


@dataclass(frozen=True)
class WhatIf:
    """The score of the same points after a change.

    Attributes
    ----------
    name : str
        The change.
    score : float
        IsoScore after it, as a fraction of all d dimensions.
    unbiased_score : float or None
        That of two halves; None without groups.
    effective_dimensions : float
        Participation ratio of the unbiased score, or of the score where that is None.
    """

    name: str
    score: float
    unbiased_score: float | None
    effective_dimensions: float


@dataclass(frozen=True)
class Measure:
    """Another measure of the same cloud.

    Attributes
    ----------
    name : str
        Its name in the literature.
    value : float or None
        None where it is not defined for these points.
    isotropic : str
        Its value for isotropic points with mean zero.
    source : str
        Where it comes from.
    note : str
        Why there is no value, or how it was computed; otherwise empty.
    error : float or None
        Its standard error, where blocks were given.
    """

    name: str
    value: float | None
    isotropic: str
    source: str
    note: str = ""
    error: float | None = None
