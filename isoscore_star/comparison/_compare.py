"""`compare`: two clouds, or two models layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from isoscore_star.arguments import integer
from isoscore_star.comparison import _sides
from isoscore_star.comparison._difference import can_pair, difference, rounding
from isoscore_star.comparison._layer import ComparedLayer
from isoscore_star.comparison._layers import ONE, is_blocks, layers_of, matched
from isoscore_star.comparison._result import Comparison
from isoscore_star.comparison._scans import why_unpaired
from isoscore_star.comparison._sides import BLOCKS, POINTS, Side
from isoscore_star.comparison._streams import Stream, in_step
from isoscore_star.core import interval
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, IsoScoreError
from isoscore_star.core.moments import Moments
from isoscore_star.core.second_pass import SecondPass
from isoscore_star.core.similarity import CrossSums, Directions, principal_angles
from isoscore_star.core.spread import Spread
from isoscore_star.measurement import Measurement

MOST_DIRECTIONS = 10
"""Of which principal angles are taken, unless another number is given."""

_SAME: Any = "same"


def compare(
    a: Any,
    b: Any,
    *,
    mask_a: Any = None,
    mask_b: Any = None,
    groups: Any = "auto",
    groups_b: Any = _SAME,
    paired: Any = "auto",
    directions: int | None = None,
    names: tuple[str, str] = ("A", "B"),
    progress: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Compare two clouds, or two models layer by layer: before and after training, float32 and int8.

    Parameters
    ----------
    a, b : array of shape (sequences, tokens, d), (m, d) or (..., d); or layers; or what was measured before
        Points of any framework. Layers are a dict of clouds by name, matched by name, or a list or tuple of them, by
        place. In place of a cloud: a `Stream` of any size, a list of Moments (blocks of whole groups or of independent
        points, the same ones in both, each of which is left out), Moments or a `Measurement` (neither can be paired),
        or a scan of a model.
    mask_a, mask_b : array, or a dict or list of them by layer, optional
        1 or true for points, 0 or false for padding.
    groups : "auto", int, array of labels, or None, default "auto"
        Which points were sampled together; see `isoscore_star.isoscore_unbiased`.
    groups_b : default "same"
        Those of `b`, if they are others.
    paired : "auto", True or False, default "auto"
        Whether points (of two axes) or groups (sequences, labels) with the same number are the same in both. "auto"
        takes them for the same where there are as many; of unrelated points that does no harm to the interval, but then
        CKA means nothing. Scans are paired where they have the same texts in the same blocks.
    directions : int, optional
        Leading directions whose principal angles are taken; by default the smaller number of effective dimensions,
        rounded, and at most 10.
    names : tuple of two str, default ("A", "B")
        What the two are called in the result.
    progress : callable, optional
        Called with the name of each layer before it is compared.

    Returns
    -------
    Comparison
        Its `rows` have the differences of score and log PR with their intervals, CKA and angles.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.measure`, about the cloud; also if layers do not match, or if pairs are asked for where the
        numbers differ.

    Notes
    -----
    The interval of a difference leaves out each point or group of both at once (the delete-one jackknife), with a
    Student t of as many degrees of freedom as the changes show (Satterthwaite); of two samples of their own the
    variances add. ``paper_checks``, claim 19, counts how often it covers the true difference.

    CKA is that of Kornblith et al. (ICML 2019), `debiased_cka` that of Nguyen et al. (ICLR 2021); angles are those of
    Björck & Golub, *Numerical methods for computing angles between linear subspaces*, Math. Comp. 27 (1973).

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> rng = np.random.default_rng(0)
    >>> before = rng.normal(size=(200, 30, 8)) + rng.normal(size=(200, 1, 8))  # tokens of 200 sequences
    >>> after = before * np.linspace(1.5, 0.5, 8)
    >>> row = iso.compare(before, after).rows[0]
    >>> round(row.difference, 2), row.differs, row.paired, round(row.cka, 2)
    (-0.31, True, True, 0.87)
    """
    if not (isinstance(paired, bool) or (isinstance(paired, str) and paired == "auto")):
        raise InvalidValueError("paired", f'expected "auto", True or False; got {paired!r}')
    if directions is not None:
        directions = integer("directions", directions, 1)
    its_groups = groups if isinstance(groups_b, str) and groups_b == _SAME else groups_b
    ours, its = layers_of("a", a, mask_a, groups), layers_of("b", b, mask_b, its_groups)
    pairs, notes = matched(ours, its)
    unpaired = "" if paired is False else why_unpaired(a, b)
    if unpaired and paired is True:
        raise InvalidValueError(
            "paired", f'expected scans of the same texts in the same blocks; {unpaired}. Leave it at "auto"'
        )
    rows = []
    for name, first, second in pairs:
        progress(name)
        row = compare_layer(name, first(), second(), paired=False if unpaired else paired, directions=directions)
        rows.append(replace(row, pairing=f"not paired: {unpaired}") if unpaired else row)
    if unpaired:
        notes = (*notes, f"the scans are not paired, since {unpaired}: intervals are those of two samples of their own")
    return Comparison(names[0], names[1], tuple(rows), notes)


