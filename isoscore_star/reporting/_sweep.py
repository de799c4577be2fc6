"""Sections of a folder of fine-tunings: the metric and the isotropy by the strength of the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Content
from isoscore_star.reporting._html import Cell, Column, Html, element, joined, listed, table
from isoscore_star.reporting._runs import Groups, groups_of, isotropy, known, mean, metric_of, name_of
from isoscore_star.reporting._section import Section, beside, drawn, paragraph
from isoscore_star.reporting._sweep_charts import by_lam, by_layer
from isoscore_star.reporting._verdict import MEANING


def sweep(content: Content) -> list[Section]:
    """Write the runs of a folder."""
    if not content.runs:
        return []
    runs = content.runs
    groups = groups_of(runs)
    metric = str(runs[0]["metric"]["name"])
    charts, layers = tuple(by_lam(groups, metric)), tuple(by_layer(groups))
    first, *rest = _sentences(groups, metric)
    head = [paragraph(first, "lead"), listed(rest), paragraph(MEANING, "aside")]
    body = [element("div", joined(head), class_="words"), beside(charts), *map(drawn, layers), _table(groups, metric)]
    return [Section("sweep", "Fine-tuning with I-STAR", joined(body), (*charts, *layers))]


def _sentences(groups: Groups, metric: str) -> list[str]:
    means = {key: mean([metric_of(run) for run in runs]) for key, runs in groups.items()}
    defined = {key: value for key, value in means.items() if value is not None}
    if not defined:
        return [f"No run has a value of {metric}."]
    best = max(defined, key=lambda key: defined[key])
    equal = [key for key in defined if defined[key] == defined[best]]
    with_what = name_of(best) if len(equal) == 1 else f"{len(equal)} settings, {name_of(best)} among them"
    found = [
        f"The highest mean {metric} is {write.score(defined[best])}, with {with_what}.",
        "λ is the penalty's strength: λ > 0 pulls towards an even space, λ < 0 away from it, 0 is plain fine-tuning.",
    ]
    plain = next((key for key in defined if key[0] == 0), best)
    if plain != best:
        found.append(f"It is {write.score(defined[best] - defined[plain])} above {name_of(plain)}.")
        seeds = known([metric_of(run) for run in groups[plain]])
        if len(seeds) > 1:
            found[-1] += f" The seeds of the latter have a standard deviation of {write.score(stdev(seeds))}."
    ends = [key for key in dict.fromkeys((min(groups), max(groups))) if key[0] != 0]
    scores = [f"{write.score(mean([isotropy(run) for run in groups[key]]))} with {name_of(key)}" for key in ends]
    if scores:
        found.append("The score of all layers is " + ", ".join(scores) + ".")
    if min(map(len, groups.values())) < 3:
        found.append("With fewer than three seeds a setting, differences may be chance.")
    return found


def _table(groups: Groups, metric: str) -> Html:
    columns = [
        Column("λ", True),
        Column("setting"),
        Column("seeds", True, True),
        Column(metric, True),
        Column("score", True),
        Column("seconds a step", True, True),
    ]
    rows: list[Sequence[Any]] = [
        [
            Cell(f"{lam:g}", lam),
            other or "the same",
            cells.count(len(runs)),
            _spread([metric_of(run) for run in runs]),
            _spread([isotropy(run) for run in runs]),
            _spread([run["seconds_per_step"] for run in runs]),
        ]
        for (lam, other), runs in groups.items()
    ]
    return table("Every setting (mean ± standard deviation over seeds)", columns, rows, sortable=True)


def _spread(values: Sequence[float | None]) -> Cell:
    defined = known(values)
    if not defined:
        return Cell(write.NONE)
    about = f" ± {write.score(stdev(defined))}" if len(defined) > 1 else ""
    return Cell(f"{write.score(fmean(defined))}{about}", fmean(defined))
