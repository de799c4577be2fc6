"""The torchmetrics metric in one process; `test_torch_distributed` runs it in two."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")
torchmetrics = pytest.importorskip("torchmetrics")

from isoscore_star.backends.torch.moments import StreamingMoments  # noqa: E402
from isoscore_star.integrations.torchmetrics import IsoScoreStar  # noqa: E402

DIM = 7
POINTS = np.random.default_rng(5).normal(size=(90, DIM)) * np.linspace(0.3, 2, DIM) + 1000


def filled(points: np.ndarray = POINTS, size: int = 40, **arguments: Any) -> Any:
    metric = IsoScoreStar(DIM, **arguments)
    for batch in torch.tensor(points).split(size):
        metric.update(batch)
    return metric


@pytest.mark.parametrize("size", [1, 13, 90])
def test_any_batches_give_the_score_of_all_points(size: int) -> None:
    cov = random_cov(np.random.default_rng(0), DIM)
    shrunk = filled(size=size, zeta=0.3, shrinkage_cov=cov).compute()
    assert shrunk.dtype == torch.float64
    assert float(shrunk) == pytest.approx(reference.isoscore_star(POINTS, cov, 0.3), abs=1e-12)
    # Coordinates around 1000 are themselves only known to 1e-13, which the spread of 1 and the fourth power make more.
    assert float(filled(size=size).compute()) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)
    unbiased = float(filled(size=size, estimator="unbiased").compute())
    assert unbiased == pytest.approx(iso.isoscore_unbiased(POINTS), abs=1e-11)


def test_scores_agree_with_packages_of_others() -> None:
    covariance = pytest.importorskip("sklearn.covariance").EmpiricalCovariance().fit(POINTS).covariance_
    expected = iso.score_from_participation_ratio(np.trace(covariance) ** 2 / (covariance**2).sum(), DIM)
    assert float(filled().compute()) == pytest.approx(expected, abs=1e-12)
    dimensionality = pytest.importorskip("dimensionality")
    expected = dimensionality.participation_ratio(POINTS - 1000, return_all=True)["row"]
    unbiased = float(filled(POINTS - 1000, estimator="unbiased").compute())
    assert iso.participation_ratio(unbiased, DIM) == pytest.approx(expected, rel=1e-11)


def test_masks_layers_and_missing_entries() -> None:
    layers = torch.tensor(POINTS[:60]).reshape(3, 4, 5, DIM)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4]])
    kept = np.concatenate([layer[mask].numpy() for layer in layers])
    hidden = [layer.masked_fill(~mask[..., None], torch.nan) for layer in layers]
    for masks in (mask, mask.long(), [mask] * 4):
        metric = IsoScoreStar(DIM, estimator="unbiased", groups=None)
        metric.update((hidden[0], None, *hidden[1:]), masks)
        assert float(metric.compute()) == pytest.approx(iso.isoscore_unbiased(kept), abs=1e-11)
    metric = IsoScoreStar(DIM)
    metric.update(hidden[0], attention_mask=mask)
    assert float(metric.compute()) == pytest.approx(reference.isoscore_star(layers[0][mask].numpy()), abs=1e-12)


def halves(states: np.ndarray, mask: np.ndarray) -> float:
    return reference.isoscore_halves(*(states[half::2][mask[half::2]] for half in (0, 1)))


TOKENS = np.random.default_rng(6).normal(size=(23, 1, DIM)) * 2 + POINTS[:69].reshape(23, 3, DIM)
KEPT = np.random.default_rng(7).random((23, 3)) > 0.3


@pytest.mark.parametrize("size", [1, 5, 23])
def test_token_states_are_halves_of_their_sequences(size: int) -> None:
    metric, stepped = (IsoScoreStar(DIM, estimator="unbiased") for _ in range(2))
    for batch, keep in zip(torch.tensor(TOKENS).split(size), torch.tensor(KEPT).split(size), strict=True):
        metric.update(batch, keep)
        stepped(batch, keep)  # merges the batch's own state
    for same in (metric, stepped, pickle.loads(pickle.dumps(metric))):
        assert float(same.compute()) == pytest.approx(halves(TOKENS, KEPT), abs=1e-11)


def test_a_saved_state_counts_on() -> None:
    first, loaded = (IsoScoreStar(DIM, estimator="unbiased") for _ in range(2))
    first.persistent(True)
    loaded.persistent(True)
    first.update(torch.tensor(TOKENS[:5]), torch.tensor(KEPT[:5]))
    state = first.state_dict()
    loaded.load_state_dict(state)
    assert torch.equal(loaded.moments, first.moments)
    loaded.update(torch.tensor(TOKENS[5:]), torch.tensor(KEPT[5:]))
    assert float(loaded.compute()) == pytest.approx(halves(TOKENS, KEPT), abs=1e-11)
    rest = IsoScoreStar(DIM, estimator="unbiased")
    rest.update(torch.tensor(TOKENS[5:]), torch.tensor(KEPT[5:]))
    first.merge_state(rest)  # torchmetrics puts the other's state before its own
    expected = halves(np.roll(TOKENS, -5, axis=0), np.roll(KEPT, -5, axis=0))
    assert float(first.compute()) == pytest.approx(expected, abs=1e-11)


def test_groups_of_the_metric_and_of_a_batch() -> None:
    swapped = IsoScoreStar(DIM, estimator="unbiased", groups=1)
    swapped.update(torch.tensor(TOKENS.swapaxes(0, 1)), torch.tensor(KEPT.T))
    labelled = IsoScoreStar(DIM, estimator="unbiased")
    labelled.update(torch.tensor(TOKENS[KEPT]), groups=np.repeat(np.arange(23), 3).reshape(23, 3)[KEPT])
    for metric in (swapped, labelled):
        assert float(metric.compute()) == pytest.approx(halves(TOKENS, KEPT), abs=1e-11)
    labelled.update(torch.tensor(POINTS))
    assert torch.isnan(labelled.compute())  # some points with groups, others without
    independent = IsoScoreStar(DIM, estimator="unbiased", groups=None)
    assert len(independent.moments) < 0.6 * len(labelled.moments)
    with pytest.raises(iso.InvalidValueError, match='Make it with groups="auto"'):
        independent.update(torch.tensor(TOKENS), groups=0)
    with pytest.raises(iso.InvalidValueError, match='expected "auto", an axis, or None'):
        IsoScoreStar(DIM, estimator="unbiased", groups=np.arange(23))
    with pytest.raises(iso.InvalidValueError, match="estimator: expected one of"):
        IsoScoreStar(DIM, estimator="anchored")


@pytest.mark.parametrize("cut", [0, 3, 8])
@pytest.mark.parametrize("enough", [False, True])
def test_sequences_without_a_token_are_no_groups(cut: int, enough: bool) -> None:
    mask = np.zeros((8, 3), bool)
    mask[[0, 2, 5, 7] if enough else [0, 2, 5]] = True
    last, first = (IsoScoreStar(DIM, estimator="unbiased") for _ in range(2))
    first.update(torch.tensor(TOKENS[:cut]), torch.tensor(mask[:cut]))
    last.update(torch.tensor(TOKENS[cut:8]), torch.tensor(mask[cut:]))
    last.merge_state(first)
    assert float(last.compute()) == pytest.approx(halves(TOKENS[:8], mask) if enough else 0, abs=1e-11)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_what_carries_no_information_scores_zero(estimator: str) -> None:
    metric = IsoScoreStar(DIM, estimator=estimator)
    for batch in (torch.zeros(0, DIM), torch.full((1, DIM), 0.1), torch.full((5, DIM), 0.1)):
        metric.update(batch)
        assert float(metric.compute()) == 0
    metric.update(torch.full((1, DIM), torch.inf))
    assert torch.isnan(metric.compute())


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_scale(scale: float) -> None:
    points = (POINTS - 1000) * scale
    for estimator, expected in (("shrinkage", iso.isoscore(points)), ("unbiased", iso.isoscore_unbiased(points))):
        assert float(filled(points, estimator=estimator).compute()) == pytest.approx(expected, abs=1e-12)


def test_half_precision_points() -> None:
    rounded = torch.tensor(POINTS - 1000).bfloat16()
    metric = IsoScoreStar(DIM)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metric.update(rounded)
    expected = reference.isoscore_star(rounded.double().numpy())
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-6)


def test_forward_gives_the_batch_and_keeps_the_whole() -> None:
    metric = IsoScoreStar(DIM)
    for batch in torch.tensor(POINTS).split(45):
        assert float(metric(batch)) == pytest.approx(reference.isoscore_star(batch.numpy()), abs=1e-12)
    assert float(metric.compute()) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_merge_state_reset_and_pickle(estimator: str) -> None:
    first, second = filled(POINTS[:50], estimator=estimator), filled(POINTS[50:], estimator=estimator)
    whole = filled(estimator=estimator).compute()
    first.compute()  # which must not be given again
    first.merge_state(second)
    assert float(first.compute()) == pytest.approx(float(whole), abs=1e-12)
    copied = pickle.loads(pickle.dumps(first))
    assert torch.equal(copied.compute(), first.compute())
    empty = IsoScoreStar(DIM, estimator=estimator)
    copied.merge_state(empty)
    assert torch.equal(copied.compute(), first.compute())
    first.reset()
    first.update(torch.tensor(POINTS[:30]))
    expected = filled(POINTS[:30], estimator=estimator).compute()
    assert float(first.compute()) == pytest.approx(float(expected), abs=1e-12)


def test_state_stays_in_float64() -> None:
    metric = filled(zeta=0.3, shrinkage_cov=np.eye(DIM))
    expected = metric.compute()
    holder = torch.nn.ModuleDict({"metric": metric, "layer": torch.nn.Linear(2, 2)})
    metric.set_dtype(torch.float16)
    holder.half()
    holder.to(torch.bfloat16)
    assert holder["layer"].weight.dtype == torch.bfloat16
    assert metric.moments.dtype == metric.shrinkage_cov.dtype == torch.float64
    assert list(holder.state_dict()) == ["layer.weight", "layer.bias"]
    metric.update(torch.zeros(0, DIM))
    assert torch.equal(metric.compute(), expected)


def test_state_moves_with_the_metric() -> None:
    metric = filled(zeta=0.3, shrinkage_cov=np.eye(DIM)).to("meta")
    assert metric.moments.device.type == metric.shrinkage_cov.device.type == metric.device.type == "meta"


def test_collection_of_estimators() -> None:
    collection = torchmetrics.MetricCollection(
        {
            "iso": IsoScoreStar(DIM),
            "shrunk": IsoScoreStar(DIM, zeta=0.5, shrinkage_cov=np.eye(DIM)),
            "unbiased": IsoScoreStar(DIM, estimator="unbiased"),
        }
    )
    for batch in torch.tensor(POINTS).split(30):
        collection.update(batch)
    found = collection.compute()
    assert float(found["iso"]) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)
    assert float(found["shrunk"]) == pytest.approx(reference.isoscore_star(POINTS, np.eye(DIM), 0.5), abs=1e-12)
    assert float(found["unbiased"]) == pytest.approx(iso.isoscore_unbiased(POINTS), abs=1e-11)


def test_plot() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics' own, of the versions of its dependencies
        metric = filled()
        figure, axes = metric.plot()
        assert axes.get_ylim()[0] <= 0
        assert axes.get_ylim()[1] >= 1
        metric.plot([metric.compute(), metric.compute() / 2], axes)
    plt.close(figure)


def test_errors() -> None:
    with pytest.raises(iso.InvalidValueError, match="at least 2"):
        IsoScoreStar(1)
    with pytest.raises(iso.InvalidValueError, match="shrinkage_cov"):
        IsoScoreStar(DIM, zeta=0.3)
    with pytest.raises(iso.InvalidValueError, match="'shrinkage', 'unbiased'"):
        IsoScoreStar(DIM, estimator="mean")
    metric = IsoScoreStar(DIM)
    with pytest.raises(iso.InvalidValueError, match="7 dimensions; got points of 6"):
        metric.update(torch.zeros(3, 6))
    with pytest.raises(iso.InvalidTypeError, match=r"torch tensors.*isoscore_star\.Moments"):
        metric.update(POINTS)


def test_streaming_moments_refuse_what_does_not_fit() -> None:
    moments = StreamingMoments(3)
    with pytest.raises(iso.DegenerateDataError, match="at least 2"):
        _ = moments.cov
    with pytest.raises(iso.InvalidTypeError, match="StreamingMoments"):
        moments.merge(iso.Moments())
    with pytest.raises(iso.InvalidValueError, match="3 dimensions; got 4"):
        moments.merge(StreamingMoments(4))
    with pytest.raises(iso.InvalidValueError, match="fourth_order"):
        StreamingMoments(3, fourth_order=True).merge(moments)
    with pytest.raises(iso.InvalidValueError, match=r"\(17,\)"):
        StreamingMoments.from_packed(torch.zeros(5), 3)
    assert moments.reduce() is moments  # without torch.distributed


def test_streaming_moments_take_many_rows_and_themselves() -> None:
    rng = np.random.default_rng(1)
    points = (rng.normal(size=(20_000, 5)) + 100).astype(np.float32)
    keep = rng.random(20_000) < 0.7
    moments = StreamingMoments(5, fourth_order=True).update(torch.tensor(points), torch.tensor(keep))
    kept = points[keep].astype(np.float64)
    assert moments.count == len(kept)
    # A product adds up to n = 14,000 squares one after another in float32: by chance of either sign some ε/2·√(n/3) =
    # 4e-6 of the variance of 1, less where a processor adds in several lanes.
    assert np.allclose(moments.cov, np.cov(kept.T), rtol=0, atol=1e-5)
    assert torch.equal(moments.cov, moments.cov.T)
    assert np.allclose(moments.mean, kept.mean(0), rtol=0, atol=1e-6)
    moments.merge(moments)
    assert moments.count == 2 * len(kept)
    assert np.allclose(moments.cov, np.cov(np.tile(kept, (2, 1)).T), rtol=0, atol=1e-5)


def test_the_unbiased_score_has_no_floor_of_training() -> None:
    points = np.random.default_rng(0).standard_normal((1000, 2))
    points[0] += 100
    metric = IsoScoreStar(dim=2, estimator="unbiased")
    metric.update(torch.tensor(points))
    assert float(metric.compute()) == pytest.approx(iso.isoscore_unbiased(points), abs=1e-9)
    orthogonal = IsoScoreStar(dim=2, estimator="unbiased")
    orthogonal.update(torch.tensor([[1.0, 0], [0, 2], [0, 0], [0, 0], [0, 0]]))
    assert torch.isnan(orthogonal.compute())
