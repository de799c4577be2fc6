"""All that is measured of a model once it is trained: its task, its token states, sentence similarity."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import isoscore_star as iso
from isoscore_star import diagnostics
from isoscore_star.finetuning import Examples, encode, scores
from paper_checks._claim import NoDataError
from paper_checks.training._sizes import Size
from paper_checks.training._tasks import TaskSplits, load_splits

ABLATED = 3
"""Dimensions that are ablated together: those with the largest variance, against as many others by chance."""

_BATCH = 64
Array = NDArray[Any]


class _Read(NamedTuple):
    """What a model gives to examples: logits; for each layer the mean of each sentence's token states, and some states.

    Shapes (n, classes), (layers, n, d) and for each layer (states, d).
    """

    logits: Array
    means: Array
    states: list[Array]

    @property
    def sentences(self) -> Array:
        """The last layer's sentence means."""
        last: Array = self.means[-1]
        return last


def measured(model: Any, tokenizer: Any, collate: Any, splits: TaskSplits, size: Size) -> dict[str, Any]:
    """Measure a model on texts that it was not trained on.

    Returns
    -------
    dict
        ``validation`` and ``test``: the task's metric. ``diverged``: whether states are not finite or all alike, and
        nothing below is there. ``union``: scores of all layers but the embedding layer, together; ``layers``: for each
        layer, the embedding layer first, ``isoscore``, ``unbiased``, ``squared_mean`` (‖μ‖²), ``variance`` (tr S),
        ``cosine``, ``two_nn``, and ``two_nn_sentences`` (of the means of each sentence's states). ``spectrum`` and
        ``union_spectrum``: eigenvalues, of sum 1, of the last layer and of the union. Of the last layer: ``outliers``
        (see `_outliers`), ``probe`` (see `_probe`) and ``pairs`` (see `_pairs`).
    """
    model.eval()
    rows = {
        part: encode(examples.at_most(count), tokenizer, size.length)
        for part, examples, count in (
            ("validation", splits.validation, size.validation),
            ("test", splits.test, size.test),
        )
    }
    read = {part: _read(model, collate, some, size.states if part == "test" else 0) for part, some in rows.items()}
    labels = {part: np.array([row["labels"] for row in some]) for part, some in rows.items()}
    found: dict[str, Any] = {part: _score(splits, read[part].logits, labels[part]) for part in rows}
    try:
        found |= _states(read["test"], size)
    except iso.IsoScoreError as error:
        return found | {"diverged": str(error)}
    found["diverged"] = None
    last = read["test"].states[-1]
    some = rows["test"][: size.ablated]
    found["outliers"] = _outliers(model, collate, splits, some, read["test"].logits, last)
    whitening = _whitening(last)
    if splits.names is not None:
        found["probe"] = _probe(read, labels, whitening)
    found["pairs"] = _pairs(model, tokenizer, collate, size, whitening)
    return found


def _score(splits: TaskSplits, logits: Array, labels: Array) -> float:
    return scores(splits.metric, logits, labels)[splits.metric]


@torch.no_grad()
def _read(model: Any, collate: Any, rows: list[dict[str, Any]], states: int) -> _Read:
    """Run a model over examples, of similar length together; token states only of as many as are wanted, by chance."""
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    lengths = np.array([len(row["input_ids"]) for row in rows])
    shuffled = np.random.default_rng(0).permutation(len(rows))
    chosen = set(shuffled[: int(np.searchsorted(np.cumsum(lengths[shuffled]), states, side="right"))].tolist())
    logits: list[Array] = [np.empty(0)] * len(rows)
    means: list[Array] = [np.empty(0)] * len(rows)
    layers: list[list[Array]] = []
    for start in range(0, len(rows), _BATCH):
        places = order[start : start + _BATCH]
        batch = collate([{name: rows[i][name] for name in rows[i] if name != "labels"} for i in places]).to(device)
        out = model(**batch, output_hidden_states=True)
        mask = batch["attention_mask"].bool()
        weights = (mask / mask.sum(1, keepdim=True))[..., None]
        of_layers = torch.stack([(state.float() * weights).sum(1) for state in out.hidden_states], 1)
        for place, of_logits, of_means in zip(places, out.logits.cpu(), of_layers.cpu(), strict=True):
            logits[place], means[place] = of_logits.double().numpy(), of_means.double().numpy()
        wanted = mask & torch.tensor([i in chosen for i in places], device=device)[:, None]
        if wanted.any():
            layers = layers or [[] for _ in out.hidden_states]
            for layer, state in zip(layers, out.hidden_states, strict=True):
                layer.append(state[wanted].double().cpu().numpy())
    return _Read(np.array(logits), np.array(means).swapaxes(0, 1), [np.concatenate(layer) for layer in layers])


def _states(read: _Read, size: Size) -> dict[str, Any]:
    layers, union = read.states, read.states[1:]
    return {
        "tokens": len(layers[0]),
        "union": {"isoscore": iso.isoscore(union), "unbiased": iso.isoscore_unbiased(union)},
        "layers": [_layer(states, means, size) for states, means in zip(layers, read.means, strict=True)],
        "spectrum": _spectrum(layers[-1]),
        "union_spectrum": _spectrum(np.concatenate(union)),
    }


def _spectrum(states: Array) -> list[float]:
    values = np.linalg.eigvalsh(np.cov(states.T))[::-1].clip(0)
    shares: list[float] = (values / values.sum()).tolist()
    return shares


