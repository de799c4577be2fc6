"""What I-STAR keeps in a Trainer's checkpoints: Σ_S and the score at the start."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

FILE = "isoscore_star.safetensors"
LOGGER = logging.getLogger("isoscore_star")


def save(penalty: nn.Module, folder: str) -> None:
    """Write the penalty's state next to the model's."""
    tensors = {name: tensor.contiguous() for name, tensor in penalty.state_dict().items()}
    save_file(tensors, Path(folder) / FILE)


def load(penalty: nn.Module, folder: str, device: str) -> None:
    """Restore the penalty's state, if the checkpoint has one."""
    file = Path(folder) / FILE
    if not file.is_file():
        LOGGER.warning("%s has no %s; it was saved without I-STAR, whose state starts anew", folder, FILE)
        return
    penalty.load_state_dict(load_file(file, device))
