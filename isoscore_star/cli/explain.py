"""``isoscore-star explain``: what pulls the score of the points in files down, in words and in tables."""

from __future__ import annotations

import json

import numpy as np

from isoscore_star import IsoScoreError, Measurement
from isoscore_star.cli.explain_tables import show_explanation
from isoscore_star.cli.options import AsJson, Columns, Files, Groups, Key, Mask
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading, rows_read
from isoscore_star.diagnostics import point_measures
from isoscore_star.explanation import Measure
from isoscore_star.readers import StreamedCloud, open_clouds

_SEED = 0  # of the sample, so that a file has the same one every time


def explain(
    files: Files,
    mask: Mask = None,
    groups: Groups = "auto",
    key: Key = None,
    columns: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Explain the score of the points in files, of any size: directions, coordinates, groups, and other measures."""
    clouds = open_clouds(files, key or (), mask, groups=groups, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    names = next((cloud.source.columns for cloud in clouds if cloud.source.columns), ())
    dim = int(clouds[0].source.shape[-1] or 0)
    union = StreamedCloud(dim, np.random.default_rng(_SEED))
    with reading("reading", rows_read(clouds)) as advance:
        for cloud in clouds:
            union.take(cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1), advance, cloud.groups)
        try:
            measurement = union.measurement(progress=advance)
        except IsoScoreError as error:
            raise error.about(clouds[0].source.name if len(clouds) == 1 else "union") from error
    others = _of_sample(union, measurement)
    explanation = measurement.explain(average_cosine=others[0].value)
    if as_json:
        content = explanation.to_dict()
        content["measures"] += [vars(other) for other in others]
        content |= {"files": list(map(str, files)), "warnings": list(measurement.warnings)}
        if names:
            content["columns"] = list(names)
        print(json.dumps(content, indent=2))
    else:
        show_explanation(explanation, others, measurement.warnings, names)


def _of_sample(union: StreamedCloud, measurement: Measurement) -> tuple[Measure, ...]:
    """Return the measures that need points, of a random sample if these are many."""
    sample = union.sample
    note = "" if len(sample) == measurement.count else f"of a random sample of {len(sample):,} points"
    return point_measures(sample, note)
