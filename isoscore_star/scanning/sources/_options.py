"""How a model is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from isoscore_star import InvalidTypeError, InvalidValueError

DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")


@dataclass(frozen=True)
class Options:
    """How a model is run; see `isoscore_star.scan`."""

    batch_size: int = 16
    max_tokens: int = 128
    layers: tuple[int | str, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    gguf_file: str | None = None
    text_column: str | None = None
    max_texts: int | None = None
    blocks: int = 20

    def place(self) -> Any:
        """Return the torch device."""
        import torch

        if self.device is None:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise InvalidValueError("device", f"{self.device!r} cannot be used here: {reason}") from error
        return device

    def precision(self) -> Any:
        """Return the dtype for ``from_pretrained``; on a CPU float32 by default, else the model's own."""
        import torch

        wanted = self.dtype or ("float32" if self.place().type == "cpu" else "auto")
        if wanted not in DTYPES:
            raise InvalidValueError("dtype", f"expected one of {', '.join(DTYPES)}; got {wanted!r}")
        return wanted if wanted == "auto" else getattr(torch, wanted)


def batch_size_for(sequences: int, batch_size: int, blocks: int) -> int:
    """Return a batch size, even and not above the one given, that gives all blocks a batch if there are enough.

    Even, so that every block has as many sequences in one half as in the other.
    """
    fit = max(1, -(-sequences // blocks))
    return min(batch_size, fit + fit % 2)


def chosen_layers(names: Sequence[str], wanted: Sequence[int | str] | None) -> list[int]:
    """Return the places of the layers that are wanted, by place (negative ones from the end) or pattern of names."""
    if wanted is None:
        return list(range(len(names)))
    chosen: list[int] = []
    for one in wanted:
        if isinstance(one, int) and not isinstance(one, bool):
            if not -len(names) <= one < len(names):
                raise InvalidValueError(
                    "layers", f"there is no layer {one}; there are {len(names)}: 0 ({names[0]}) to {len(names) - 1}"
                )
            chosen.append(one % len(names))
        elif isinstance(one, str):
            found = [place for place, name in enumerate(names) if fnmatchcase(name, one)]
            if not found:
                known = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
                raise InvalidValueError("layers", f"{one!r} fits no layer; their names are {known}")
            chosen += found
        else:
            raise InvalidTypeError("layers", f"expected places or names of layers; got {one!r}")
    return sorted(dict.fromkeys(chosen))
