"""IStarTrainer with activation checkpointing, in bfloat16 and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import arguments, assert_same, bert, data, made  # noqa: E402
from torch import nn  # noqa: E402
from transformers import (  # noqa: E402
    TrainingArguments,
)

from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402


def one_step(tmp_path: Path, **more: Any) -> tuple[nn.Module, dict[str, float]]:
    model = made(bert, torch.float32)
    trainer = IStarTrainer(
        model=model, args=arguments(tmp_path, **more), train_dataset=data(model), istar={"zeta": 0.2}
    )
    trainer.train()
    return model, trainer.state.log_history[0]


def test_activation_checkpointing_changes_nothing(tmp_path: Path) -> None:
    fields = TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if "activation_checkpointing" in fields else "gradient_checkpointing"
    plain, _ = one_step(tmp_path)
    checkpointed, _ = one_step(tmp_path, **{name: True})
    assert_same(plain, checkpointed)


def test_bf16(tmp_path: Path) -> None:
    plain, log = one_step(tmp_path)
    half, half_log = one_step(tmp_path, bf16=True)
    # States rounded to 8 bits: a relative 2⁻⁸ of each, which averages out over 100 of them.
    assert half_log["isoscore_star"] == pytest.approx(log["isoscore_star"], abs=2**-8)
    assert half_log["istar_penalty"] == pytest.approx(1 - half_log["isoscore_star"], abs=1e-6)
    assert all(p.dtype == torch.float32 for p in half.parameters())
    step = [p.detach() - q for p, q in zip(plain.parameters(), made(bert, torch.float32).parameters(), strict=True)]
    other = [p.detach() - q for p, q in zip(half.parameters(), made(bert, torch.float32).parameters(), strict=True)]
    a, b = (torch.cat([part.detach().flatten() for part in parts]) for parts in (step, other))
    assert float((a - b).norm() / a.norm()) < 0.05


@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_torch_compile(tmp_path: Path) -> None:
    plain, log = one_step(tmp_path)
    torch._dynamo.reset()
    compiled, compiled_log = one_step(tmp_path, torch_compile=True, torch_compile_backend="eager")
    assert_same(plain, compiled, 1e-6)
    assert compiled_log["isoscore_star"] == pytest.approx(log["isoscore_star"], abs=1e-6)
