"""Models from names and folders: transformers, GGUF, adapters of PEFT, sentence-transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError, MissingDependencyError
from isoscore_star.pretrained import first_line, has_model, load, quiet, require_own_weights
from isoscore_star.scanning.sources._options import Options
from isoscore_star.scanning.sources._texts_source import TextModel


def load_text_model(name: str, options: Options) -> TextModel:
    """Load a model that reads texts, with its tokenizer.

    Raises
    ------
    InvalidValueError
        If there is no such model, its files are damaged, or it needs code of its own.
    MissingDependencyError
        If a package that it needs is not installed.
    """
    require("torch", "transformers")
    with quiet(), refusing_remote_code(name):
        folder = Path(name).expanduser()
        if has_file(name, "modules.json"):
            return _sentence_transformer(name, options)
        if has_file(name, "adapter_config.json"):
            return _adapter(name, options)
        file = options.gguf_file
        if folder.suffix.lower() == ".gguf" and folder.is_file():
            return _gguf(str(folder.parent), folder.name, options)
        if file is None and _is_dir(folder) and not (folder / "config.json").exists():
            found = sorted(path.name for path in folder.glob("*.gguf"))
            if len(found) > 1:
                raise InvalidValueError(
                    "model", f"{name} holds {len(found)} models ({', '.join(found[:5])}). Choose one with --gguf-file"
                )
            file = found[0] if found else None
        if file is not None:
            return _gguf(name, file, options)
        return _plain(name, options)


def require(*packages: str, extra: str = "huggingface") -> None:
    """Require that packages are installed."""
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(
                f'a scan of this model needs {package}, which is not installed: pip install "isoscore-star[{extra}]"'
            ) from error


@contextmanager
def refusing_remote_code(name: str) -> Iterator[None]:
    """Say what to do where transformers wants to be told to run code that comes with a model."""
    try:
        yield
    except (InvalidValueError, ValueError) as error:
        found: BaseException | None = error
        while found is not None and "trust_remote_code" not in str(found):
            found = found.__cause__
        if found is None:
            raise
        raise InvalidValueError(
            "model",
            f"{name} needs Python code that comes with it, which is never run here. If you trust it, load it yourself: "
            "isoscore_star.scan(model, texts, tokenizer=tokenizer)",
        ) from error


def has_file(name: str, file: str) -> bool:
    """Return whether a model has a file, in its folder or on the hub."""
    folder = Path(name).expanduser()
    if _is_dir(folder):
        return (folder / file).is_file()
    if folder.suffix.lower() == ".gguf" or name.startswith((".", "~", "/")) or name.count("/") > 1:
        return False
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if isinstance(try_to_load_from_cache(name, file), str):
            return True
        return has_model(name) and bool(hf_hub_download(name, file, etag_timeout=10))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):  # not there, or not to be reached
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for one
        return False


def _plain(name: str, options: Options) -> TextModel:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = load(name, AutoTokenizer.from_pretrained, "tokenizer: ")
    model, loaded = load(name, AutoModel.from_pretrained, dtype=options.precision(), output_loading_info=True)
    require_whole(model, loaded, name)
    # Of models of texts and images, such as CLIP, the tower that reads texts.
    return TextModel(name, placed(getattr(model, "text_model", model), options), tokenizer)


def require_whole(model: Any, loaded: dict[str, Any], name: str) -> None:
    """Require that no weight was drawn at random."""
    require_own_weights(model, loaded, name)
    missing = [key for key in loaded["missing_keys"] if "pooler" not in key]
    if missing:
        raise InvalidValueError(
            "model",
            f"{name} lacks {len(missing)} of the weights that its config.json calls for ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}), so its states would be those of random weights",
        )


def placed(model: Any, options: Options) -> Any:
    """Return the model on its device, ready to be read."""
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model.to(options.place()).eval()


def _gguf(folder: str, file: str, options: Options) -> TextModel:
    from transformers import AutoModel, AutoTokenizer

    require("gguf", extra="gguf")
    with redirect_stderr(StringIO()):  # bars that no setting of transformers turns off
        tokenizer = load(folder, AutoTokenizer.from_pretrained, "tokenizer: ", gguf_file=file)
        model, loaded = load(
            folder, AutoModel.from_pretrained, gguf_file=file, dtype=options.precision(), output_loading_info=True
        )
    require_whole(model, loaded, f"{folder}/{file}")
    return TextModel(f"{folder}/{file}", placed(model, options), tokenizer)


def _adapter(name: str, options: Options) -> TextModel:
    import transformers

    require("peft", extra="peft")
    import peft

    config = load(name, peft.PeftConfig.from_pretrained, "adapter: ") if not _is_dir(Path(name).expanduser()) else None
    if config is None:
        try:
            config = peft.PeftConfig.from_pretrained(name)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidValueError("model", f"{name} holds no usable adapter: {first_line(error)}") from error
    base = config.base_model_name_or_path
    if not base:
        raise InvalidValueError("model", f"the adapter {name} does not say which model it adapts")
    kind = {
        "CAUSAL_LM": "AutoModelForCausalLM",
        "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
        "SEQ_CLS": "AutoModelForSequenceClassification",
        "TOKEN_CLS": "AutoModelForTokenClassification",
    }.get(str(getattr(config.task_type, "value", config.task_type)), "AutoModel")
    more: dict[str, Any] = {}
    if kind.endswith("Classification"):
        more = {"num_labels": _labels_of(name) or 2}
    model, loaded = load(
        base,
        getattr(transformers, kind).from_pretrained,
        dtype=options.precision(),
        output_loading_info=True,
        **more,
    )
    require_own_weights(model, loaded, base)  # but for a head, which the adapter has
    try:
        with warnings.catch_warnings():
            # Else peft goes on with what it drew at random, or with nothing.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft's
            model = peft.PeftModel.from_pretrained(model, name)
    except Exception as error:  # a damaged file may raise anything
        raise InvalidValueError("model", f"the adapter {name} does not fit {base}: {first_line(error)}") from error
    notes = [f"the adapter {name} on {base}"]
    if hasattr(model, "merge_and_unload") and not getattr(config, "is_prompt_learning", False):
        model = model.merge_and_unload()
    own = has_file(name, "tokenizer_config.json")
    tokenizer = load(name if own else base, transformers.AutoTokenizer.from_pretrained, "tokenizer: ")
    return TextModel(name, placed(model, options), tokenizer, notes=tuple(notes))


def _labels_of(name: str) -> int | None:
    """Return how many classes an adapter's own head has."""
    from safetensors import safe_open

    file = Path(name).expanduser() / "adapter_model.safetensors"
    if not file.is_file():
        return None
    with safe_open(file, "np") as weights:
        heads = [key for key in weights.keys() if "classifier" in key or "score" in key]  # noqa: SIM118
        sizes = [weights.get_slice(key).get_shape()[0] for key in heads if key.endswith("weight")]
    return sizes[-1] if sizes else None


