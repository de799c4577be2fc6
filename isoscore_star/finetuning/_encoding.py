"""Examples as tokens of a model's tokenizer."""

from __future__ import annotations

import reprlib
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.finetuning._examples import Examples

Encoded = list[dict[str, Any]]
"""For each example the tokenizer's output, and its label as ``labels``."""


def encode(examples: Examples, tokenizer: Any, max_length: int) -> Encoded:
    """Tokenize examples without padding, which each batch gets later.

    Parameters
    ----------
    examples : Examples
        Texts or pairs of texts.
    tokenizer : PreTrainedTokenizer
        The model's tokenizer.
    max_length : int
        Tokens at which an example is cut off.

    Returns
    -------
    list of dict
        In the same order.

    Raises
    ------
    InvalidValueError
        If the tokenizer makes no token of a text.
    """
    encoded = tokenizer(examples.texts, examples.pairs, truncation=True, max_length=max_length)
    empty = next((index for index, tokens in enumerate(encoded["input_ids"]) if not tokens), None)
    if empty is not None:
        raise InvalidValueError(
            "task",
            f"the model's tokenizer makes no token of the text {reprlib.repr(examples.texts[empty])}. Leave it out",
        )
    return [
        {**{name: values[index] for name, values in encoded.items()}, "labels": label}
        for index, label in enumerate(examples.labels)
    ]


def require_words(encoded: Encoded, tokenizer: Any, name: str) -> None:
    """Require a vocabulary: transformers makes an empty one where its files are missing."""
    special = set(tokenizer.all_special_ids)
    if len({token for example in encoded for token in example["input_ids"]} - special) < 2:
        raise InvalidValueError(
            "model",
            f"the tokenizer of {name} knows fewer than two of the words of the training data; its vocabulary "
            f"holds {len(tokenizer)} entries. Is its tokenizer.json there, and of the right language?",
        )
