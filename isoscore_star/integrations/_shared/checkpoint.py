"""State of penalties in checkpoints, Σ_S and the score at the start, in a separate file for each penalty."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import nn

from isoscore_star import InvalidValueError

LOGGER = logging.getLogger("isoscore_star")


def save(penalty: nn.Module, folder: str | Path, name: str = "") -> None:
    """Write the penalty's state next to the model's."""
    from safetensors.torch import save_file

    tensors = {key: tensor.contiguous() for key, tensor in penalty.state_dict().items()}
    save_file(tensors, _file(Path(folder), name))


def load(penalty: nn.Module, folder: str | Path, device: Any, name: str = "", *, or_unnamed: bool = False) -> None:
    """Restore the penalty's state, if the checkpoint has one of its name or, if allowed, one without a name."""
    from safetensors.torch import load_file

    file = _file(Path(folder), name)
    if or_unnamed and not file.is_file():
        file = _file(Path(folder), "")
    if not file.is_file():
        LOGGER.warning("%s has no %s; it was saved without I-STAR, whose state starts anew", folder, file.name)
        return
    restore(penalty, load_file(file, str(device)), str(file))


def restore(penalty: nn.Module, state: Mapping[str, Any], place: str) -> None:
    """Load a state; raise with the place where it was saved if it is that of another penalty."""
    try:
        penalty.load_state_dict(state)
    except RuntimeError as error:
        raise InvalidValueError(
            place,
            f"it was saved by another penalty than this one, {penalty!r}. Go on with the one that it was saved "
            f"by, or remove it to start its state anew. {error}",
        ) from None


def _file(folder: Path, name: str) -> Path:
    return folder / (f"isoscore_star-{quote(name, safe='')}.safetensors" if name else "isoscore_star.safetensors")
