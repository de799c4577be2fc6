"""A part of a measurement, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError, Measurement, __version__
from isoscore_star.parts._inputs import points_of
from isoscore_star.parts._memory import Plan
from isoscore_star.readers import FileContentError, StreamedCloud
from isoscore_star.recorded_arrays import Kind, Recorded, by_prefix, read_recorded, write_recorded

KIND = Kind("isoscore_star_part", 1, "a part of a measurement")

_SHOWN = 80  # characters of what does not fit

_SEED = 0  # of the sample, so that files have the same one every time


@dataclass
class Part:
    """Clouds that are read once, and how far they are read.

    Attributes
    ----------
    settings : dict
        What the points are, for JSON: files, and the options that chose them.
    dim : int
        Their dimensions.
    labels : list of str
        Of each cloud; one with the label "" for a union without layers.
    plan : Plan
        How they are kept.
    columns : list of str
        Of tables the names of the dimensions, in their order; otherwise empty.
    clouds : list of StreamedCloud
        One for each label.
    source, rows : int
        The source that is being read, and its rows so far.
    finished : bool
        Whether all are read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from isoscore_star.parts import Part, Plan, merged, read_in_parts, read_part
    >>> from isoscore_star.readers import open_clouds
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a", "b"):
    ...         np.save(Path(folder, f"{name}.npy"), rng.normal(size=(500, 3)))
    ...         part = Part({"file": name}, 3, [""], Plan(1))
    ...         part = read_in_parts(part, open_clouds([Path(folder, f"{name}.npy")]))
    ...         part.write(Path(folder, f"{name}.part"))
    ...     merged([read_part(Path(folder, f"{name}.part")) for name in "ab"]).measurement().count
    1000
    """

    settings: dict[str, Any]
    dim: int
    labels: list[str]
    plan: Plan
    columns: list[str] = field(default_factory=list)
    clouds: list[StreamedCloud] = field(default_factory=list)
    source: int = 0
    rows: int = 0
    finished: bool = False

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(_SEED)
        self.settings = json.loads(json.dumps(self.settings))
        self.clouds = self.clouds or [self._cloud() for _ in self.labels]

    def _cloud(self) -> StreamedCloud:
        return StreamedCloud(self.dim, self._rng, self.plan.blocks, self.plan.sketch)

    def union(self) -> StreamedCloud:
        """Return all clouds as one, whose same numbers are the same groups."""
        if len(self.clouds) == 1:
            return self.clouds[0]
        whole = self._cloud()
        for cloud in self.clouds:
            whole.merge(cloud)
        return whole

    def measurement(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> Measurement:
        """Measure the union; see `isoscore_star.measure`."""
        return self.union().measurement(shrinkage_cov, zeta)

    def merge(self, other: Part, name: str = "other") -> None:
        """Add another part, whose groups are others.

        Raises
        ------
        InvalidValueError
            If the parts do not fit.
        """
        ours, its = (
            {
                "dimensions": of.dim,
                "columns": of.columns,
                "layers": of.labels,
                "groups": of.clouds[0].groups or "none",
                "blocks": of.plan.blocks,
                "columns of a sketch": of.plan.sketch,
            }
            for of in (self, other)
        )
        differing = next((key for key in ours if ours[key] != its[key]), None)
        if differing is not None:
            raise InvalidValueError(
                name,
                f"does not fit the first part: {differing} {_shown(its[differing])}, of the first "
                f"{_shown(ours[differing])}. Make all parts with the same options, of columns in one order",
            )
        places = self.clouds[0].places_for(other.clouds[0])  # of the groups, which are the same in all layers
        for own, cloud in zip(self.clouds, other.clouds, strict=True):
            own.merge_others(cloud, places)
        both = (part for of in (self, other) for part in of.settings.get("merged", [of.settings]))
        self.settings = {"merged": list(both)}

    def write(self, path: Path, argument: str = "checkpoint") -> None:
        """Write all of it into a file, in place of the one that is there; an error names the argument."""
        arrays = {
            f"{number}/{name}": array
            for number, cloud in enumerate(self.clouds)
            for name, array in cloud.to_arrays().items()
        }
        record = {
            "settings": self.settings,
            "version": __version__,
            "dim": self.dim,
            "labels": self.labels,
            "plan": list(self.plan),
            "columns": self.columns,
            "groups": [cloud.groups for cloud in self.clouds],
            "source": self.source,
            "rows": self.rows,
            "finished": self.finished,
            "random": self._rng.bit_generator.state,
        }
        write_recorded(path, KIND, record, arrays, argument)


def read_part(path: Path) -> Part:
    """Read a part.

    Raises
    ------
    FileContentError
        If the file is damaged, or no part.
    """
    return _restored(path, read_recorded(path, KIND))


def merged(parts: Sequence[Part], names: Sequence[str] = ()) -> Part:
    """Merge finished parts into the first one.

    Raises
    ------
    InvalidValueError
        If they do not fit, one is not finished, or two are of the same points.
    """
    names = names or [f"part {number}" for number in range(1, len(parts) + 1)]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InvalidValueError(twice, "comes twice. Give each part once")
    seen: dict[str, str] = {}
    for part, name in zip(parts, names, strict=True):
        if not part.finished:
            raise InvalidValueError(
                name,
                f"is not finished: {part.rows:,} rows of its source {part.source + 1} are read. Run its command again",
            )
        for points, file in points_of(part.settings):
            if seen.setdefault(points, name) != name:
                raise InvalidValueError(name, f"holds points of {file}, as {seen[points]} does. Give each point once")
    first = parts[0]
    for part, name in zip(parts[1:], names[1:], strict=True):
        first.merge(part, name)
    return first


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _restored(path: Path, stored: Recorded) -> Part:
    record = stored.record
    try:
        part = Part(record["settings"], record["dim"], record["labels"], Plan(*record["plan"]), record["columns"])
        part.source, part.rows, part.finished = record["source"], record["rows"], record["finished"]
        part._rng.bit_generator.state = record["random"]
        of_clouds: Mapping[str, Any] = by_prefix(stored.arrays)
        for number, (cloud, groups) in enumerate(zip(part.clouds, record["groups"], strict=True)):
            cloud.restore(by_prefix(of_clouds[str(number)]), groups)
    except (KeyError, TypeError, ValueError) as error:
        raise FileContentError(path, f"is damaged ({error}). Delete it to start anew") from error
    return part
