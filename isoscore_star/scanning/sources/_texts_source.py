"""Text models of transformers: encoders, decoders, both in one, and sentence-transformers on top."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Batch, Tokens
from isoscore_star.scanning._texts import Texts
from isoscore_star.scanning.sources._fingerprint import fingerprint, fingerprint_of_tokenizer
from isoscore_star.scanning.sources._options import Options, batch_size_for
from isoscore_star.scanning.sources._states import layers_of

_UNBOUNDED = 10**6
"""Tokenizers without a limit say 10³⁰."""


class TextModel(NamedTuple):
    """A model, and what turns texts into its inputs.

    `pooled` returns the embeddings of texts from the last layer's states and the inputs, if the model returns some.
    """

    name: str
    model: Any
    tokenizer: Any
    pooled: Callable[[Any, Any], Any] | None = None
    prompt: str = ""
    notes: tuple[str, ...] = ()


class TextSource:
    """Runs a text model over texts; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, text_model: TextModel, texts: Texts, options: Options) -> None:
        self._own, self._texts, self._options = text_model, texts, options
        self.sequences: int | None = len(texts.items)
        self._size = batch_size_for(len(texts.items), options.batch_size, options.blocks)
        self.count: int | None = -(-len(texts.items) // self._size)
        _require_room(text_model.tokenizer, options.max_tokens)
        self._limit = _limit(text_model, options.max_tokens)
        parameters = inspect.signature(text_model.model.forward).parameters
        self._accepted = set(parameters)
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        self._special = _special_ids(text_model.tokenizer)
        self.notes = [*text_model.notes, *texts.notes]
        self.provenance: dict[str, Any] = {
            "model": text_model.name,
            "class": type(text_model.model).__name__,
            "weights": fingerprint(text_model.model),
            "tokenizer": fingerprint_of_tokenizer(text_model.tokenizer, self._encoded, texts.items),
            "texts": texts.name,
            "fingerprint": texts.fingerprint,
            "sequences": len(texts.items),
            "max_tokens": self._limit,
            "batch_size": self._size,
        }
        self.noticed = {"cut": 0}
        self.seen: list[str] = []
        if _is_encoder_decoder(text_model.model):
            self.notes.append("the decoder reads the same texts as the encoder, after its start token")

    def place_of(self, sequence: int) -> int:
        """Return a sequence's place among the texts that were given."""
        return self._texts.places[sequence]

    def estimated_tokens(self) -> int:
        """Return about how many tokens the texts have, from an even sample of them."""
        items = self._texts.items
        sample = items[:: max(1, len(items) // 200)]
        lengths = [len(ids) for ids in self._encoded(sample)["input_ids"]]
        return int(np.mean(lengths) * len(items)) + 1

    def batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Batch | None]]:
        """Yield each batch with its number; None in place of those that are not wanted."""
        from isoscore_star.backends.torch import evaluation_mode

        with evaluation_mode(self._own.model):
            for number in range(self.count or 0):
                yield number, self._batch(number * self._size) if wanted(number) else None

    def finished(self) -> list[str]:
        """Return what was noticed on the way."""
        cut = self.noticed["cut"]
        if not cut:
            return []
        texts = "1 text reaches" if cut == 1 else f"{cut:,} texts reach"
        return [f"{texts} the limit of {self._limit} tokens and may be cut there (--max-tokens)"]

    def _encoded(self, texts: list[str]) -> Any:
        return self._own.tokenizer(
            [self._own.prompt + text for text in texts],
            truncation=True,
            max_length=self._limit,
            return_special_tokens_mask=True,
        )

    def _batch(self, start: int) -> Batch:
        import torch

        model, texts = self._own.model, self._texts.items[start : start + self._size]
        encoded = self._encoded(texts)
        rows = encoded["input_ids"]
        lengths = np.array([len(ids) for ids in rows])
        self.noticed["cut"] += int((lengths >= self._limit).sum())
        width = max(1, int(lengths.max()))
        mask = np.arange(width) < lengths[:, None]
        ids = _padded(rows, width, _padding(self._own.tokenizer))
        special = _padded(encoded.pop("special_tokens_mask"), width, 0).astype(bool) | np.isin(ids, self._special)
        # A sequence without tokens is no point, but some models give NaN to all without one to attend to.
        attention = mask | (np.arange(width) == 0)
        inputs = {"input_ids": ids, "attention_mask": attention.astype(np.int64)}
        inputs |= {
            key: _padded(encoded[key], width, 0)
            for key in encoded
            if key not in inputs and key in self._accepted and _is_rows(encoded[key], rows)
        }
        if "attention_mask" not in self._accepted and not self._takes_any:
            if not mask.all():
                raise InvalidValueError(
                    "model",
                    f"{type(model).__name__} takes no attention_mask, so texts cannot be padded: --batch-size 1",
                )
            del inputs["attention_mask"]
        tokens = {"": self._tokens(ids, mask, special)}
        tokens["encoder "] = tokens[""]
        if _is_encoder_decoder(model):
            decoder_ids, decoder_mask = _shifted(model.config, ids, mask)
            inputs |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask.astype(np.int64)}
            decoder_special = np.concatenate([np.ones_like(special[:, :1]), special[:, :-1]], axis=1)
            tokens["decoder "] = self._tokens(decoder_ids, decoder_mask, decoder_special)
        tensors = {name: torch.as_tensor(array, device=model.device) for name, array in inputs.items()}
        with torch.no_grad():
            outputs = model(**tensors, output_hidden_states=True, return_dict=True)
            layers = layers_of(model, outputs, tokens, self._options.layers, self._refitted(tensors))
            embeddings = None if self._own.pooled is None else self._own.pooled(outputs, tensors)
        return Batch(start, len(texts), layers, embeddings)

    def _tokens(self, ids: Any, mask: Any, special: Any) -> Tokens:
        def label(row: int, place: int) -> str:
            return str(self._own.tokenizer.convert_ids_to_tokens(int(ids[row, place])))

        return Tokens(mask, special, label)

    def _refitted(self, inputs: dict[str, Any]) -> Callable[[Any, Tokens], Tokens]:
        def refit(state: Any, tokens: Tokens) -> Tokens:
            import torch

            from isoscore_star.backends.torch import StateMasks

            mask = StateMasks(self._own.model)([state], inputs)[0]
            shape = tuple(state.shape[:2])
            own = np.ones(shape, bool) if mask is None else (torch.as_tensor(mask) != 0).cpu().numpy()
            return Tokens(own)

        return refit


