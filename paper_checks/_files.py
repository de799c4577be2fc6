"""The files of a claim: JSON, and its figures as SVG and PNG."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from paper_checks._claim import Claim, Findings, Run, Verdict

_PACKAGES = (
    "isoscore-star",
    "numpy",
    "scipy",
    "torch",
    "jax",
    "tensorflow",
    "keras",
    "autograd",
    "scikit-dimension",
    "transformers",
    "IsoScore",
)
# Without dates and random ids the same results give the same files.
_METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {"Software": None}}


def results_folder(output: Path) -> Path:
    """Give the folder of all claims' files."""
    return output / "results"


def write_claim(claim: Claim, verdict: Verdict, findings: Findings, seconds: float, run: Run) -> dict[str, Any]:
    """Write the JSON and the figures of a claim, and give what stands in the JSON."""
    folder = results_folder(run.output)
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "number": claim.number,
        "name": claim.name,
        "title": claim.title,
        "source": claim.source,
        "verdict": verdict.value,
        "form": "quick" if run.quick else "full",
        "seconds": round(seconds, 1),
        "checks": [asdict(check) for check in findings.checks],
        "tables": [asdict(table) for table in findings.tables],
        "notes": findings.notes,
        "figures": _write_figures(claim.name, findings.figures, folder),
        "environment": environment(),
        "data": findings.data,
    }
    record = {key: _plain(value) for key, value in record.items()}
    (folder / f"{claim.name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def read_claims(output: Path) -> list[dict[str, Any]]:
    """Give what stands in the JSON of every claim that was ever checked into this folder, in order."""
    records = [json.loads(file.read_text()) for file in results_folder(output).glob("*.json")]
    return sorted(records, key=lambda record: record["number"])


def environment() -> dict[str, Any]:
    """Name the machine and the versions."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _write_figures(name: str, figures: dict[str, Any], folder: Path) -> list[str]:
    from matplotlib import rc_context

    stems = []
    with rc_context({"svg.hashsalt": "isoscore-star"}):
        for part, figure in figures.items():
            stem = f"{name}-{part}" if part else name
            for kind, metadata in _METADATA.items():
                figure.savefig(folder / f"{stem}.{kind}", format=kind, dpi=150, metadata=metadata)
            stems.append(stem)
    return stems


def _plain(value: Any) -> Any:
    """Bring NumPy's numbers and arrays to what JSON has, and what is not finite to a string."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value
