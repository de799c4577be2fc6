"""A scan that was killed goes on where it was, to the very bit; another scan's folder is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.numpy")
import tiny_scanned as tiny  # noqa: E402


class KilledError(Exception):
    """What stops a scan between two batches, as an interruption does."""


def killing_after(batches: int) -> Any:
    def progress(done: int, total: int | None) -> None:
        if done == batches:
            raise KilledError

    return progress


def arrays(folder: Path) -> dict[str, Any]:
    return safetensors.load_file(folder / "moments.safetensors")


def same_bits(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return set(ours) == set(theirs) and all(
        ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes() for key in ours
    )


@pytest.mark.parametrize("batches", [1, 7, 21])
def test_interrupted_between_batches(tmp_path: Path, batches: int) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(210)
    options: dict[str, Any] = {"batch_size": 7, "seconds_between_states": 0.0}
    whole = iso.scan(folder, items, output=tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        iso.scan(folder, items, output=tmp_path / "killed", progress=killing_after(batches), **options)
    with pytest.raises(iso.InvalidValueError, match="not finished"):
        iso.load_scan(tmp_path / "killed")
    seen: list[int] = []
    again = iso.scan(folder, items, output=tmp_path / "killed", progress=lambda done, _: seen.append(done), **options)
    assert same_bits(arrays(tmp_path / "whole"), arrays(tmp_path / "killed"))
    assert not list((tmp_path / "killed").glob("unfinished-*"))
    ours, theirs = again.to_dict(), whole.to_dict()
    for numbers in (ours, theirs):
        numbers["provenance"].pop("seconds")
    assert ours == theirs


KILLED = """
import json, sys
import isoscore_star as iso
folder, texts, output = sys.argv[1:]
items = json.loads(open(texts).read())
iso.scan(folder, items, output=output, batch_size=7, seconds_between_states=0.0, progress=lambda *done: print(*done))
"""


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(210)
    texts, output = tmp_path / "texts.json", tmp_path / "killed"
    texts.write_text(json.dumps(items))
    # Each in a process of its own: what ran before in this one may have changed how torch multiplies.
    command = [sys.executable, "-u", "-c", KILLED, str(folder), str(texts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen([*command, str(output)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("9 "))
        process.kill()  # in the middle of a batch, or of a file
    assert list(output.glob("unfinished-*.safetensors"))
    for place in (output, tmp_path / "whole"):
        subprocess.run([*command, str(place)], env=environment, stdout=subprocess.DEVNULL, check=True)
    assert same_bits(arrays(tmp_path / "whole"), arrays(output))
    assert not [path for path in output.iterdir() if path.name not in ("moments.safetensors", "scan.json")]


def test_a_finished_scan_is_read_and_saved_again(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(40)
    scan = iso.scan(folder, items, output=tmp_path / "out")
    for again in (iso.load_scan(tmp_path / "out"), iso.scan(folder, items, output=tmp_path / "out")):
        assert again.to_dict() == scan.to_dict()
    assert json.loads((tmp_path / "out" / "scan.json").read_text()) == scan.to_dict()
    scan.save(tmp_path / "copy")
    assert same_bits(arrays(tmp_path / "out"), arrays(tmp_path / "copy"))
    assert iso.load_scan(tmp_path / "copy").to_dict() == scan.to_dict()


def test_what_differs_is_named(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(24)
    iso.scan(folder, items, output=tmp_path / "out")
    with pytest.raises(iso.InvalidValueError, match="the texts, images or batches differ"):
        iso.scan(folder, [*items[1:], "w1 w2 w3"], output=tmp_path / "out")
    with pytest.raises(iso.InvalidValueError, match="max_tokens was 32, is now 4"):
        iso.scan(folder, items, max_tokens=4, output=tmp_path / "out")
    with pytest.raises(iso.InvalidValueError, match=r"layers was null, is now \[1\]"):
        iso.scan(folder, items, layers=[1], output=tmp_path / "out")
    tiny.save(tmp_path / "model", seed=1)
    with pytest.raises(iso.InvalidValueError, match="the model's weights differ"):
        iso.scan(folder, items, output=tmp_path / "out")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(24)
    iso.scan(folder, items, output=tmp_path / "out")
    file = tmp_path / "out" / "moments.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(iso.InvalidValueError, match=r"moments\.safetensors.*damaged"):
        iso.load_scan(tmp_path / "out")
    with pytest.raises(iso.InvalidValueError, match="holds no scan"):
        iso.load_scan(tmp_path)


def test_a_loader_goes_on_without_running_what_is_done(tmp_path: Path) -> None:
    torch.manual_seed(0)
    calls: list[int] = []

    class Model(torch.nn.Linear):
        def forward(self, states: Any) -> Any:
            calls.append(len(states))
            return super().forward(states)

    model = torch.nn.Sequential(Model(4, 4), torch.nn.Tanh())
    batches = torch.as_tensor(np.random.default_rng(0).normal(size=(12, 4, 5, 4)), dtype=torch.float32)
    options: dict[str, Any] = {"batches": batches, "layers": ["0", "1"], "seconds_between_states": 0.0}
    with pytest.raises(KilledError):
        iso.scan(model, output=tmp_path / "out", progress=killing_after(5), **options)
    calls.clear()
    again = iso.scan(model, output=tmp_path / "out", **options)
    assert len(calls) == 7
    assert again.to_dict()["layers"] == iso.scan(model, **options).to_dict()["layers"]


def test_the_file_holds_the_moments_as_they_were_before_they_were_measured(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path / "model"), tiny.texts(210)
    scan = iso.scan(folder, items, output=tmp_path / "out")
    rows = tiny.states_one_by_one(tiny.model(), tiny.tokenizer(), items)[2]
    found = iso.load_scan(tmp_path / "out").layers[2].measurement
    assert found.score == pytest.approx(tiny.isoscore(np.concatenate(rows)), rel=2e-5)
    assert found.score == scan.layers[2].measurement.score
