"""Two ranks (gloo) whose models in DDP are monitored, run as a script by `test_isotropy_monitor_ranks.py`."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

DIM, WIDTH, ROWS, TOKENS = 4, 6, (5, 3), 7


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(DIM, WIDTH), nn.Linear(WIDTH, WIDTH)])

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(10 * step + rank)
    x = torch.randn(ROWS[rank], TOKENS, DIM, generator=generator)
    return x, (torch.arange(TOKENS) < torch.randint(2, TOKENS + 1, (len(x), 1), generator=generator)).long()


def main(rank: int, folder: Path) -> None:
    from isoscore_star.backends.torch import IsotropyMonitor

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("isoscore_star").addHandler(handler)
    dist.init_process_group("gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Model())
    found, states = [], []
    with IsotropyMonitor(model, "layers.*", every=2) as monitor:
        inner = model.module
        for step in range(1, 5):
            kept: list[np.ndarray] = []
            handles = [
                layer.register_forward_hook(lambda m, a, out, kept=kept: kept.append(out.detach().double().numpy()))
                for layer in inner.layers
            ]
            x, mask = batch(rank, step)
            model(x, attention_mask=mask).square().mean().backward()
            for handle in handles:
                handle.remove()
            found.append(monitor.step())
            states.append([state[mask.bool().numpy()] for state in kept])
            np.savez(folder / f"states-{rank}-{step}.npz", *kept, mask=mask.numpy())
        # A last step in which the second rank has no batch.
        if rank == 0:
            inner(*batch(rank, 5))
        monitor.step()
        if rank == 0:
            inner(*batch(rank, 6))
        found.append(monitor.step())
        counts = [layer.group_count for layer in monitor.layers]
    (folder / f"{rank}.json").write_text(json.dumps({"found": found, "counts": counts, "messages": messages}))
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # see support_ranks


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=main, args=(rank, Path(sys.argv[1])), daemon=True) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
