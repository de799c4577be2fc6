"""CKA against HSIC with a centring matrix, the debiased one against U-centred matrices, angles against NumPy's SVD."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso

Points = np.ndarray


def hsic_cka(x: Points, y: Points) -> float:
    """Compute HSIC(K, L)/√(HSIC(K, K)·HSIC(L, L)) with HSIC = tr(KHLH), of linear kernels (Kornblith et al. 2019)."""
    m = len(x)
    h = np.eye(m) - 1 / m

    def hsic(k: Points, other: Points) -> float:
        return float(np.trace(k @ h @ other @ h))

    k, other = x @ x.T, y @ y.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def u_centred(x: Points) -> Points:
    """U-centre a linear kernel entry by entry (Székely & Rizzo 2014, definition 2)."""
    k, m = x @ x.T, len(x)
    np.fill_diagonal(k, 0)
    rows, total = k.sum(axis=1), k.sum()
    centred = k - rows[:, None] / (m - 2) - rows[None] / (m - 2) + total / ((m - 1) * (m - 2))
    np.fill_diagonal(centred, 0)
    return np.asarray(centred)


def debiased_cka(x: Points, y: Points) -> float:
    k, other = u_centred(x), u_centred(y)
    return float(np.sum(k * other) / np.sqrt(np.sum(k * k) * np.sum(other * other)))


def degrees(x: Points, y: Points, k: int) -> Points:
    """Compute principal angles from the singular values of U_aᵀU_b, which tells those that are not tiny."""
    ours, its = (np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][:k].T for points in (x, y))
    return np.degrees(np.arccos(np.clip(np.linalg.svd(ours.T @ its)[1], -1, 1)))[::-1]


def pair(rng: np.random.Generator, m: int, dims: tuple[int, int]) -> tuple[Points, Points]:
    a = rng.normal(size=(m, dims[0])) * np.geomspace(5, 0.5, dims[0]) + 3
    return a, a @ rng.normal(size=dims) / 2 + rng.normal(size=(m, dims[1])) - 7


@pytest.mark.parametrize("m", [5, 9, 60, 20_000], ids=["5", "fewer than dimensions", "60", "more than a block"])
@pytest.mark.parametrize("dims", [(12, 12), (12, 7)], ids=["same width", "other width"])
def test_cka_of_points(rng: np.random.Generator, m: int, dims: tuple[int, int]) -> None:
    a, b = pair(rng, m, dims)
    row = iso.compare(a, b).rows[0]
    if m > 1000:  # the m × m matrices are too large: the same by ‖XᵀY‖² of centred points
        x, y = a - a.mean(axis=0), b - b.mean(axis=0)
        expected = np.sum((x.T @ y) ** 2) / np.sqrt(np.sum((x.T @ x) ** 2) * np.sum((y.T @ y) ** 2))
        assert row.cka == pytest.approx(expected, rel=1e-10)
        assert row.debiased_cka == pytest.approx(expected, abs=2e-3)  # its bias is of the order d/m
        return
    assert row.cka == pytest.approx(hsic_cka(a, b), rel=1e-10)
    assert row.debiased_cka == pytest.approx(debiased_cka(a, b), rel=1e-9)
    assert row.cka_reason == ""


def test_debiased_cka_of_unrelated_points_is_0_on_average(rng: np.random.Generator) -> None:
    """Of 20 points in 50 dimensions CKA itself is .7 or so."""
    rows = [iso.compare(rng.normal(size=(20, 50)), rng.normal(size=(20, 50))).rows[0] for _ in range(60)]
    debiased = np.array([row.debiased_cka for row in rows])
    assert min(row.cka or 0 for row in rows) > 0.5
    assert abs(debiased.mean()) < 4 * debiased.std(ddof=1) / np.sqrt(len(rows))


def test_cka_of_tokens(rng: np.random.Generator) -> None:
    a, b = (x.reshape(20, 4, -1) for x in pair(rng, 80, (6, 9)))
    row = iso.compare(a, b).rows[0]
    assert row.cka == pytest.approx(hsic_cka(a.reshape(80, 6), b.reshape(80, 9)), rel=1e-10)
    assert (row.debiased_cka, row.angles) == (None, ())
    assert "independent points" in row.cka_reason
    assert any("fractions of other numbers of dimensions, 6 and 9" in text for text in row.warnings)


def test_masked_points(rng: np.random.Generator) -> None:
    a, b = (x.reshape(20, 4, -1) for x in pair(rng, 80, (6, 6)))
    mask = rng.random((20, 4)) > 0.3
    mask[:, 0] = True
    row = iso.compare(a, b, mask_a=mask, mask_b=mask.astype(int)).rows[0]
    assert row.cka == pytest.approx(hsic_cka(a[mask], b[mask]), rel=1e-10)
    other = iso.compare(a, b, mask_a=mask).rows[0]
    assert (other.cka, other.paired) == (None, True)  # the sequences are the same, their tokens are not
    assert other.cka_reason.startswith(f"rows do not correspond: {mask.sum()} and 80 points")


@pytest.mark.parametrize("m", [8, 500], ids=["fewer points than dimensions", "many points"])
def test_angles(rng: np.random.Generator, m: int) -> None:
    a = rng.normal(size=(m, 12)) * np.geomspace(8, 0.5, 12)
    b = a @ np.linalg.qr(np.eye(12) + 0.3 * rng.normal(size=(12, 12)))[0]
    for k in (1, 2, 4):
        row = iso.compare(a, b, directions=k).rows[0]
        assert row.angles == pytest.approx(degrees(a, b, k), abs=1e-6)
    usual = iso.compare(a, b).rows[0]
    least = round(min(usual.a.effective_dimensions, usual.b.effective_dimensions))
    assert len(usual.angles) == min(10, 11, least)


def test_angles_of_a_known_rotation(rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    turn = np.radians(25)
    a = rng.normal(size=(4000, 5)) * [9, 5, 0.01, 0.01, 0.01]
    turned = a.copy()
    turned[:, 1] = a[:, 1] * np.cos(turn)
    turned[:, 3] += a[:, 1] * np.sin(turn)
    row = iso.compare(a @ basis, turned @ basis, directions=2).rows[0]
    assert row.angles == pytest.approx((25, 0), abs=0.1)  # noise of .01 for 5 turns by .1 degrees


def test_fewer_directions_with_variance_than_asked_for(rng: np.random.Generator) -> None:
    a = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 6))
    row = iso.compare(a, rng.normal(size=(50, 6)), directions=4).rows[0]
    assert len(row.angles) == 2
    assert "angles of 2 directions, since there are no 4 with variance in both" in row.warnings


def test_directions_that_the_sample_does_not_tell_apart(rng: np.random.Generator) -> None:
    flat, steep = rng.normal(size=(300, 6)), rng.normal(size=(300, 6)) * [9, 6, 3, 1, 0.1, 0.01]
    assert any("hangs on the sample" in text for text in iso.compare(flat, steep, directions=2).warnings)
    assert not any("hangs on the sample" in text for text in iso.compare(steep, steep * 2, directions=2).warnings)
