"""Sections of a folder of fine-tunings: the metric and the isotropy by the strength of the penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._charts import SERIES, Chart, Data, chart_spec, coloured, line, ordered, quantitative, shaped, told
from isoscore_star.reporting._content import Content
from isoscore_star.reporting._html import Cell, Column, Html, joined, listed, table
from isoscore_star.reporting._numbers import rounded
from isoscore_star.reporting._section import Section, beside, drawn, paragraph
from isoscore_star.reporting._verdict import MEANING

Run = Mapping[str, Any]

_SETTINGS = (
    "zeta", "estimator", "target", "floor", "lam_schedule", "warmup_steps", "epochs", "batch_size", "lr",
)  # fmt: skip
"""What a sweep may vary beside λ."""


def sweep(content: Content) -> list[Section]:
    """Write the runs of a folder."""
    if not content.runs:
        return []
    runs = content.runs
    groups = _groups(runs)
    metric = str(runs[0]["metric"]["name"])
    charts = tuple(_by_lam(groups, metric))
    by_layer = tuple(_by_layer(groups))
    body = [listed(_sentences(groups, metric)), paragraph(MEANING, "aside"), beside(charts), *map(drawn, by_layer), _table(groups, metric)]
    return [Section("sweep", "Fine-tuning with I-STAR", joined(body), (*charts, *by_layer))]


def _groups(runs: Sequence[Run]) -> dict[tuple[float, str], list[Run]]:
    """Gather the runs that differ in their seed alone, by λ and by what else the sweep varies."""
    varying = [key for key in _SETTINGS if len({str(run.get(key)) for run in runs}) > 1]
    found: dict[tuple[float, str], list[Run]] = {}
    for run in runs:
        other = ", ".join(f"{key.replace('_', ' ')} {_shown(run.get(key))}" for key in varying)
        found.setdefault((float(run["lam"]), other), []).append(run)
    return dict(sorted(found.items()))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _isotropy(run: Run) -> float | None:
    value = run["isoscore_star_unbiased"]
    return run["isoscore_star"] if value is None else value


def _value(run: Run) -> float | None:
    value: float | None = run["metric"]["value"]
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _sentences(groups: Mapping[tuple[float, str], Sequence[Run]], metric: str) -> list[str]:
    means = {key: _mean([_value(run) for run in runs]) for key, runs in groups.items()}
    known = {key: mean for key, mean in means.items() if mean is not None}
    if not known:
        return []
    best = max(known, key=lambda key: known[key])
    seeds = {len(runs) for runs in groups.values()}
    found = [
        f"The highest mean {metric} is {write.score(known[best])}, with {_name(best)}. λ > 0 pulls towards an even space, "
        f"λ < 0 away from it, 0 is plain fine-tuning."
    ]
    plain = [key for key in known if key[0] == 0]
    if plain and best not in plain:
        gap = known[best] - known[plain[0]]
        spread = [_value(run) for run in groups[plain[0]]]
        about = f"; seeds of plain fine-tuning differ by {write.score(stdev(_known(spread)))}" if len(_known(spread)) > 1 else ""
        found.append(f"That is {write.score(gap)} more than plain fine-tuning{about}.")
    if min(seeds) < 3:
        found.append("With fewer than three seeds a setting, differences may be chance.")
    return found


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _name(key: tuple[float, str]) -> str:
    return f"λ = {key[0]:g}" + (f", {key[1]}" if key[1] else "")


def _by_lam(groups: Mapping[tuple[float, str], Sequence[Run]], metric: str) -> list[Chart]:
    others = list(dict.fromkeys(other for _, other in groups))[: len(SERIES)]
    rows = [
        [lam, other or "runs", run["seed"], rounded(_value(run)), rounded(_isotropy(run))]
        for (lam, other), runs in groups.items()
        if other in others
        for run in runs
    ]
    data = Data(("lam", "other", "seed", "metric", "isotropy"), rows)
    labels = [other or "runs" for other in others]
    charts = []
    for name, title, what in (("metric", metric, metric), ("isotropy", "score", "score of all layers, held-out tokens")):
        x, y = quantitative("lam", "λ"), quantitative(name, what, scale={"zero": False})
        colour = coloured("other", labels)
        tooltip = told(("lam", "λ"), ("other", "setting"), ("seed", "seed"), (name, title), form={name: ".3~g"})
        points = {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shaped("other", labels), "tooltip": tooltip},
        }
        mean = {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": y | {"aggregate": "mean"}, "color": colour}}
        spec = chart_spec("sweep", 260, layer=[mean, points])
        spec["transform"] = [{"filter": f"isValid(datum.{name})"}]
        alt = f"Chart of the {title} of {len(rows)} runs by λ; each point is a run, the line joins the means."
        charts.append(Chart(f"sweep-{name}", f"{what[:1].upper()}{what[1:]} by λ", alt, spec, {"sweep": data}))
    return charts


def _by_layer(groups: Mapping[tuple[float, str], Sequence[Run]]) -> list[Chart]:
    keys = list(groups)
    most = len(SERIES)
    chosen = keys if len(keys) <= most else [keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)]
    names = [_name(key) for key in chosen]
    rows = [
        [name, layer, rounded(_mean([run["isoscore_star_by_layer"][layer] for run in groups[key] if layer < len(run["isoscore_star_by_layer"])]))]
        for key, name in zip(chosen, names, strict=True)
        for layer in range(max(len(run["isoscore_star_by_layer"]) for run in groups[key]))
    ]
    rows = [row for row in rows if row[2] is not None]
    if not rows:
        return []
    count = 1 + max(int(str(row[1])) for row in rows)
    drawn_line = line(told(("setting", "setting"), ("layer", "layer"), ("score", "score"), form={"score": ".3~g"}))
    drawn_line["mark"]["point"] = {"filled": True, "size": 45}
    spec = chart_spec("sweep-layers", 280, **drawn_line)
    spec["encoding"] |= {
        "x": ordered("layer", "layer", [str(i) for i in range(count)], axis={"labelAngle": 0}),
        "y": quantitative("score", "IsoScore*", scale={"domainMin": 0}),
        "color": coloured("setting", names),
        "shape": shaped("setting", names),
    }
    data = Data(("setting", "layer", "score"), [[name, str(layer), score] for name, layer, score in rows])
    caption = "" if chosen == keys else f"{most} of {len(keys)} settings, from the lowest λ to the highest."
    alt = f"Line chart of IsoScore* by layer for {len(chosen)} settings."
    return [Chart("sweep-layers", "Isotropy by layer", alt, spec, {"sweep-layers": data}, caption=caption)]


def _table(groups: Mapping[tuple[float, str], Sequence[Run]], metric: str) -> Html:
    columns = [
        Column("λ", True), Column("setting"), Column("seeds", True, True), Column(metric, True), Column("score", True), Column("seconds a step", True, True),
    ]  # fmt: skip
    rows: list[Sequence[Any]] = [
        [Cell(f"{lam:g}", lam), other or "–", Cell(str(len(runs)), len(runs)),
         *(_spread([value(run) for run in runs]) for value in (_value, _isotropy, lambda run: run["seconds_per_step"]))]
        for (lam, other), runs in groups.items()
    ]  # fmt: skip
    return table("Every setting (mean ± standard deviation over seeds)", columns, rows, sortable=True)


def _spread(values: Sequence[float | None]) -> Cell:
    known = _known(values)
    if not known:
        return Cell(write.NONE)
    about = f" ± {write.score(stdev(known))}" if len(known) > 1 else ""
    return Cell(f"{write.score(fmean(known))}{about}", fmean(known))
