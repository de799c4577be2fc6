"""Models and tokenizers by name or folder."""

from __future__ import annotations

from typing import Any

from isoscore_star import InvalidValueError, MissingDependencyError
from isoscore_star.finetuning._examples import TaskData
from isoscore_star.pretrained import load, require_own_weights


def require_packages() -> None:
    """Require all packages that a fine-tuning needs."""
    for package in ("torch", "transformers", "accelerate", "sklearn", "filelock"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(
                f'fine-tuning needs {package}, which is not installed: pip install "isoscore-star[huggingface]"'
            ) from error


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer, with a token for padding.

    Raises
    ------
    InvalidValueError
        If there is none.
    """
    from transformers import AutoTokenizer

    tokenizer = load(name, AutoTokenizer.from_pretrained, "tokenizer: ")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise InvalidValueError(
                "model", f"the tokenizer of {name} has no token for padding, and none to take for it"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str, tokenizer: Any, data: TaskData, dropout: float | None = None) -> Any:
    """Load a model with a new head for the task; the head's weights are random.

    Parameters
    ----------
    name : str
        Name on the hub, or a folder.
    tokenizer : PreTrainedTokenizer
        The model's tokenizer.
    data : TaskData
        The task, which determines the head.
    dropout : float, optional
        Every dropout rate of the model; its own by default.

    Raises
    ------
    InvalidValueError
        If there is no such model, or its files are damaged.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    task: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    if data.names is not None:
        task = {
            "id2label": dict(enumerate(data.names)),
            "label2id": {label: index for index, label in enumerate(data.names)},
            "problem_type": "single_label_classification",
        }
    if dropout is not None:
        own = load(name, AutoConfig.from_pretrained).to_dict()
        task |= {rate: dropout for rate, value in own.items() if "drop" in rate and isinstance(value, float)}
    model, loaded = load(
        name,
        AutoModelForSequenceClassification.from_pretrained,
        ignore_mismatched_sizes=True,  # a head for another number of classes is replaced
        output_loading_info=True,
        **task,
    )
    require_own_weights(model, loaded, name)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model
