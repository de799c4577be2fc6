"""Examples as a model takes them: tokens by its tokenizer."""

from __future__ import annotations

import reprlib
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.finetuning._examples import Examples

Encoded = list[dict[str, Any]]
"""For each example what the tokenizer gives, and its label as ``labels``."""


def encode(examples: Examples, tokenizer: Any, max_length: int) -> Encoded:
    """Tokenize examples, without padding: each batch is padded to its own longest.

    Parameters
    ----------
    examples : Examples
        Of a task.
    tokenizer : PreTrainedTokenizer
        The model's.
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
    found = tokenizer(examples.texts, examples.pairs, truncation=True, max_length=max_length)
    empty = next((index for index, tokens in enumerate(found["input_ids"]) if not tokens), None)
    if empty is not None:
        raise InvalidValueError(
            "task",
            f"the model's tokenizer makes no token of the text {reprlib.repr(examples.texts[empty])}. Leave it out",
        )
    return [
        {**{name: values[index] for name, values in found.items()}, "labels": label}
        for index, label in enumerate(examples.labels)
    ]


def require_words(encoded: Encoded, tokenizer: Any, name: str) -> None:
    """Require a vocabulary, in place of which transformers takes an empty one where its files are missing."""
    special = set(tokenizer.all_special_ids)
    if len({token for example in encoded for token in example["input_ids"]} - special) < 2:
        raise InvalidValueError(
            "model",
            f"the tokenizer of {name} knows fewer than two of the words of the training data; its vocabulary "
            f"holds {len(tokenizer)} entries. Is its tokenizer.json there, and of the right language?",
        )
