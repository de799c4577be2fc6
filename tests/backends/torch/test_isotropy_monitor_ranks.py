"""`IsotropyMonitor` of models in DDP on two ranks measures the sequences of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import ROOT

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)


def halves(rows: list[np.ndarray]) -> float:
    """Compute (PR − 1)/(d − 1) with 1/PR = ⟨A, B⟩/(tr A · tr B) of the covariances of every other sequence."""
    a, b = (np.cov(np.concatenate(rows[start::2]).T) for start in (0, 1))
    return float((np.trace(a) * np.trace(b) / (a * b).sum() - 1) / (len(a) - 1))


@pytest.mark.slow
def test_two_ranks_measure_all_sequences(tmp_path: Path) -> None:
    script = Path(__file__).with_name("support_monitor_ranks.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, timeout=300, check=False)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["found"] == second["found"]
    assert [scores is not None for scores in first["found"]] == [True, True, False, True, True]
    for step in (1, 2, 4):
        rows: list[list[np.ndarray]] = [[], []]
        for rank in range(2):  # numbers of sequences count on from rank to rank
            saved = np.load(tmp_path / f"states-{rank}-{step}.npz")
            for layer in range(2):
                for states, keep in zip(saved[f"arr_{layer}"], saved["mask"], strict=True):
                    rows[layer].append(states[keep != 0])
        scores = first["found"][step - 1]
        for layer in range(2):
            assert scores[f"train/isoscore_star/layer_{layer:02d}"] == pytest.approx(halves(rows[layer]), rel=1e-5)
    assert first["counts"] == second["counts"] == [5, 5, 5]  # of the first rank alone
    assert second["messages"] == []  # one rank tells
