"""``isoscore-star measure``: the numbers of `isoscore_star.measure` for every file."""

import re

import numpy as np
import pytest
from point_files import FORMATS, TOLERANCE, agrees, cloud, save

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("rich")


pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [300, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_measured_like_the_array_in_memory(measured, name, rows, dtype):
    X = cloud(rows, dtype=dtype)
    save(name, X)
    found = measured(name)
    assert (found["files"], found["zeta"], found["estimator"]) == ([name], 0.0, "shrinkage")
    assert "layers" not in found
    agrees(found["union"], iso.measure(X), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint32])
def test_other_kinds_of_numbers(measured, dtype):
    X = (cloud() * 9).clip(0, 100).astype(dtype)
    save("x.npy", X)
    agrees(measured("x.npy")["union"], iso.measure(X), 1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_more_points_than_a_block_holds(measured, dtype):
    X = cloud(20_000, 300, dtype)
    save("x.npy", X)
    found, expected = measured("x.npy")["union"], iso.measure(X)
    assert found["score"] == pytest.approx(expected.score, abs=TOLERANCE[dtype])
    assert found["unbiased_score"] == pytest.approx(expected.unbiased_score, abs=TOLERANCE[dtype])


def test_files_are_one_union_across_formats(measured):
    parts = [cloud(100, seed=0), cloud(50, seed=1), cloud(70, seed=2)]
    for name, part in zip(FORMATS[:3], parts, strict=True):
        save(name, part)
    agrees(measured(*FORMATS[:3])["union"], iso.measure(parts), 1e-12)


def test_shrinkage(measured):
    X, cov = cloud(40), np.cov(cloud(1000, seed=1).T)
    save("x.npy", X)
    for name in ("cov.npy", "cov.csv", "cov.parquet"):
        save(name, cov)
        found = measured("x.npy", "--shrinkage-cov", name, "--zeta", 0.3)
        assert found["zeta"] == 0.3
        agrees(found["union"], iso.measure(X, cov, 0.3), 1e-12)


def test_a_shrinkage_matrix_among_several_arrays(measured, failure):
    X, cov = cloud(40), np.cov(cloud(1000, seed=1).T)
    save("x.npy", X)
    np.savez("many.npz", cov=cov, mean=X.mean(0), other=np.eye(5))
    found = measured("x.npy", "--shrinkage-cov", "many.npz:cov", "--zeta", 0.3)
    agrees(found["union"], iso.measure(X, cov, 0.3), 1e-12)
    save("a:cov.npy", cov)  # a file's own name comes first
    assert measured("x.npy", "--shrinkage-cov", "a:cov.npy", "--zeta", 0.3) == found
    for name, message in (
        ("many.npz", r"several arrays, .*cov \(5, 5\)"),
        ("many.npz:x", "no array 'x'"),
        ("no.npz:cov", "no.npz: no such file"),
    ):
        code, line = failure("measure", "x.npy", "--shrinkage-cov", name, "--zeta", 0.3)
        assert (code, bool(re.search(message, line))) == (2, True)


def test_repeated_keys_are_a_union_or_layers(measured):
    a, b = cloud(30, seed=1), cloud(50, seed=2)
    np.savez("x.npz", a=a, b=b)
    agrees(measured("x.npz", "--key", "b")["union"], iso.measure(b), 1e-12)
    assert "layers" not in measured("x.npz", "--key", "a", "--key", "b")
    found = measured("x.npz", "--key", "a", "--key", "b", "--by-layer")
    agrees(found["union"], iso.measure([a, b]), 1e-12)
    assert [layer["layer"] for layer in found["layers"]] == ["a", "b"]
    for layer, X in zip(found["layers"], [a, b], strict=True):
        agrees(layer, iso.measure(X), 1e-12)


def test_files_as_layers(measured):
    clouds = {"first.npy": cloud(30, seed=1), "second.npy": cloud(50, seed=2)}
    for name, X in clouds.items():
        save(name, X)
    found = measured(*clouds, "--by-layer")
    assert [layer["layer"] for layer in found["layers"]] == list(clouds)
    for layer, X in zip(found["layers"], clouds.values(), strict=True):
        agrees(layer, iso.measure(X), 1e-12)
    assert len(measured("first.npy", "first.npy", "--by-layer")["layers"]) == 2


@pytest.mark.parametrize("mask_axes", [None, (6, 7), (3, 6, 7)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_layers_along_the_first_axis(measured, suffix, mask_axes):
    X = cloud(3 * 6 * 7).reshape(3, 6, 7, 5) * np.arange(1, 4)[:, None, None, None]
    save(f"x{suffix}", X)
    masked, mask = [], None
    if mask_axes is not None:
        mask = np.random.default_rng(1).random(mask_axes) < 0.7
        X[~np.broadcast_to(mask, X.shape[:-1])] = np.nan  # what is behind the mask is no matter
        save(f"x{suffix}", X)
        np.save("mask.npy", mask)
        masked, mask = ["--mask", "mask.npy"], np.broadcast_to(mask, X.shape[:-1])
    found = measured(f"x{suffix}", "--by-layer", *masked)
    assert [layer["layer"] for layer in found["layers"]] == ["0", "1", "2"]
    agrees(found["union"], iso.measure(list(X), mask=None if mask is None else list(mask)), 1e-12)
    for i, layer in enumerate(found["layers"]):
        agrees(layer, iso.measure(X[i], mask=None if mask is None else mask[i]), 1e-12)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_a_mask_beside_the_points(measured, suffix, dtype):
    X, keep = cloud(60).reshape(6, 10, 5), (np.arange(60) % 3 > 0).reshape(6, 10)
    arrays = {"x": X, "keep": keep.astype(dtype)}
    {
        "npz": lambda: np.savez("x.npz", **arrays),
        "safetensors": lambda: safetensors.save_file(arrays, "x.safetensors"),
        "pt": lambda: torch.save({k: torch.tensor(v) for k, v in arrays.items()}, "x.pt"),
    }[suffix]()
    found = measured(f"x.{suffix}", "--key", "x", "--mask", "keep")
    agrees(found["union"], iso.measure(X, mask=keep), 1e-12)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_mask_for_a_table(measured, name):
    X, keep = cloud(60), np.arange(60) % 3 > 0
    save(name, X)
    np.save("keep.npy", keep)
    pd.DataFrame({"keep": keep.astype(int)}).to_csv("keep.csv", index=False)
    for mask in ("keep.npy", "keep.csv"):
        agrees(measured(name, "--mask", mask)["union"], iso.measure(X, mask=keep), 1e-12)
