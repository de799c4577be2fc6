"""`isoscore-star validate`: passes on sound backends, and fails on every kind of broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import ADAPTERS

import isoscore_star as iso
from isoscore_star import validation
from isoscore_star.validation import TOLERANCES, validate
from isoscore_star.validation._cases import Case, all_cases

pytest.importorskip("typer")
pytest.importorskip("rich")
from isoscore_star.cli import main

BACKENDS = iso.available_backends()
DIFFERENTIABLE = [name for name in BACKENDS if ADAPTERS[name].differentiable]
Fault = Callable[[Any, Any], tuple[Any, Any]]


def by_name(case: Case) -> str:
    return case.name


def break_backend(monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    adapter = validation.ADAPTERS[name]
    right = adapter.value_and_gradient
    monkeypatch.setattr(adapter, "value_and_gradient", lambda function, X: fault(*right(function, X)))


@pytest.mark.sampled
@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_passes_in_every_precision_it_has(name: str) -> None:
    checks = validate([name])
    assert all(check.passed for check in checks), checks
    on_cpu = {check.dtype for check in checks if check.device == "cpu"}
    assert on_cpu >= {"float64", "float32", "float16"}
    assert ("bfloat16" in on_cpu) == ("bfloat16" in ADAPTERS[name].half_dtypes)
    for check in checks:
        assert (check.gradient_error is not None) == ADAPTERS[name].differentiable
        assert check.cases >= len(all_cases()) - 2 * (check.dtype == "float16")


@pytest.mark.parametrize("case", all_cases(), ids=by_name)
def test_gradient_of_the_truth_is_that_of_its_value(case: Case) -> None:
    rng = np.random.default_rng(1)
    spread = np.nanstd(case.points - np.nanmean(case.points, axis=tuple(range(case.points.ndim - 1))))
    direction = rng.normal(size=case.points.shape) * spread
    step = 1e-5
    ahead, behind = (case.truth(case.points + sign * step * direction).value for sign in (1, -1))
    slope = float((case.truth(case.points).gradient * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_scales_outside_of_a_dtype_are_left_out_and_not_failed() -> None:
    counts = {check.dtype: check.cases for check in validate(["numpy"])}
    assert counts["float64"] == counts["float32"] == counts["float16"] + 2


@pytest.mark.slow
def test_command_prints_a_row_for_each_check_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    assert all(name in printed.out for name in BACKENDS)
    assert printed.out.count(" ok") >= 3 * len(BACKENDS)
    assert "OUT" not in printed.out


@pytest.mark.slow
def test_json_holds_every_error_and_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert {check["backend"] for check in found["checks"]} == set(BACKENDS)
    for check in found["checks"]:
        assert check["value_error"] <= check["tolerance"]["value"]


@pytest.mark.sampled
@pytest.mark.parametrize("name", BACKENDS)
def test_fails_if_a_value_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_backend(monkeypatch, name, lambda value, gradient: (value + 2e-12, gradient))
    assert [check.dtype for check in validate([name]) if not check.passed and check.device == "cpu"] == ["float64"]


@pytest.mark.slow
def test_command_names_what_failed_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_backend(monkeypatch, "numpy", lambda value, gradient: (value + 2e-12, gradient))
    assert main(["validate"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("numpy cpu float64: out of tolerance, worst in the case '")
    assert len(printed.err.splitlines()) == 1
    assert printed.out.count("OUT") == 1


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_fails_in_the_precision_whose_tolerance_is_missed(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = 2 * TOLERANCES[dtype].gradient
    break_backend(monkeypatch, name, lambda value, gradient: (value, gradient * (1 + fault)))
    passed = {check.dtype: check.passed for check in validate([name]) if check.device == "cpu"}
    assert not passed.get(dtype, False)
    coarser = [other for other in passed if TOLERANCES[other].gradient > 2.5 * fault]
    assert all(passed[other] for other in coarser)


@pytest.mark.sampled
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_fails_if_the_mathematics_of_a_backend_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = iso.get_backend(name)
    right = backend.invariants

    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = right(*args, **kwargs)
        return found._replace(f=found.f * (1 + 1e-6))

    monkeypatch.setattr(backend, "invariants", wrong)
    assert not validate([name])[0].passed


def test_fails_if_only_the_closed_gradient_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from isoscore_star.core import formulas

    right = formulas.point_gradient_factors
    monkeypatch.setattr(formulas, "point_gradient_factors", lambda *given: tuple(1.001 * k for k in right(*given)))
    check = next(c for c in validate(["torch"]) if (c.device, c.dtype) == ("cpu", "float64"))
    assert check.value_error <= check.tolerance.value
    assert check.gradient_error > check.tolerance.gradient
    assert not check.passed


@pytest.mark.sampled
@pytest.mark.parametrize("name", BACKENDS)
def test_nan_is_out_of_every_tolerance(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_backend(monkeypatch, name, lambda value, gradient: (value * float("nan"), gradient))
    for check in validate([name]):
        assert not check.passed
        assert json.loads(json.dumps(check.to_dict(), allow_nan=False))["value_error"] is None


@pytest.mark.slow
def test_what_a_backend_raises_is_a_failure_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(validation.ADAPTERS["numpy"], "value_and_gradient", broken)
    assert main(["validate"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"numpy cpu {dtype}: RuntimeError: no kernel image (case: fewer points than dimensions)"
        for dtype in ("float64", "float32", "float16")
    ]


def test_a_backend_that_cannot_be_loaded_is_a_failure() -> None:
    (check,) = validate(["nonsense"])
    assert not check.passed
    assert "nonsense" in str(check.failure)