def compare_layer(name: str, a: Any, b: Any, *, paired: Any = "auto", directions: int | None = None) -> ComparedLayer:
    """Compare two clouds, each a `Stream`, a list of Moments, Moments or a `Measurement`; see `compare`.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star.comparison import compare_layer
    >>> a, b = (iso.measure(np.random.default_rng(seed).normal(size=(500, 8))) for seed in (0, 1))
    >>> compare_layer("layer 3", a, b).paired
    False
    """
    try:
        return _compared(name, a, b, paired, directions)
    except IsoScoreError as error:
        if name == ONE or error.argument in ("paired", "directions"):
            raise
        raise error.about(name) from error


class _Pairing(NamedTuple):
    """Whether units are paired, what to say of that, whether rows correspond, and why not."""

    paired: bool
    says: str
    rows: bool
    why_no_rows: str


def _compared(name: str, a: Any, b: Any, paired: Any, directions: int | None) -> ComparedLayer:
    cross = None
    if isinstance(a, Stream) and isinstance(b, Stream):
        pairing = _pairing_of_streams(a, b, paired)
        first, second, cross = _taken(a, b, pairing.rows)
        if pairing.rows and cross is None:
            pairing = pairing._replace(rows=False, why_no_rows="the rows of the two belong to other groups")
    else:
        first, second = (_alone(cloud) for cloud in (a, b))
        pairing = _pairing_of_sides(first, second, paired)
    can = can_pair(first, second)
    if pairing.paired and not can:
        pairing = pairing._replace(paired=False, says="not paired: too few points or groups")
    found = difference(first, second, paired=pairing.paired)
    angles, note = _angles(first, second, directions)
    debiased, reason = None, pairing.why_no_rows
    if cross is not None:
        if first.unit == POINTS and second.unit == POINTS:
            debiased = cross.debiased()
            reason = "" if debiased is not None else "too few points for the debiased CKA"
        else:
            reason = "the debiased CKA is of independent points, not of groups"
    return ComparedLayer(
        name=name,
        a=first.measurement,
        b=second.measurement,
        difference=found.score.value,
        interval=found.score.interval,
        log_ratio=found.log_ratio.value,
        log_ratio_error=found.log_ratio.error,
        log_ratio_interval=found.log_ratio.interval,
        unpaired_log_ratio_interval=found.unpaired.interval,
        paired=pairing.paired,
        pairing=pairing.says,
        cka=None if cross is None else cross.cka(),
        debiased_cka=debiased,
        cka_reason=reason,
        angles=angles,
        notes=tuple(filter(None, (*_notes(first, second, found.log_ratio.interval is not None), note))),
        _rounding=rounding(first, second),
    )


def _taken(a: Stream, b: Stream, in_rows: bool) -> tuple[Side, Side, CrossSums | None]:
    """Take the points of both once more, in step where their rows correspond."""
    measured = [_measured(stream, which) for stream, which in ((a, "A"), (b, "B"))]
    passes = [SecondPass(stream.moments, of.unbiased_score) for stream, of in zip((a, b), measured, strict=True)]
    cross = None
    if in_rows:
        cross = CrossSums(a.moments.spread(), b.moments.spread())
        same = True
        for x, ours, y, its in in_step(a.blocks(), b.blocks()):
            passes[0].take(x, ours)
            passes[1].take(y, its)
            same = same and (ours is None or its is None or np.array_equal(ours, its))
            if same:
                cross.take(x, y)
        cross = cross if same else None
    else:
        for stream, taken in zip((a, b), passes, strict=True):
            for rows, numbers in stream.blocks():
                taken.take(rows, numbers)
    first, second = (_sides.of_stream(*three) for three in zip((a, b), measured, passes, strict=True))
    return first, second, cross


def _measured(stream: Stream, which: str) -> Measurement:
    try:
        return Measurement.from_moments(stream.moments, neighbours=stream.neighbours)
    except IsoScoreError as error:
        raise type(error)(f"{which}: {error.reason}") from error


def _alone(cloud: Any) -> Side:
    if isinstance(cloud, Stream):
        measured = _measured(cloud, "the points")
        taken = SecondPass(cloud.moments, measured.unbiased_score)
        for rows, numbers in cloud.blocks():
            taken.take(rows, numbers)
        return _sides.of_stream(cloud, measured, taken)
    if isinstance(cloud, Measurement):
        return _sides.of_measurement(cloud)
    if isinstance(cloud, Moments):
        return _sides.of_moments(cloud)
    if is_blocks(cloud):
        return _sides.of_blocks(cloud)
    raise InvalidTypeError(f"expected points, Moments, a list of Moments or a Measurement; got {type(cloud).__name__}")


