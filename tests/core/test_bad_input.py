"""Every row of bad input: an error of the library's own that is also a ValueError or TypeError and says what to do."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from adapters import Adapter

import isoscore_star as iso

GOOD = np.random.default_rng(1).normal(size=(20, 4))
COV = np.eye(4)
NAN, INF = GOOD.copy(), GOOD.copy()
NAN[3, 2], INF[3, 2] = np.nan, np.inf
ASYMMETRIC = COV + np.triu(np.ones((4, 4)), 1)
INDEFINITE = COV + 5 * (1 - COV)  # no two variables of variance 1 have a covariance of 5

SMALLEST = dict.fromkeys(("torch", "jax"), ("float8_e4m3fn", "float8_e5m2"))  # TensorFlow casts to these in no graph

BAD_POINTS = {
    "one point": (GOOD[:1], ValueError, "at least [24] points"),  # four for the unbiased score
    "no point": (GOOD[:0], ValueError, "at least [24] points"),
    "identical": (np.full((9, 3), 0.1), ValueError, "identical"),
    "one dimension": (GOOD[:, :1], ValueError, "at least 2 dimensions"),
    "a vector": (GOOD[0], ValueError, "points as rows"),
    "a number": (np.array(3.0), ValueError, "points as rows"),
    "NaN": (NAN, ValueError, r"finite.*1 NaN or inf.*row 3"),
    "inf": (INF, ValueError, "finite"),
    "overflow": (np.sign(GOOD) * 1.7e308, ValueError, "differences of these values overflow"),
    "complex": (GOOD * 1j, TypeError, "complex"),
    "boolean": (GOOD > 0, TypeError, "bool"),
}
BAD_COV = {
    "not square": (np.ones((4, 3)), ValueError, r"square.*\(4, 3\)"),
    "other d": (np.eye(3), ValueError, r"\(4, 4\).*\(3, 3\)"),
    "a vector": (np.ones(4), ValueError, "square"),
    "not symmetric": (ASYMMETRIC, ValueError, "mirror image"),
    "negative eigenvalues": (INDEFINITE, ValueError, "no negative eigenvalue"),
    "negative variance": (np.diag([1.0, 1, -2, 1]), ValueError, r"negative.*\[2, 2\]"),
    "zero": (np.zeros((4, 4)), ValueError, "every variance is zero"),
    "NaN": (np.full((4, 4), np.nan), ValueError, "finite"),
    "complex": (np.eye(4) * 1j, TypeError, "complex"),
    "boolean": (np.eye(4) > 0, TypeError, "bool"),
    "text": (np.full((4, 4), "a"), TypeError, "dtype str"),
}


def module(X: object) -> object:
    """Score by the loss as a module, which is made for a number of dimensions."""
    from isoscore_star.backends.torch import IStarLoss

    return IStarLoss(max(X.shape[-1], 2), zeta=0.0, check_values=True)(X)


MEASURING = {
    "isoscore": iso.isoscore,
    "isoscore_star": lambda x: iso.isoscore_star(x, None, 0.0),
    "isoscore_unbiased": iso.isoscore_unbiased,
    "module": module,
    "loss": lambda x: iso.istar_loss(x, None, 0.0, check_values=True),
    "measure": lambda x: iso.measure(x),
    "moments": lambda x: iso.Moments().update(x).isoscore(),
}


@pytest.mark.parametrize("case", BAD_POINTS)
@pytest.mark.parametrize("function", MEASURING)
def test_bad_points(backend: Adapter, function: str, case: str) -> None:
    if function == "module" and backend.name != "torch":
        pytest.skip("torch alone has this module")
    points, kind, message = BAD_POINTS[case]
    if function == "module" and case in ("one dimension", "a number"):
        message = "made for dim=2"  # which leaves nothing to say of these
    with pytest.raises(iso.IsoScoreError, match=message) as caught:
        MEASURING[function](backend.native(points))
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize("array", [np.array([["a", "b"]] * 3), np.array([[1, None]] * 3, dtype=object)])
def test_text_and_objects(array: np.ndarray) -> None:
    with pytest.raises(iso.InvalidTypeError, match="real floating-point or integer"):
        iso.isoscore(array)


@pytest.mark.parametrize("case", BAD_COV)
def test_bad_shrinkage_cov(backend: Adapter, case: str) -> None:
    cov, kind, message = BAD_COV[case]
    for function in (iso.isoscore_star, lambda *a: iso.istar_loss(*a, check_values=True)):
        with pytest.raises(iso.IsoScoreError, match=message) as caught:
            function(backend.native(GOOD), cov, 0.2)
        assert isinstance(caught.value, kind)
    with pytest.raises(iso.IsoScoreError, match=message):
        iso.Moments().update(GOOD).isoscore_star(cov, 0.2)


@pytest.mark.parametrize("case", [case for case in BAD_COV if case != "other d"])
def test_bad_cov(backend: Adapter, case: str) -> None:
    cov, kind, message = BAD_COV[case]
    native = cov if case == "text" else backend.native(cov)  # which no other framework has
    with pytest.raises(iso.IsoScoreError, match=message) as caught:
        iso.isoscore_from_cov(native)
    assert isinstance(caught.value, kind)
    assert str(caught.value).startswith("cov: ")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_one_direction_is_a_covariance_in_every_precision(
    backend: Adapter, rng: np.random.Generator, dtype: str
) -> None:
    if dtype not in ("float64", "float32", *backend.half_dtypes):
        pytest.skip(f"{backend.name} has no {dtype}")
    # ‖C‖²_F is (tr C)² here but for rounding, and bfloat16 rounds all its entries by up to 0.4 %.
    for direction in rng.normal(size=(20, 30)):
        score = float(iso.isoscore_from_cov(backend.native(np.outer(direction, direction), dtype)))
        assert score == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("zeta", [-0.1, 1.1, np.nan, np.inf])
def test_zeta_outside_its_range(backend: Adapter, zeta: float) -> None:
    for function in (iso.isoscore_star, iso.istar_loss):
        with pytest.raises(iso.InvalidValueError, match=r"zeta: expected a number in \[0, 1\]"):
            function(backend.native(GOOD), COV, zeta)


@pytest.mark.parametrize("value", ["0.2", None, True, 1j])
def test_numbers_that_are_none(value: object) -> None:
    with pytest.raises(iso.InvalidTypeError, match="zeta"):
        iso.isoscore_star(GOOD, COV, value)
    with pytest.raises(iso.InvalidTypeError, match="lam"):
        iso.istar_loss(GOOD, COV, 0.2, value)


def test_zeta_without_shrinkage_cov_offers_three_ways_out(backend: Adapter) -> None:
    with pytest.raises(iso.InvalidValueError, match=r'Give one.*zeta=0.*estimator="unbiased"'):
        iso.istar_loss(backend.native(GOOD))


@pytest.mark.parametrize(
    ("mask", "kind", "message"),
    [
        (np.ones(19), ValueError, r"shape \(20,\)"),
        (np.ones((20, 1)), ValueError, r"shape \(20,\)"),
        (np.full(20, 0.5), ValueError, "zeros and ones"),
        (np.where(np.arange(20) < 9, 0.0, -np.inf), ValueError, "mask == 0"),
        (np.zeros(20), ValueError, "at least 2 points; got 0"),
        (np.eye(20)[0], ValueError, "at least 2 points; got 1"),
        (np.full(20, "x"), TypeError, "booleans"),
    ],
)
def test_bad_masks(backend: Adapter, mask: np.ndarray, kind: type, message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message) as caught:
        iso.isoscore(backend.native(GOOD), mask=mask)
    assert isinstance(caught.value, kind)


def test_unions(backend: Adapter) -> None:
    X = backend.native(GOOD)
    with pytest.raises(iso.InvalidValueError, match=r"same number of dimensions.*\[4, 3\]"):
        iso.isoscore([X, X[:, :3]])
    with pytest.raises(iso.InvalidValueError, match="2 clouds; got 1 masks"):
        iso.isoscore([X, X], mask=[np.ones(20)])
    with pytest.raises(iso.InvalidValueError, match="empty list"):
        iso.isoscore([])


def test_mixed_frameworks_are_named() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(GOOD)
    with pytest.raises(iso.InvalidTypeError, match="torch and numpy"):
        iso.isoscore([tensor, GOOD])
    with pytest.raises(iso.InvalidTypeError, match=r"shrinkage_cov: expected.*numpy.*torch"):
        iso.isoscore_star(GOOD, torch.eye(4), 0.2)


@pytest.mark.parametrize("wrong", [[1] * 20, (1,) * 20, 1.0, "1", {}])
def test_the_argument_that_is_no_array_is_named(backend: Adapter, wrong: object) -> None:
    X = backend.native(GOOD)
    with pytest.raises(iso.InvalidTypeError, match=r"^mask: .*numpy.asarray"):
        iso.isoscore(X, mask=wrong)
    with pytest.raises(iso.InvalidTypeError, match=r"^mask: .*numpy.asarray"):
        iso.isoscore([X, X], mask=[np.ones(20), wrong])
    for function in (iso.isoscore_star, iso.istar_loss):
        with pytest.raises(iso.InvalidTypeError, match=r"^shrinkage_cov: .*numpy.asarray"):
            function(X, wrong, 0.2)
    with pytest.raises(iso.InvalidTypeError, match=r"^shrinkage_cov: .*numpy.asarray"):
        iso.Moments().update(GOOD).isoscore_star(wrong, 0.2)
    with pytest.raises(iso.InvalidTypeError, match=r"^cov: .*numpy.asarray"):
        iso.isoscore_from_cov(wrong)
    with pytest.raises(iso.InvalidTypeError, match=r"^labels: .*numpy.asarray"):
        iso.backend_of(wrong, "labels")
    if not isinstance(wrong, (list, tuple)):
        with pytest.raises(iso.InvalidTypeError, match=r"^eigenvalues: .*numpy.asarray"):
            iso.isoscore_from_spectrum(wrong)


def test_numpy_masks_are_not_lost() -> None:
    masked = np.ma.masked_array(GOOD, GOOD > 1)
    for function in (iso.isoscore, iso.isoscore_unbiased, iso.measure, iso.Moments().update):
        for X in (masked, [GOOD, masked]):
            with pytest.raises(iso.InvalidValueError, match=rf"X.*{(GOOD > 1).sum()} values are masked.*mask="):
                function(X)
    with pytest.raises(iso.InvalidValueError, match=r"shrinkage_cov.*4 values are masked"):
        iso.isoscore_star(GOOD, np.ma.masked_array(COV, COV > 0), 0.2)
    assert iso.isoscore(np.ma.masked_array(GOOD)) == iso.isoscore(GOOD)  # nothing is masked


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bits_are_no_floating_point_numbers_to_measure(backend: Adapter, dtype: str) -> None:
    if dtype not in SMALLEST.get(backend.name, ()):
        pytest.skip(f"{backend.name} has no {dtype}")
    for function in (iso.isoscore, iso.isoscore_unbiased, lambda x: iso.istar_loss(x, None, 0.0)):
        with pytest.raises(iso.InvalidTypeError, match=f"X: .*got dtype {dtype}"):
            function(backend.native(GOOD, dtype))
    with pytest.raises(iso.InvalidTypeError, match=f"shrinkage_cov: .*got dtype {dtype}"):
        iso.isoscore_star(backend.native(GOOD), backend.native(COV, dtype), 0.2)


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "sparse_csc"])
def test_sparse_tensors_are_refused(layout: str) -> None:
    torch = pytest.importorskip("torch")
    X = torch.from_numpy(GOOD)
    sparse = X.to_sparse(layout=getattr(torch, layout))
    for function in (iso.isoscore, lambda x: iso.istar_loss(x, None, 0.0), iso.measure):
        with pytest.raises(iso.InvalidTypeError, match=rf"X: .*torch.{layout}.*X.to_dense\(\)"):
            function(sparse)
    eye = torch.eye(4, dtype=X.dtype).to_sparse(layout=getattr(torch, layout))
    with pytest.raises(iso.InvalidTypeError, match=r"shrinkage_cov.to_dense\(\)"):
        iso.istar_loss(X, eye, 0.2)
    with pytest.raises(iso.InvalidTypeError, match=r"cov.to_dense\(\)"):
        iso.isoscore_from_cov(eye)
    with pytest.raises(iso.InvalidTypeError, match=r"mask.to_dense\(\)"):
        iso.isoscore(X, mask=torch.ones(20).to_sparse())


@pytest.mark.parametrize("thing", [[[1.0, 2.0], [3.0, 4.0]], "text", 3.0, {"a": 1}, None])
def test_what_is_no_array(thing: object) -> None:
    with pytest.raises(iso.InvalidTypeError, match="no array of a known framework"):
        iso.isoscore(thing)


@pytest.mark.parametrize("values", [[1.0], [], [[1.0, 2.0]], [1.0, -1.0], [np.nan, 1.0], [0.0, 0.0]])
def test_bad_spectra(values: list) -> None:
    with pytest.raises(iso.InvalidValueError, match="eigenvalues"):
        iso.isoscore_from_spectrum(values)


def test_bad_dimensions_and_choices() -> None:
    with pytest.raises(iso.InvalidValueError, match="at least 2"):
        iso.participation_ratio(0.5, 1)
    with pytest.raises(iso.InvalidTypeError, match="integer"):
        iso.score_from_participation_ratio(2.0, 3.5)
    with pytest.raises(iso.InvalidValueError, match="'shrinkage', 'unbiased'"):
        iso.istar_loss(GOOD, estimator="both")
    with pytest.raises(iso.InvalidValueError, match=r"groups: expected shape \(20,\)"):
        iso.measure(GOOD, groups=np.arange(19))


@pytest.mark.parametrize("parts", [("X", "bad"), ("bad",), ()])
def test_parts_and_message_of_an_error(parts: tuple[str, ...]) -> None:
    error = iso.DegenerateDataError(*parts)
    message = ": ".join(parts)
    # By convention the first argument is the message: Keras shows that alone.
    assert (str(error), error.args) == (message, (message,) if parts else ())
    assert (error.argument, error.reason) == ((*[None] * (2 - len(parts)), *parts)[0], parts[-1] if parts else "")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), twin.argument) == (type(error), message, error.argument)
    assert str(iso.InvalidTypeError(*parts).about("a.npy")).startswith("a.npy: ")
