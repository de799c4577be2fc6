"""Failures of `isoscore-star finetune` are one line each: models, memory, folders, packages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_finetuning import arguments

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn"):
    pytest.importorskip(needed)


def test_a_model_that_is_not_there(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, line = failure(*arguments(home, tmp_path, model="nobody/nothing"))
    assert code == 1
    assert "error: --model: 'nobody/nothing' is no folder here" in line
    assert "not in the cache, and the Hugging Face hub cannot be reached" in line
    code, line = failure(*arguments(home, tmp_path, model=home.folder / "absent"))
    assert (code, f"error: --model: there is no folder {home.folder / 'absent'}" in line) == (1, True)
    (tmp_path / "hollow").mkdir()
    code, line = failure(*arguments(home, tmp_path, model=tmp_path / "hollow"))
    assert (code, "holds no usable model" in line) == (1, True)
    code, line = failure(*arguments(home, tmp_path, model="no model's name"))
    assert (code, "hub has no public model of that name" in line) == (1, True)


def test_without_network_the_hub_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.pretrained import hub as _hub

    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")

    def answer(found: Exception | None) -> None:
        def info(*_: object, **__: object) -> None:
            if found is not None:
                raise found

        for name in ("model_info", "dataset_info"):
            monkeypatch.setattr(hub.HfApi, name, info)
        _hub.has_model.cache_clear()

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for found, reachable in ((OSError("Name or service not known"), False), (None, True)):
        answer(found)
        assert _hub.has_model("nobody/nothing") is reachable
        with _hub.offline_if_unreachable("nobody/nothing"):
            assert datasets.config.HF_HUB_OFFLINE is not reachable
        assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    code, line = failure(*arguments(home, tmp_path))
    assert code == 1
    assert "out of memory with batch size 8: halve it with --batch-size 4" in line
    assert "--gradient-accumulation 2" in line


def test_a_damaged_results_file(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "results.json").write_text('{"runs": [', encoding="utf-8")
    code, line = failure(*arguments(home, tmp_path))
    assert (code, "results.json: cannot be read as the results of a fine-tuning" in line) == (1, True)


def test_a_folder_that_cannot_be_written(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "file").touch()
    code, line = failure(*arguments(home, tmp_path / "file" / "out"))
    assert (code, "error: --output: cannot write to" in line) == (1, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_cuda(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    code, line = failure(*arguments(home, tmp_path, device="cuda"))
    assert (code, "finds no CUDA device" in line) == (1, True)


@pytest.mark.parametrize("package", ["transformers", "accelerate", "sklearn"])
def test_a_missing_extra(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, line = failure(*arguments(home, tmp_path))
    assert code == 1
    assert f'needs {package}, which is not installed: pip install "isoscore-star[huggingface]"' in line
