"""Which kind of model was given."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.scanning._texts import texts_of
from isoscore_star.scanning.sources._options import Options


def open_source(
    model: Any,
    texts: Any = None,
    options: Options = Options(),  # noqa: B008  # frozen
    *,
    tokenizer: Any = None,
    images: Any = None,
    batches: Any = None,
    mask: Any = None,
) -> Any:
    """Return the source for a model; see `isoscore_star.scan` for the parameters.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the model cannot be had, or is of no known kind.
    """
    given = [name for name, value in (("texts", texts), ("images", images), ("batches", batches)) if value is not None]
    if len(given) > 1:
        raise InvalidValueError(given[1], f"expected texts, images or batches; got {' and '.join(given)}")
    if isinstance(model, (str, os.PathLike)):
        return _of_name(str(model), texts, options, images, batches)
    if batches is not None:
        return _of_batches(model, batches, options, mask)
    kind = type(model).__mro__
    if any(base.__name__ == "SentenceTransformer" for base in kind):
        from isoscore_star.scanning.sources._loading import of_sentence_transformer
        from isoscore_star.scanning.sources._texts_source import TextSource

        return TextSource(of_sentence_transformer(model, "SentenceTransformer"), _texts(texts, options), options)
    if any(base.__name__ in ("PreTrainedModel", "PeftModel") for base in kind):
        from isoscore_star.scanning.sources._texts_source import TextModel, TextSource

        if tokenizer is None:
            raise InvalidValueError("tokenizer", "a model that is loaded needs its tokenizer, or batches= of inputs")
        name = getattr(model, "name_or_path", "") or type(model).__name__
        return TextSource(TextModel(name, model, tokenizer), _texts(texts, options), options)
    raise InvalidTypeError(
        "model",
        "expected the name or folder of a model, a model of transformers with its tokenizer, a SentenceTransformer, or "
        f"a torch module or Keras model with batches=; got {type(model).__name__}. For any other, feed "
        "isoscore_star.Moments with the states of each batch: moments.update(states, mask)",
    )


def _of_name(name: str, texts: Any, options: Options, images: Any, batches: Any) -> Any:
    if not name.strip():
        raise InvalidValueError("model", "expected the folder or the name of a model; got nothing")
    if batches is not None:
        raise InvalidValueError("batches", "they belong to a model that is loaded already; give texts with a name")
    if images is not None:
        from isoscore_star.scanning.sources._images import ImageSource

        return ImageSource(name, Path(images).expanduser(), options)
    # Texts first: a mistake there shows at once, and loading a model takes seconds.
    read = _texts(texts, options)
    from isoscore_star.scanning.sources._loading import load_text_model
    from isoscore_star.scanning.sources._texts_source import TextSource

    return TextSource(load_text_model(name, options), read, options)


def _texts(texts: Any, options: Options) -> Any:
    return texts_of(texts, options.text_column, options.max_texts)


def _of_batches(model: Any, batches: Any, options: Options, mask: Any) -> Any:
    torch, keras, linen = (sys.modules.get(name) for name in ("torch", "keras", "flax.linen"))
    if keras is not None and isinstance(model, keras.Model):
        from isoscore_star.scanning.sources._keras_source import KerasSource

        return KerasSource(model, batches, options, mask)
    if torch is not None and isinstance(model, torch.nn.Module):
        from isoscore_star.scanning.sources._modules import ModuleSource

        return ModuleSource(model, batches, options, mask)
    if linen is not None and isinstance(model, linen.Module):
        from isoscore_star.scanning.sources._flax_source import FlaxSource

        return FlaxSource(model, batches, options, mask)
    raise InvalidTypeError(
        "model",
        "with batches= expected a torch module, a Keras model or a bound module of flax.linen; got "
        f"{type(model).__name__}. For any other, such as one of flax.nnx, feed isoscore_star.Moments with the states "
        "of each batch: moments.update(states, mask)",
    )
