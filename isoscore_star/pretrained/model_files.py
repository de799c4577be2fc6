"""Checks that the files of a model's folder are whole, before a model is loaded from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.readers import FileContentError, require_fetched

_READ = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "*.index.json",
)  # fmt: skip


def require_whole_files(folder: Path) -> None:
    """Require readable JSON, and headers of weights that fit their files."""
    try:
        for file, fault in _faults(folder):
            raise InvalidValueError("model", f"{file}: {fault}. Fetch or save the model anew")
    except FileContentError as error:
        raise error.about("model") from error


def _faults(folder: Path) -> Iterator[tuple[Path, str]]:
    from safetensors import SafetensorError, safe_open

    for file in sorted(path for pattern in _READ for path in folder.glob(pattern) if path.is_file()):
        require_fetched(file)
        try:
            if not isinstance(json.loads(file.read_bytes()), dict):
                yield file, "holds no JSON object"
        except json.JSONDecodeError as error:
            yield file, f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        except UnicodeDecodeError as error:
            yield file, f"is not UTF-8 text ({error.reason} at byte {error.start})"
        except (ValueError, RecursionError):
            yield file, "holds JSON that is nested too deeply, or a number of too many digits"
    for file in sorted(path for path in folder.glob("*.safetensors") if path.is_file()):
        require_fetched(file)
        try:
            with safe_open(file, "np"):
                pass
        except (SafetensorError, OSError) as error:
            yield file, f"holds no whole weights ({error})"


def require_own_weights(model: Any, loaded: dict[str, Any], name: str) -> None:
    """Require that all weights but those of head and pooler came from files: transformers draws others silently."""
    base = f"{model.base_model_prefix}."
    mismatched = {key if isinstance(key, str) else key[0] for key in loaded["mismatched_keys"]}
    missing = [key for key in loaded["missing_keys"] if "pooler" not in key]
    lost = sorted(key for key in {*missing, *mismatched} if key.startswith(base))
    if lost:
        raise InvalidValueError(
            "model",
            f"{name} lacks {len(lost)} of the weights that its config.json calls for, or has them in another "
            f"shape ({', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}): the two do not belong together",
        )