def _layer(states: Array, means: Array, size: Size) -> dict[str, float | None]:
    centre, variance = states.mean(0), float(states.var(0, ddof=1).sum())
    squared = float(centre @ centre)
    near = np.random.default_rng(0).permutation(len(states))[: size.neighbours]
    return {
        "isoscore": iso.isoscore(states),
        "unbiased": iso.isoscore_unbiased(states),
        "squared_mean": squared,
        "variance": variance,
        "cosine": diagnostics.average_cosine_similarity(states),
        "two_nn": _dimension(states[near]),
        "two_nn_sentences": _dimension(means[: size.neighbours]),
    }


def _dimension(points: Array) -> float | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of equal points, whose distance is 0
            found = diagnostics.two_nn_dimension(points)
    except (iso.IsoScoreError, ValueError):  # too few different points
        return None
    return found if np.isfinite(found) else None


def _outliers(
    model: Any, collate: Any, splits: TaskSplits, rows: list[dict[str, Any]], logits: Array, states: Array
) -> dict[str, float]:
    """Find the last layer's outlier dimensions, and what the task loses without the largest dimensions.

    ``count`` and ``share`` (of the variance) are those of the outlier dimensions, ``largest`` is the share of the
    largest dimension. An ablated dimension has its mean everywhere. ``whole``, ``ablated`` and ``others`` are the
    task's metric with nothing ablated, without the `ABLATED` largest dimensions, and without as many others.
    """
    found = diagnostics.outlier_dimensions(states)
    variances = states.var(0)
    order = np.argsort(-variances)
    others = np.random.default_rng(0).choice(order[ABLATED:], ABLATED, replace=False)
    labels = np.array([row["labels"] for row in rows])
    metrics = {"whole": _score(splits, logits[: len(rows)], labels)}
    for name, dims in (("ablated", order[:ABLATED]), ("others", others)):
        with _ablated(model, collate, rows[0], dims, states.mean(0)):
            metrics[name] = _score(splits, _read(model, collate, rows, 0).logits, labels)
    share = sum(dimension.variance_share for dimension in found)
    return {"count": len(found), "share": share, "largest": float(variances.max() / variances.sum()), **metrics}


@contextlib.contextmanager
def _ablated(model: Any, collate: Any, row: dict[str, Any], dims: Array, mean: Array) -> Iterator[None]:
    """Hold dimensions of the last layer's states at their mean, wherever the model makes them."""
    device = next(model.parameters()).device
    places = torch.as_tensor(dims.copy(), device=device)
    value = torch.as_tensor(mean[dims], dtype=torch.float32, device=device)

    def replace(_module: Any, _inputs: Any, output: Any) -> Any:
        return output.index_copy(-1, places, value.expand(*output.shape[:-1], -1).to(output.dtype))

    hook = _last_states_module(model, collate, row).register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def _last_states_module(model: Any, collate: Any, row: dict[str, Any]) -> Any:
    """Find the module that puts out the last hidden states; for several, the first that is called."""
    outputs: list[tuple[Any, Any]] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, output: outputs.append((module, output)))
        for module in model.modules()
    ]
    try:
        batch = collate([{name: row[name] for name in row if name != "labels"}])
        out = model(**batch.to(next(model.parameters()).device), output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    last = out.hidden_states[-1]
    for module, output in outputs:
        # By memory, not by identity: GPT-2 gives a view of what its last layer norm put out.
        if torch.is_tensor(output) and output.shape == last.shape and output.data_ptr() == last.data_ptr():
            return module
    raise AssertionError(f"no module of {type(model).__name__} puts out its last hidden states")


def _whitening(states: Array) -> Array:
    """Give the matrix that makes the states isotropic, by the eigenvalues of their covariance (ZCA)."""
    values, vectors = np.linalg.eigh(np.cov(states.T))
    # Directions without variance have none to be scaled to one.
    scales = np.where(values > 1e-10 * values.max(), 1 / np.sqrt(values.clip(1e-300)), 0.0)
    whitening: Array = (vectors * scales) @ vectors.T
    return whitening


def _probe(read: dict[str, _Read], labels: dict[str, Array], whitening: Array) -> dict[str, float]:
    """Test accuracy of a logistic regression on sentence means, plain and whitened, fitted on validation sentences."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = {}
    centre = read["validation"].sentences.mean(0)
    for name, matrix in (("plain", np.eye(len(whitening))), ("whitened", whitening)):
        fitted = make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=2000))
        fitted.fit((read["validation"].sentences - centre) @ matrix, labels["validation"])
        found[name] = float(fitted.score((read["test"].sentences - centre) @ matrix, labels["test"]))
    return found


def _pairs(model: Any, tokenizer: Any, collate: Any, size: Size, whitening: Array) -> dict[str, float] | None:
    """Spearman's correlation of STS-B's similarities with cosines of sentence means, plain, centred and whitened."""
    from scipy.stats import spearmanr

    try:
        pairs = load_splits("stsb").test.at_most(size.pairs)
    except NoDataError:
        return None
    assert pairs.pairs is not None
    both = Examples([*pairs.texts, *pairs.pairs], None, [*pairs.labels, *pairs.labels])
    pooled = _read(model, collate, encode(both, tokenizer, size.length), 0).sentences
    found = {}
    centred = pooled - pooled.mean(0)
    for name, points in (("plain", pooled), ("centred", centred), ("whitened", centred @ whitening)):
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        first, second = np.split(unit, 2)
        found[name] = float(spearmanr((first * second).sum(1), pairs.labels).statistic)
    return found
