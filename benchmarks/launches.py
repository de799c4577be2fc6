"""How many operations of a GPU a training step of each loss launches, beside those of the model.

Run ``python benchmarks/launches.py [--write FILE]``, with or without a GPU: on torch's meta device values are as
unknown as those on a GPU are without waiting, so that the same operations are dispatched. The states are those of
BERT-base: 12 layers, 32 sequences of 128 tokens, 768 dimensions, bfloat16, with a mask.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from isoscore_star.backends.torch import IStarLoss

LAYERS, SHAPE, ZETA = 12, (32, 128, 768), 0.2
PENALTIES: dict[str, dict[str, Any]] = {
    f"the paper's, ζ = {ZETA}": {"zeta": ZETA, "shrinkage_cov": torch.eye(SHAPE[-1])},
    "two halves": {"estimator": "unbiased"},
    "anchored, with its running Σ_S": {"estimator": "anchored"},
}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count operations other than views and allocations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.name() == "aten::_unsafe_view" or "empty" in func.name())
        return func(*args, **(kwargs or {}))


def counted(arguments: dict[str, Any]) -> tuple[int, int]:
    """Return the operations forward and backward of a step, not the first one."""
    penalty = IStarLoss(SHAPE[-1], **arguments).to("meta")
    states = [torch.empty(SHAPE, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(LAYERS)]
    mask = torch.ones(SHAPE[:2], device="meta")
    torch.autograd.grad(penalty(states, mask), states)
    with Launches() as forward:
        loss = penalty(states, mask)
    with Launches() as backward:
        torch.autograd.grad(loss, states)
    return forward.count, backward.count


def report() -> str:
    rows = [(name, *counted(arguments)) for name, arguments in PENALTIES.items()]
    return "\n".join(
        [
            "# Launches of a training step",
            "",
            f"Made by `benchmarks/launches.py`, Python {platform.python_version()}, torch {torch.__version__}:",
            f"operations of the loss of {LAYERS} layers of {SHAPE[0]} sequences of {SHAPE[1]} tokens, masked, on a",
            "device whose values the host does not know.",
            "",
            "| loss | forward | backward |",
            "| --- | ---: | ---: |",
            *(f"| {name} | {forward} | {backward} |" for name, forward, backward in rows),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    text = report()
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