def _sentence_transformer(name: str, options: Options) -> TextModel:
    require("sentence_transformers", extra="sentence-transformers")
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(Path(name).expanduser()) if _is_dir(Path(name).expanduser()) else name,
            device=str(options.place()),
            trust_remote_code=False,
            model_kwargs={"dtype": options.precision()},
        )
    except Exception as error:  # a damaged file may raise anything
        if "trust_remote_code" in str(error):
            raise ValueError(str(error)) from error
        raise InvalidValueError("model", f"{name} holds no usable sentence-transformer: {first_line(error)}") from error
    found = of_sentence_transformer(model, name)
    own = found.model
    # sentence-transformers does not tell which weights it found; without data the question takes no time.
    _, loaded = load(own.name_or_path, type(own).from_pretrained, output_loading_info=True, device_map="meta")
    require_whole(own, loaded, name)
    return found


def of_sentence_transformer(model: Any, name: str) -> TextModel:
    """Return the transformer inside a SentenceTransformer, with the modules after it, which pool.

    Raises
    ------
    InvalidValueError
        If its first module is no transformer.
    """
    first, *rest = list(model.children())
    inner = getattr(first, "auto_model", None) or getattr(first, "model", None)
    if inner is None or not hasattr(inner, "config"):
        raise InvalidValueError(
            "model", f"the first module of {name} is a {type(first).__name__}, which has no layers of states"
        )
    for module in rest:
        module.eval()

    def pooled(outputs: Any, inputs: dict[str, Any]) -> Any:
        features = {"token_embeddings": outputs[0], **inputs}
        for module in rest:
            features = module(features)
        embeddings = features["sentence_embedding"].detach()
        return embeddings.float() if embeddings.dtype.itemsize < 4 else embeddings

    prompt = (model.prompts or {}).get(model.default_prompt_name or "", "") or ""
    notes = [f"each text is read after the model's prompt {prompt!r}"] if prompt else []
    return TextModel(name, inner, model.tokenizer, pooled, prompt, tuple(notes))
