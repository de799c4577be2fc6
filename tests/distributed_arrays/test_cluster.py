"""A real cluster of two worker processes: the same numbers, no points sent about, and one of the two killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

cloudpickle = pytest.importorskip("cloudpickle")
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow
SEQUENCES, TOKENS, DIM, CHUNK = 240, 5, 16, 10


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": ":0",
        "local_directory": str(tmp_path_factory.mktemp("workers")),
        "silence_logs": 50,  # a worker that is killed is told of
    }
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


def states(first: int, count: int) -> np.ndarray:
    """Make the token states of sequences by their numbers, so that any chunking has the same."""
    rows = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        rows.append(rng.normal(size=(1, DIM)) + rng.normal(size=(TOKENS, DIM)))
    return np.array(rows) * np.r_[4.0, 2.0, np.ones(DIM - 2)]


def slowly_read(folder: Path) -> Any:
    """Return an array of Dask whose chunks take a while, and leave a file each time that one is made."""
    make = states

    def chunk(block_info: Any = None) -> np.ndarray:
        first = block_info[None]["array-location"][0][0]
        time.sleep(0.05)
        (folder / f"{first}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return np.asarray(make(first, CHUNK))

    # By value, since the workers know no modules of tests.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return da.map_blocks(
        chunk, chunks=((CHUNK,) * (SEQUENCES // CHUNK), (TOKENS,), (DIM,)), dtype=np.float64, meta=np.empty((0, 0, 0))
    )


def kill_a_worker(client: Any, folder: Path, after: int, killed: list[int]) -> None:
    """Kill a worker without warning once it has made some of the chunks."""
    while len(list(folder.iterdir())) < after:
        time.sleep(0.005)
    victim = int(next(iter(folder.iterdir())).name.split("-")[1])
    os.kill(victim, signal.SIGKILL)
    killed.append(victim)


@pytest.mark.parametrize("after", [8, SEQUENCES // CHUNK + 8], ids=["moments", "errors"])
def test_a_worker_is_killed_in_the_middle(client: Any, tmp_path: Path, after: int) -> None:
    expected = iso.measure(states(0, SEQUENCES))
    client.wait_for_workers(2)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(client, tmp_path, after, killed))
    killer.start()
    measured = iso.measure(slowly_read(tmp_path))
    killer.join()
    made = [file.name.split("-") for file in tmp_path.iterdir()]
    assert len(made) > 2 * SEQUENCES // CHUNK  # what was lost with the worker was made again
    assert killed[0] in {int(pid) for _, pid, _ in made}
    for name in ("score", "unbiased_score", "standard_error", "design_effect"):
        assert getattr(measured, name) == pytest.approx(getattr(expected, name), rel=1e-12), (
            name
        )  # as in test_arrays.py


def test_chunks_stay_where_they_are(client: Any) -> None:
    client.wait_for_workers(2)
    whole = states(0, SEQUENCES)
    X = da.from_array(whole, chunks=(CHUNK, TOKENS, DIM)).persist()
    distributed.wait(X)
    where = {worker for workers in client.who_has(X).values() for worker in workers}
    assert len(where) == 2

    def sent(dask_worker: Any) -> list[str]:
        log = dask_worker.transfer_incoming_log
        return [str(key) for transfer in log for key in transfer["keys"]]

    before = {worker: len(keys) for worker, keys in client.run(sent).items()}
    assert iso.isoscore_unbiased(X) == pytest.approx(iso.isoscore_unbiased(whole), abs=1e-12)
    moved = [key for worker, keys in client.run(sent).items() for key in keys[before[worker] :]]
    assert [key for key in moved if not key.startswith("isoscore-")] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers(client: Any, workers: int) -> None:
    client.wait_for_workers(2)
    some = list(client.scheduler_info()["workers"])[:workers]
    whole = states(0, SEQUENCES)
    labels = np.random.default_rng(0).integers(0, 50, (SEQUENCES, TOKENS))
    with dask.annotate(workers=some):
        X = da.from_array(whole, chunks=(37, TOKENS, DIM)).persist(optimize_graph=False)
    found, expected = iso.measure(X, groups=labels), iso.measure(whole, groups=labels)
    for name in ("score", "unbiased_score", "standard_error", "design_effect"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12), name
