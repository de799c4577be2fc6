"""Points in files of every format, and what the command has to measure of them."""

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

# The command sums the same numbers as `measure`, but may cut them into other blocks, so that sums differ by rounding:
# some thousand roundings of 1e-16 for float64, and of 6e-8 on terms of either sign for products of float32.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-6}


def cloud(rows=300, dim=5, dtype=np.float64, seed=0):
    scales = np.r_[6.0, np.ones(dim - 1)]
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales + 2).astype(dtype)


def agrees(found, expected, tolerance):
    wanted = expected.to_dict()
    assert found.keys() - {"layer"} == wanted.keys()
    for name in ("score", "unbiased_score", "standard_error", "independent_score"):
        assert found[name] == pytest.approx(wanted[name], abs=tolerance)
    assert found["effective_dimensions"] == pytest.approx(wanted["effective_dimensions"], abs=tolerance * found["dim"])
    for name in ("count", "dim", "warnings", "groups", "group_count"):
        assert found[name] == wanted[name]
    for outlier, wanted_outlier in zip(found["outlier_dimensions"], wanted["outlier_dimensions"], strict=True):
        outlier.pop("column", None)
        assert outlier == pytest.approx(wanted_outlier, abs=tolerance)


def save(name, X):
    """Write points to a file, in the format that its suffix names."""
    if name.endswith(".npy"):
        np.save(name, X)
    elif name.endswith(".npz"):
        np.savez_compressed(name, X)
    elif name.endswith(".safetensors"):
        safetensors.save_file({"x": X}, name)
    elif name.endswith((".pt", ".pth")):
        torch.save(torch.tensor(X), name)
    elif name.endswith((".csv", ".tsv")):
        columns = [f"x{i}" for i in range(X.shape[1])]
        pd.DataFrame(X, columns=columns).to_csv(name, sep="," if name.endswith(".csv") else "\t", index=False)
    elif name.endswith(".parquet"):
        pd.DataFrame({"embedding": list(X)}).to_parquet(name)
    else:
        pd.DataFrame(X).rename(columns=str).to_feather(name)


FORMATS = ["x.npy", "x.npz", "x.safetensors", "x.pt", "x.pth", "x.csv", "x.tsv", "x.parquet", "x.arrow", "x.feather"]
