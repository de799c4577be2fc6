"""Charts of a folder of fine-tunings."""

from __future__ import annotations

from isoscore_star.reporting._charts import (
    SERIES,
    Chart,
    Data,
    chart_spec,
    coloured,
    line,
    ordered,
    quantitative,
    shaped,
    told,
)
from isoscore_star.reporting._escaping import visible
from isoscore_star.reporting._numbers import rounded
from isoscore_star.reporting._runs import Groups, isotropy, mean, metric_of, name_of


def by_lam(groups: Groups, metric: str) -> list[Chart]:
    """Draw the metric and the score by λ, a point for each run."""
    others = list(dict.fromkeys(other for _, other in groups))[: len(SERIES)]
    rows = [
        [lam, other or "runs", run["seed"], rounded(metric_of(run)), rounded(isotropy(run))]
        for (lam, other), runs in groups.items()
        if other in others
        for run in runs
    ]
    data = Data(("lam", "other", "seed", "metric", "isotropy"), rows)
    labels = [other or "runs" for other in others]
    charts = []
    for name, title in (("metric", metric), ("isotropy", "score of all layers, held-out tokens")):
        values = {row[3 if name == "metric" else 4] for row in rows} - {None}
        # An axis around one value has no ticks but zero.
        x, y = quantitative("lam", "λ"), quantitative(name, visible(title), scale={"zero": len(values) < 2})
        colour = coloured("other", labels)
        tooltip = told(("lam", "λ"), ("other", "setting"), ("seed", "seed"), (name, "value"), form={name: ".3~g"})
        points = {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shaped("other", labels), "tooltip": tooltip},
        }
        mean = {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y | {"aggregate": "mean"}, "color": colour},
        }
        spec = chart_spec("sweep", 260, layer=[mean, points])
        spec["transform"] = [{"filter": f"isValid(datum.{name})"}]
        alt = f"Chart of the {title} of {len(rows)} runs by λ; each point is a run, the line joins the means."
        charts.append(
            Chart(f"sweep-{name}", f"{title[:1].upper()}{title[1:]} by λ", alt, spec, {"sweep": data}, legend=labels)
        )
    return charts


def by_layer(groups: Groups) -> list[Chart]:
    """Draw each layer's score, of six settings at most."""
    keys = list(groups)
    most = len(SERIES)
    chosen = keys if len(keys) <= most else [keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)]
    names = [name_of(key) for key in chosen]
    rows = [
        [
            name,
            layer,
            rounded(
                mean(
                    [
                        run["isoscore_star_by_layer"][layer]
                        for run in groups[key]
                        if layer < len(run["isoscore_star_by_layer"])
                    ]
                )
            ),
        ]
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
    return [
        Chart("sweep-layers", "Isotropy by layer", alt, spec, {"sweep-layers": data}, caption=caption, legend=names)
    ]