def _pairing_of_streams(a: Stream, b: Stream, paired: Any) -> _Pairing:
    if paired is False:
        return _Pairing(False, "not paired, as asked", False, "not paired: no rows correspond")
    groups = a.moments.group_count, b.moments.group_count
    kept = a.places(), b.places()
    rows = np.array_equal(*kept)
    why = "" if rows else f"rows do not correspond: {a.moments.count:,} and {b.moments.count:,} points"
    if not rows and a.moments.count == b.moments.count:
        why = "rows do not correspond: other ones are masked"
    if (groups[0] is None) != (groups[1] is None):
        says = f"one has groups ({a.groups}; {b.groups}), the other independent points"
        return _require_pairs(paired, _Pairing(False, says, rows, why))
    if groups[0] is None:
        found = _Pairing(rows, f"paired over {a.moments.count:,} points" if rows else why, rows, why)
        return _require_pairs(paired, found)
    names = a.names(), b.names()
    if len(names[0]) != len(names[1]):
        says = f"{len(names[0]):,} and {len(names[1]):,} groups"
        return _require_pairs(paired, _Pairing(False, says, False, f"rows do not correspond: {says}"))
    if not np.array_equal(*names):
        return _require_pairs(paired, _Pairing(False, "other labels of groups", rows, why))
    what = "sequences" if a.groups == b.groups == "axis 0" else "groups"
    return _Pairing(True, f"paired over {len(names[0]):,} {what}", rows, why)


def _require_pairs(paired: Any, found: _Pairing) -> _Pairing:
    if not found.paired and paired is True:
        raise InvalidValueError("paired", f"expected points or groups that correspond; got {found.says}")
    return found if found.paired else found._replace(says=f"not paired: {found.says}")


def _pairing_of_sides(first: Side, second: Side, paired: Any) -> _Pairing:
    why = "CKA needs the points of both"
    if paired is False:
        return _Pairing(False, "not paired, as asked", False, why)
    lengths = [None if side.influences is None else len(side.influences.log_ratio) for side in (first, second)]
    if first.unit == second.unit == BLOCKS and lengths[0] == lengths[1] and lengths[0] is not None:
        return _Pairing(True, f"paired over {first.unit_count:,} blocks", False, why)
    units = " and ".join(str(side.unit or "sums") for side in (first, second))
    says = f"blocks of other numbers ({first.unit_count} and {second.unit_count})"
    if not first.unit == second.unit == BLOCKS:
        says = f"of {units} nothing can be left out of both at once"
    return _require_pairs(paired, _Pairing(False, says, False, why))


def _angles(first: Side, second: Side, directions: int | None) -> tuple[tuple[float, ...], str]:
    """Return principal angles, and why there are none or what they hang on."""
    spreads = [_spread(side) for side in (first, second)]
    dims = [len(spread.anchor) for spread in spreads]
    if dims[0] != dims[1]:
        return (), ""
    # All directions together are the whole space, of any cloud.
    usual = max(1, min(MOST_DIRECTIONS, dims[0] - 1, round(min(first.ratio, second.ratio))))
    most = min(directions or usual, dims[0])
    leading = Directions(spreads[0], most), Directions(spreads[1], most)
    k = min(most, *(one.rank for one in leading))
    note = ""
    if directions is not None and k < directions:
        note = f"angles of {k} directions, since there are no {directions} with variance in both"
    unclear = [
        which
        for which, one, side in zip("AB", leading, (first, second), strict=True)
        if not one.is_clear(k, side.measurement.group_count or side.measurement.count)
    ]
    if unclear and not note:
        note = (
            f"variances of the directions {k} and {k + 1} of {' and '.join(unclear)} do not differ clearly, so that "
            "the largest angle hangs on the sample; choose another number of directions"
        )
    return principal_angles(*leading, k), note


def _spread(side: Side) -> Spread:
    return side.measurement._spread


def _notes(first: Side, second: Side, has_interval: bool) -> tuple[str, ...]:
    found = []
    dims = [side.measurement.dim for side in (first, second)]
    if dims[0] != dims[1]:
        found.append(
            f"scores are fractions of other numbers of dimensions, {dims[0]} and {dims[1]}: compare the effective "
            "dimensions; principal angles need the same number"
        )
    measured = first.measurement, second.measurement
    if any(of.unbiased_score is None for of in measured):
        found.append("the difference is of IsoScore, with the bias of a small sample: no unbiased score is defined")
    elif not has_interval:
        found.append("no interval, which needs the points of both, blocks of Moments, or measurements with an error")
    doubts = [interval.doubt(of.count, of.group_count, of.dim) for of in measured]
    if has_interval and any(doubts):
        found.append(f"the interval of the difference is no 95 % interval here: {next(filter(None, doubts))}")
    return tuple(found)
