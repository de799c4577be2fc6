"""Vision encoders of transformers over a folder of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError
from isoscore_star.pretrained import first_line, load, quiet
from isoscore_star.readers import FileContentError
from isoscore_star.scanning._batches import Batch, Tokens
from isoscore_star.scanning.sources._fingerprint import fingerprint
from isoscore_star.scanning.sources._loading import placed, refusing_remote_code, require, require_whole
from isoscore_star.scanning.sources._options import Options, batch_size_for
from isoscore_star.scanning.sources._states import layers_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class ImageSource:
    """Runs a vision encoder over images; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, name: str, folder: Path, options: Options) -> None:
        require("torch", "transformers")
        require("PIL", extra="images")
        self._files = _images_in(folder)[: options.max_texts]
        self._options = options
        with quiet(), refusing_remote_code(name):
            self._model, self._processor = _load(name, options)
        self.sequences: int | None = len(self._files)
        self._size = batch_size_for(len(self._files), options.batch_size, options.blocks)
        self.count: int | None = -(-len(self._files) // self._size)
        self.notes: list[str] = []
        self.noticed: dict[str, int] = {}
        self.seen: list[str] = []
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        self.provenance: dict[str, Any] = {
            "model": name,
            "class": type(self._model).__name__,
            "weights": fingerprint(self._model),
            "images": str(folder),
            "fingerprint": digest.hexdigest(),
            "sequences": len(self._files),
            "batch_size": self._size,
        }
        names = [key for key, _ in self._model.named_parameters()]
        self._leading = int(any(key.endswith("cls_token") or "class_embedding" in key for key in names))
        self._leading += int(getattr(self._model.config, "num_register_tokens", 0) or 0) if self._leading else 0

    def place_of(self, sequence: int) -> int:
        """Return an image's place among the files, in the order of their names."""
        return sequence

    def estimated_tokens(self) -> int | None:
        """Return how many tokens the images have, if the configuration tells."""
        config = self._model.config
        size, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
        if not (isinstance(size, int) and isinstance(patch, int)):
            return None
        return len(self._files) * ((size // patch) ** 2 + self._leading)

    def batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Batch | None]]:
        """Yield each batch with its number; None in place of those that are not wanted."""
        for number in range(self.count or 0):
            start = number * self._size
            yield number, self._batch(start) if wanted(number) else None

    def finished(self) -> list[str]:
        """Return what was noticed on the way."""
        return []

    def _batch(self, start: int) -> Batch:
        import torch

        files = self._files[start : start + self._size]
        inputs = self._processor(images=list(map(_opened, files)), return_tensors="pt")
        tensors = {
            key: value.to(self._model.device, self._model.dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
        }
        with torch.no_grad():
            outputs = self._model(**tensors, output_hidden_states=True, return_dict=True)
            layers = layers_of(
                self._model, outputs, {"": self._tokens((len(files), 0))}, self._options.layers, self._fit
            )
        return Batch(start, len(files), layers)

    def _fit(self, state: Any, tokens: Tokens) -> Tokens:
        return self._tokens(tuple(state.shape[:2]))

    def _tokens(self, shape: tuple[int, ...]) -> Tokens:
        special = np.zeros(shape, bool)
        special[:, : self._leading] = True
        leading = self._leading

        def label(row: int, place: int) -> str:
            return f"leading token {place}" if place < leading else f"patch {place - leading}"

        return Tokens(np.ones(shape, bool), special, label, in_order=bool(leading))


def _load(name: str, options: Options) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModel

    processor = load(name, AutoImageProcessor.from_pretrained, "image processor: ", use_fast=False)
    model, loaded = load(name, AutoModel.from_pretrained, dtype=options.precision(), output_loading_info=True)
    require_whole(model, loaded, name)
    return placed(getattr(model, "vision_model", model), options), processor


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidValueError("images", f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InvalidValueError("images", f"{folder} holds no image ({' '.join(SUFFIXES)})")
    return files


def _opened(file: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except Exception as error:  # a damaged file may raise anything
        raise FileContentError(file, f"cannot be read as an image: {first_line(error)}") from error
