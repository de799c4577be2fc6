"""Models and tokenizers by name or folder."""

from __future__ import annotations

import os
import reprlib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError, IsoScoreError, MissingDependencyError
from isoscore_star.finetuning._examples import TaskData
from isoscore_star.finetuning._hub import WAYS, has_model
from isoscore_star.finetuning._model_files import require_own_weights, require_whole_files


def require_packages() -> None:
    """Require all packages that a fine-tuning needs."""
    for package in ("torch", "transformers", "accelerate", "sklearn", "filelock"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(
                f'fine-tuning needs {package}, which is not installed: pip install "isoscore-star[huggingface]"'
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off the bars and advice of transformers."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer, with a token for padding.

    Raises
    ------
    InvalidValueError
        If there is none.
    """
    from transformers import AutoTokenizer

    tokenizer = _load(name, AutoTokenizer.from_pretrained, "tokenizer: ")
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
        own = _load(name, AutoConfig.from_pretrained).to_dict()
        task |= {rate: dropout for rate, value in own.items() if "drop" in rate and isinstance(value, float)}
    model, loaded = _load(
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


def _load(name: str, load: Any, part: str = "", **options: Any) -> Any:
    path = Path(name).expanduser()
    is_path = _is_folder(path) or name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if is_path and not _is_folder(path):
        raise InvalidValueError("model", f"there is no folder {reprlib.repr(name) if len(name) > 1000 else name}")
    options["trust_remote_code"] = False  # or transformers would ask on the terminal, and wait
    try:
        if is_path:
            require_whole_files(path)
            return load(str(path), **options)
        return load(name, local_files_only=not has_model(name), **options)
    except IsoScoreError:
        raise
    except Exception as error:  # a damaged file may raise anything
        if is_path:
            raise InvalidValueError(
                "model", f"the folder {name} holds no usable model: {part}{first_line(error)}"
            ) from error
        why = "it is not in the cache, and the Hugging Face hub cannot be reached"
        if has_model(name):
            why = f"what the Hugging Face hub has of that name cannot be loaded ({first_line(error)})"
        raise InvalidValueError("model", f"{name!r} is no folder here, and {why}. {WAYS}") from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for one
        return False


def first_line(error: BaseException) -> str:
    """Return the first line of the message of a library's error, shortened."""
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 300).rstrip(".")
