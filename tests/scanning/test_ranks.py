"""Several processes give the result of one, since each takes whole blocks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")
if not torch.distributed.is_available():
    pytest.skip("torch was built without torch.distributed", allow_module_level=True)
import tiny_scanned as tiny  # noqa: E402

RANK = """
import json, sys
import torch.distributed as dist
import isoscore_star as iso
folder, texts, output = sys.argv[1:]
scan = iso.scan(folder, json.loads(open(texts).read()), batch_size=3, output=output)
print(len(scan.layers))
dist.destroy_process_group()
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as the ranks do: the last bits of a model's states hang on how many threads torch has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(100)
    whole = iso.scan(folder, items, batch_size=3)
    (tmp_path / "texts.json").write_text(json.dumps(items))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", RANK, str(folder), str(tmp_path / "texts.json"), str(tmp_path / "out")]
    ranks = [
        subprocess.Popen(
            arguments,
            env={**os.environ, **started, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=300)[0].split() for process in ranks]
    assert printed == [["3"], ["0"]]
    found = iso.load_scan(tmp_path / "out")
    assert found.provenance["processes"] == 2
    assert found.provenance["sequences"] == 100
    for ours, theirs in zip([*found.layers, found.union], [*whole.layers, whole.union], strict=True):
        assert ours is not None
        assert theirs is not None
        for name in ("score", "unbiased_score", "standard_error", "count", "group_count"):
            expected = getattr(theirs.measurement, name)
            assert getattr(ours.measurement, name) == pytest.approx(expected, rel=1e-12)
        assert np.allclose(ours.measurement.mean, theirs.measurement.mean, rtol=0, atol=1e-12)
        assert ours.longest_tokens == theirs.longest_tokens
