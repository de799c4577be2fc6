"""Loading by name or folder, with one line of message for whatever a library raises."""

from __future__ import annotations

import os
import reprlib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.pretrained.hub import WAYS, has_model
from isoscore_star.pretrained.model_files import require_whole_files


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


def load(name: str, loader: Any, part: str = "", **options: Any) -> Any:
    """Load a model, tokenizer or configuration, without remote code.

    Parameters
    ----------
    name : str
        Name on the hub, or a folder.
    loader : callable
        ``from_pretrained`` of a class of transformers.
    part : str, optional
        What is loaded, for the message.
    **options
        For `loader`.

    Raises
    ------
    InvalidValueError
        If there is no such model, or its files are damaged.
    """
    path = Path(name).expanduser()
    is_path = _is_folder(path) or name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if is_path and not _is_folder(path):
        raise InvalidValueError("model", f"there is no folder {reprlib.repr(name) if len(name) > 1000 else name}")
    options["trust_remote_code"] = False  # or transformers would ask on the terminal, and wait
    try:
        if is_path:
            require_whole_files(path)
            return loader(str(path), **options)
        return loader(name, local_files_only=not has_model(name), **options)
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
