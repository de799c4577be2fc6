"""What I-STAR keeps in a Trainer's checkpoints: Σ_S and the score at the start."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from isoscore_star.core.errors import InvalidValueError

FILE = "isoscore_star.safetensors"
LOGGER = logging.getLogger("isoscore_star")


def save(penalty: nn.Module, folder: str | Path, name: str = FILE) -> None:
    """Write the penalty's state next to the model's."""
    tensors = {name: tensor.contiguous() for name, tensor in penalty.state_dict().items()}
    save_file(tensors, Path(folder) / name)


def load(penalty: nn.Module, folder: str | Path, device: str, name: str = FILE) -> None:
    """Restore the penalty's state, if the checkpoint has one."""
    file = Path(folder) / name
    if not file.is_file():
        LOGGER.warning("%s has no %s; it was saved without I-STAR, whose state starts anew", folder, name)
        return
    try:
        penalty.load_state_dict(load_file(file, device))
    except RuntimeError as error:
        raise InvalidValueError(
            file,
            f"it was saved by another penalty than this one, {penalty!r}. Go on with the one that it was saved "
            f"by, or remove the file to start its state anew. {error}",
        ) from None