def _padded(rows: Any, width: int, value: int) -> Any:
    padded = np.full((len(rows), width), value, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _is_rows(values: Any, rows: Any) -> bool:
    return len(values) == len(rows) and all(len(a) == len(b) for a, b in zip(values, rows, strict=True))


def _padding(tokenizer: Any) -> int:
    """Return a token for padding, which the mask leaves out, so that any will do where the tokenizer has none."""
    for known in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(known, int):
            return known
    return 0


def _special_ids(tokenizer: Any) -> Any:
    """Return the ids of special tokens, without that for unknown words, which stands for text."""
    own = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep", "pad", "mask")}
    unknown = getattr(tokenizer, "unk_token_id", None)
    return np.array([number for number in tokenizer.all_special_ids if number in own or number != unknown], np.int64)


def _limit(text_model: TextModel, wanted: int) -> int:
    limits = [wanted, getattr(text_model.tokenizer, "model_max_length", None)]
    limits.append(getattr(text_model.model.config, "max_position_embeddings", None))
    return min(limit for limit in limits if isinstance(limit, int) and 0 < limit < _UNBOUNDED)


def _require_room(tokenizer: Any, wanted: int) -> None:
    """Require a limit that leaves room for text: tokenizers do not cut their special tokens, so a lower one is none."""
    special = tokenizer.num_special_tokens_to_add() if hasattr(tokenizer, "num_special_tokens_to_add") else 0
    if wanted <= special:
        raise InvalidValueError(
            "max_tokens",
            f"expected at least {special + 1}, since the tokenizer adds {special} special "
            f"token{'s' * (special != 1)} to each text; got {wanted}",
        )


def _is_encoder_decoder(model: Any) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _shifted(config: Any, ids: Any, mask: Any) -> tuple[Any, Any]:
    """Return the decoder's inputs: the same tokens after the start token, as in training."""
    candidates = (getattr(config, f"{name}_token_id", None) for name in ("decoder_start", "bos", "pad"))
    start = next((number for number in candidates if isinstance(number, int)), 0)
    first = np.full((len(ids), 1), start, ids.dtype)
    # Of n tokens the last gives way to the start token, so that the mask stays as it is.
    return np.concatenate([first, ids[:, :-1]], axis=1), mask
