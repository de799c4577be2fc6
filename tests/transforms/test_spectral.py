"""`SpectralTransform` against scikit-learn's PCA, and by scikit-learn's own tests of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from isoscore_star.transforms import SpectralTransform

DIM = 6
WORDS = ["green", "tree", "house", "river", "stone", "night"]


def points(rng: np.random.Generator, rows: int = 200) -> Any:
    return rng.normal(size=(rows, DIM)) @ rng.normal(size=(DIM, DIM)) + 10


CHECKS = [*estimator_checks_generator(SpectralTransform(remove=1, power=1.0, shrinkage=0.1))]


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS])
def test_as_scikit_learn_wants_it(estimator: Any, check: Any) -> None:
    check(estimator)


def test_full_whitening_is_that_of_a_pca_turned_back(rng: np.random.Generator) -> None:
    X = points(rng)
    pca = PCA(whiten=True).fit(X)
    size = np.sqrt(pca.explained_variance_.mean())
    wanted = size * pca.transform(X) @ pca.components_
    # Eigenvectors are known to ε·λ₁/gap; these spectra's gaps are above a hundredth of λ₁.
    assert np.allclose(SpectralTransform(power=1.0).fit_transform(X), wanted, rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("remove", [1, 3])
def test_all_but_the_top_is_what_a_pca_leaves(remove: int, rng: np.random.Generator) -> None:
    X = points(rng)
    pca = PCA(remove).fit(X)
    wanted = X - pca.inverse_transform(pca.transform(X))
    assert np.allclose(SpectralTransform(remove=remove).fit_transform(X), wanted, rtol=0, atol=1e-10 * np.ptp(X))


def test_centring_alone(rng: np.random.Generator) -> None:
    X = points(rng)
    assert np.allclose(
        SpectralTransform().fit_transform(X), StandardScaler(with_std=False).fit_transform(X), atol=1e-11
    )


@pytest.mark.parametrize(("power", "shrinkage"), [(0.5, 0.0), (1.0, 0.3), (0.7, 1.0)])
def test_the_spectrum_afterwards(power: float, shrinkage: float, rng: np.random.Generator) -> None:
    X = points(rng)
    before = np.linalg.eigvalsh(np.cov(X.T))
    shrunk = (1 - shrinkage) * before + shrinkage * before.mean()
    after = np.linalg.eigvalsh(np.cov(SpectralTransform(0, power, shrinkage).fit_transform(X).T))
    assert np.allclose(after, np.sort(before * (shrunk / before.mean()) ** -power), rtol=1e-10)


def test_parts_and_moments_are_the_whole(rng: np.random.Generator) -> None:
    X = points(rng)
    whole = SpectralTransform(1, 0.5).fit(X)
    parts = SpectralTransform(1, 0.5)
    for part in np.array_split(X, 7):
        parts.partial_fit(part)
    streamed = SpectralTransform(1, 0.5).fit(iso.Moments().update(X.reshape(20, 10, DIM)))
    for other in (parts, streamed):
        assert np.allclose(other.transform(X), whole.transform(X), rtol=0, atol=1e-11 * np.ptp(X))
    moments = iso.Moments().update(X)
    fitted = SpectralTransform().fit(moments)
    fitted.partial_fit(X)
    assert moments.count == len(X)


def test_fewer_points_than_dimensions(rng: np.random.Generator) -> None:
    X = rng.normal(size=(5, 20))
    whitened = SpectralTransform(power=1.0).fit_transform(X)
    kept = np.linalg.eigvalsh(np.cov(whitened.T))[-4:]
    assert np.allclose(kept, kept.mean(), rtol=1e-10)
    assert np.isfinite(SpectralTransform(power=1.0, shrinkage=0.1).fit_transform(X)).all()


def test_in_a_pipeline_and_cloned(rng: np.random.Generator) -> None:
    X = points(rng)
    pipe = clone(make_pipeline(StandardScaler(), SpectralTransform(power=1.0))).fit(X)
    assert iso.isoscore(pipe.transform(X)) == pytest.approx(1.0, abs=1e-10)


def test_as_a_layer_of_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    X = points(rng)
    fitted = SpectralTransform(1, 0.5).fit(X)
    with torch.no_grad():
        layer = fitted.to_torch().double()
    # The layer's weights are float32.
    assert np.allclose(layer(torch.from_numpy(X)).numpy(), fitted.transform(X), atol=2e-5 * np.abs(X).max())


@pytest.mark.parametrize("normalized", [False, True])
def test_in_a_sentence_transformer(tmp_path: Any, normalized: bool) -> None:
    """As docs/transforms.md has it: appended, or inserted before Normalize."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    model = SentenceTransformer(modules=[modules.BoW(vocab=WORDS), *([modules.Normalize()] if normalized else [])])
    texts = [" ".join(np.random.default_rng(seed).choice(WORDS, 4)) for seed in range(40)]
    raw = SentenceTransformer(modules=list(model)[:-1]) if normalized else model
    embeddings = raw.encode(texts)
    fitted = SpectralTransform(remove=1, power=0.5, shrinkage=0.1).fit(embeddings)
    wanted = fitted.transform(embeddings)
    if normalized:
        model.insert(len(model) - 1, fitted.to_sentence_transformers())
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    else:
        model.append(fitted.to_sentence_transformers())
    model.save(str(tmp_path / "model"))
    for made in (model, SentenceTransformer(str(tmp_path / "model"))):
        # Float32: six products and a constant of entries of up to four, some 30·2⁻²⁴, of lengths of a tenth or more.
        assert np.allclose(made.encode(texts), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remove": -1}, "remove: expected an integer of at least 0"),
        ({"remove": 6}, "of 6 directions one has to stay"),
        ({"remove": 1.5}, "remove: expected an integer"),
        ({"power": 2.0}, r"power: expected a number in \[0, 1\]"),
        ({"shrinkage": -0.1}, r"shrinkage: expected a number in \[0, 1\]"),
    ],
)
def test_wrong_parameters(arguments: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        SpectralTransform(**arguments).fit(points(rng))


def test_what_is_refused_is_not_fitted_to(rng: np.random.Generator) -> None:
    X = points(rng)
    fitted = SpectralTransform().partial_fit(X[:40]).set_params(power=2)
    with pytest.raises(iso.InvalidValueError):
        fitted.partial_fit(X[40:])
    assert fitted.set_params(power=0.0).partial_fit(X[40:]).moments_.count == len(X)


def test_names_of_features_are_forgotten(rng: np.random.Generator) -> None:
    pd = pytest.importorskip("pandas")
    fitted = SpectralTransform().fit(pd.DataFrame(points(rng), columns=list("abcdef")))
    fitted.fit(iso.Moments().update(points(rng)[:, :4]))
    assert list(fitted.get_feature_names_out()) == ["x0", "x1", "x2", "x3"]


def test_nothing_left(rng: np.random.Generator) -> None:
    line = np.outer(rng.normal(size=10), np.ones(DIM))
    with pytest.raises(iso.DegenerateDataError, match="no variance is left when the 1 leading"):
        SpectralTransform(remove=1).fit_transform(line)
    with pytest.raises(iso.DegenerateDataError):
        SpectralTransform().fit_transform(np.ones((5, 3)))
    with pytest.raises(iso.DegenerateDataError, match="got Moments of 0"):
        SpectralTransform().fit(iso.Moments())
    for unfitted in (SpectralTransform.to_torch, SpectralTransform.to_sentence_transformers):
        with pytest.raises(NotFittedError):
            unfitted(SpectralTransform())
