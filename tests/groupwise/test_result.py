"""What `measure_groups` returns: by label, as a table, in a notebook, in words."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso


@pytest.fixture
def measured(rng: np.random.Generator) -> iso.GroupedMeasurement:
    labels = np.repeat([f"<class {i:02}>" for i in range(20)], 6)
    points = rng.normal(size=(120, 4))
    points[labels == "<class 07>"] = 1.0
    points[labels == "<class 11>", 0] *= 1e3
    return iso.measure_groups(points, by=labels)


def test_by_label(measured: iso.GroupedMeasurement) -> None:
    one = measured["<class 11>"]
    assert (one.label, one.count, one.group_count) == ("<class 11>", 6, None)
    assert one.score == measured.scores[11]
    assert [each.label for each in measured] == measured.labels.tolist()
    for missing in ("<class 20>", "", 7, None, ["<class 11>"]):
        with pytest.raises(iso.IsoScoreError, match="label: expected"):
            measured[missing]
    numbered = iso.measure_groups(np.random.default_rng(0).normal(size=(8, 3)), by=np.arange(8) // 4)
    assert numbered[1].label == 1
    with pytest.raises(iso.IsoScoreError, match="label: expected"):
        numbered["a"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frame(measured: iso.GroupedMeasurement, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(library)
    other = {"pandas": "polars", "polars": "pandas"}[library]
    monkeypatch.setitem(__import__("sys").modules, other, None)
    frame = measured.to_frame()
    assert isinstance(frame, module.DataFrame)
    assert list(frame.columns) == ["label", "count", "score", "unbiased_score", "standard_error"]
    assert frame["count"].to_list() == [6] * 20
    missing = frame["score"].isna() if library == "pandas" else frame["score"].is_null()
    assert missing.to_list() == [i == 7 for i in range(20)]
    assert frame["score"].to_list()[:7] == measured.scores.data[:7].tolist()


def test_words_and_notebook(measured: iso.GroupedMeasurement) -> None:
    lines = repr(measured).splitlines()
    assert lines[0] == "GroupedMeasurement(20 classes, 120 points, dim=4)"
    assert lines[2].split()[1] == "11>"  # the lowest score
    assert lines[7] == "..."
    assert any(line == "1 of 20 classes has no score, which takes two points that differ" for line in lines)
    html = measured._repr_html_()
    assert "&lt;class 11&gt;" in html
    assert "<class" not in html
    assert "10 classes are not shown" in html


def test_plain_numbers(measured: iso.GroupedMeasurement) -> None:
    found = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert sorted(found) == ["between", "classes", "warnings", "whole"]
    assert found["classes"][7] == {
        "label": "<class 07>",
        "count": 6,
        "score": None,
        "unbiased_score": None,
        "standard_error": None,
        "group_count": None,
    }
    assert found["between"]["group_count"] == 20
    for twin in (copy.deepcopy(measured), pickle.loads(pickle.dumps(measured))):
        assert twin.to_dict() == measured.to_dict()


def test_of_many_dimensions_there_is_no_split(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    from isoscore_star.groupwise import _split

    monkeypatch.setattr(_split, "_WIDEST", 5)
    found = iso.measure_groups(rng.normal(size=(4, 9, 6)))
    assert found.between is None
    assert found.to_dict()["between"] is None


@pytest.mark.parametrize("labels", [[b"a", b"b"], np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")])
def test_labels_of_any_kind_are_written_as_json(rng: np.random.Generator, labels: Any) -> None:
    found = iso.measure_groups(rng.normal(size=(40, 3)), by=np.repeat(labels, 20)).to_dict()
    assert [one["label"] for one in json.loads(json.dumps(found))["classes"]] == list(
        map(str, np.array(labels).tolist())
    )
