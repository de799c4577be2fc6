"""IStarTrainer with models whose mask is not shaped like their states, against states picked out by hand."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from support_huggingface import DIM, algorithm_1, arguments, assert_same, data, losses, made, stacked, t5  # noqa: E402
from torch import nn  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    BigBirdConfig,
    BigBirdForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    FunnelConfig,
    FunnelForSequenceClassification,
    GPT2Config,
    GPT2DoubleHeadsModel,
    Trainer,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: E402

import isoscore_star as iso  # noqa: E402
from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402
from isoscore_star.integrations.huggingface._calls import Call, joined  # noqa: E402

SMALL = {"vocab_size": 40, "hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {**SMALL, "intermediate_size": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RNG = np.random.default_rng(0)
LENGTHS = (8, 3, 6, 5)

Case = tuple[nn.Module, dict[str, Any], list[Any]]
"""A model, a batch, and the points by hand: states of all layers but the embedding layer."""


def tokens(*shape: int) -> Any:
    return torch.tensor(RNG.integers(4, 39, shape))


def kept(lengths: Any = LENGTHS, width: int = 8) -> Any:
    return (torch.arange(width) < torch.tensor(lengths)[..., None]).long()


def rows(lengths: Any, states: Any) -> list[Any]:
    return [state[i, :length] for state in states for i, length in enumerate(lengths)]


def multiple_choice() -> Case:
    model = made(lambda: BertForMultipleChoice(BertConfig(**BERT)))
    lengths = ((8, 4), (3, 6), (5, 8))
    batch = {"input_ids": tokens(3, 2, 8), "attention_mask": kept(lengths), "labels": torch.tensor([0, 1, 0])}
    points = []
    for example in range(3):
        part = {name: batch[name][example] for name in ("input_ids", "attention_mask")}
        points += rows(lengths[example], model.bert(**part, output_hidden_states=True).hidden_states[1:])
    return model, batch, points


def double_heads() -> Case:
    """Its last state has the choices apart, while the others have them in rows."""
    sizes = {"vocab_size": 40, "n_embd": DIM, "n_layer": 2, "n_head": 2, "num_labels": 1}
    model = made(lambda: GPT2DoubleHeadsModel(GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)))
    lengths = ((8, 4), (3, 6))
    ids, mask = tokens(2, 2, 8), kept(lengths)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids, "mc_labels": torch.tensor([0, 1])}
    states = model.transformer(ids.flatten(0, 1), attention_mask=mask.flatten(0, 1), output_hidden_states=True)
    return model, batch, rows((8, 4, 3, 6), states.hidden_states[1:])


def additive_pattern() -> Case:
    sizes = {"vocab_size": 40, "n_embd": DIM, "n_layer": 2, "n_head": 2, "pad_token_id": 0}
    model = made(
        lambda: transformers.GPT2ForTokenClassification(
            GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, classifier_dropout=0)
        )
    )
    ids = tokens(4, 8)
    open_ = torch.tril(torch.ones(8, 8, dtype=torch.bool)) & kept().bool()[:, None, None, :]
    pattern = torch.zeros(4, 1, 8, 8).double().masked_fill(~open_, torch.finfo(torch.float64).min)
    states = model.transformer(ids, attention_mask=pattern, output_hidden_states=True).hidden_states[1:]
    return model, {"input_ids": ids, "attention_mask": pattern, "labels": ids % 2}, rows(LENGTHS, states)


def pattern_of_booleans() -> Case:
    model = made(lambda: BertForSequenceClassification(BertConfig(**BERT)))
    ids, pattern = tokens(4, 8), kept().bool()[:, None, None, :].expand(4, 1, 8, 8)
    states = model.bert(ids, attention_mask=pattern, output_hidden_states=True).hidden_states[1:]
    return model, {"input_ids": ids, "attention_mask": pattern, "labels": ids[:, 0] % 2}, rows(LENGTHS, states)


class Prompted(BertForSequenceClassification):
    """Puts trained vectors in front of a sequence, as PEFT's models for prompt tuning do."""

    peft_config = {"default": SimpleNamespace(num_virtual_tokens=3)}  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.prompt = nn.Parameter(torch.randn(3, DIM))

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None, **more: Any) -> Any:
        vectors = self.bert.embeddings.word_embeddings(input_ids)
        vectors = torch.cat([self.prompt.expand(len(vectors), -1, -1), vectors], 1)
        mask = torch.cat([attention_mask.new_ones(len(vectors), 3), attention_mask], 1)
        return super().forward(inputs_embeds=vectors, attention_mask=mask, labels=labels, **more)


def virtual_tokens() -> Case:
    model = made(lambda: Prompted(BertConfig(**BERT)))
    batch = {"input_ids": tokens(4, 8), "attention_mask": kept(), "labels": torch.tensor([0, 1, 0, 1])}
    states = model(**batch, output_hidden_states=True).hidden_states[1:]
    assert states[0].shape == (4, 11, DIM)
    return model, batch, rows(LENGTHS, [state[:, 3:] for state in states])


def recordings() -> Case:
    """How many frames a recording has is what the convolutions make of it alone."""
    config = Wav2Vec2Config(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(4, 2), conv_kernel=(8, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, mask_time_prob=0.0, layerdrop=0.0,
        hidden_dropout=0.0, attention_dropout=0.0, feat_proj_dropout=0.0, activation_dropout=0.0,
        final_dropout=0.0,
    )  # fmt: skip
    model = made(lambda: Wav2Vec2ForSequenceClassification(config))
    samples = (200, 101, 150, 77)
    values = torch.tensor(RNG.standard_normal((4, 200)))
    batch = {"input_values": values, "attention_mask": kept(samples, 200), "labels": torch.tensor([0, 1, 0, 1])}
    inside = model.wav2vec2
    lengths = [inside.feature_extractor(values[i, None, :n]).shape[-1] for i, n in enumerate(samples)]
    states = inside(values, attention_mask=batch["attention_mask"], output_hidden_states=True).hidden_states[1:]
    assert lengths[0] == states[0].shape[1] > lengths[1]
    return model, batch, rows(lengths, states)


def spectrograms() -> Case:
    config = WhisperConfig(
        vocab_size=40, num_mel_bins=8, d_model=DIM, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=20,
        max_target_positions=20, decoder_start_token_id=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    model = made(lambda: WhisperForConditionalGeneration(config))
    frames = (40, 21, 30, 12)
    features, labels = torch.tensor(RNG.standard_normal((4, 8, 40))), tokens(4, 6)
    labels[1, 4:] = -100
    batch = {"input_features": features, "attention_mask": kept(frames, 40), "labels": labels}
    encoder = model.model.encoder
    lengths = [encoder.conv2(encoder.conv1(features[i, None, :, :n])).shape[-1] for i, n in enumerate(frames)]
    out = model(**batch, output_hidden_states=True)
    assert lengths[0] == out.encoder_hidden_states[1].shape[1] > lengths[1]
    decoder = rows((6, 4, 6, 6), out.decoder_hidden_states[1:])
    return model, batch, rows(lengths, out.encoder_hidden_states[1:]) + decoder


def funnel() -> Case:
    """[CLS] stays alone and the next ones are pooled by two, each of which has to be a word."""
    sizes = {"vocab_size": 40, "d_model": DIM, "n_head": 2, "d_head": 8, "d_inner": 32, "block_sizes": [1, 1]}
    dropouts = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    model = made(lambda: FunnelForSequenceClassification(FunnelConfig(**sizes, **dropouts, num_decoder_layers=1)))
    ids = tokens(4, 8)
    first, second = model.funnel(ids, attention_mask=kept(), output_hidden_states=True).hidden_states[1:]
    assert (first.shape[1], second.shape[1]) == (8, 4)
    points = rows(LENGTHS, [first])
    points += [second[i, j : j + 1] for i, n in enumerate(LENGTHS) for j in range(4) if n > 2 * j]
    return model, {"input_ids": ids, "attention_mask": kept(), "labels": ids[:, 0] % 2}, points


def blocks() -> Case:
    """BigBird fills its last block up, of all states but the last."""
    config = BigBirdConfig(**BERT, attention_type="block_sparse", block_size=4, num_random_blocks=1)
    config.max_position_embeddings = 128
    model = made(lambda: BigBirdForSequenceClassification(config))
    lengths = (70, 30)
    batch = {"input_ids": tokens(2, 70), "attention_mask": kept(lengths, 70), "labels": torch.tensor([0, 1])}
    np.random.seed(0)  # noqa: NPY002  # of which it draws its random blocks
    states = model(**batch, output_hidden_states=True).hidden_states[1:]
    assert [state.shape[1] for state in states] == [72, 70]
    return model, batch, rows(lengths, states)


def two_towers() -> Case:
    tower = {"hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**tower, "vocab_size": 40, "max_position_embeddings": 16, "eos_token_id": 1, "pad_token_id": 0}
    vision = {**tower, "image_size": 8, "patch_size": 4}
    model = made(lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)))
    ids, images = tokens(4, 8), torch.tensor(RNG.standard_normal((4, 3, 8, 8)))
    out = model(ids, images, kept(), output_hidden_states=True)
    points = rows(LENGTHS, out.text_model_output.hidden_states[1:])
    points += [state.flatten(0, 1) for state in out.vision_model_output.hidden_states[1:]]
    return model, {"input_ids": ids, "attention_mask": kept(), "pixel_values": images, "return_loss": True}, points


CASES = [
    multiple_choice, double_heads, additive_pattern, pattern_of_booleans, virtual_tokens, recordings, spectrograms,
    funnel, blocks, two_towers,
]  # fmt: skip


def score_of(trainer: Any, model: Any, batch: dict[str, Any]) -> float:
    model.train()
    np.random.seed(0)  # noqa: NPY002
    trainer.compute_loss(model, dict(batch))
    score: float = trainer.istar.collect()["isoscore_star"]
    return score


@pytest.mark.parametrize("case", CASES)
def test_score_is_that_of_the_states_that_count(case: Callable[[], Case], tmp_path: Path) -> None:
    model, batch, points = case()
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), istar={"zeta": 0.0, "dim": DIM})
    expected = algorithm_1(torch.cat(points)).item()
    # The models are float64, of whose 16 digits a few layers lose a few.
    assert score_of(trainer, model, batch) == pytest.approx(expected, abs=1e-9)


def test_hooks_on_both_sides_of_an_encoder_decoder_have_a_mask_each(tmp_path: Path) -> None:
    model = made(t5)
    batch = stacked(data(model))
    assert not torch.equal(batch["labels"] != -100, batch["attention_mask"].bool())
    trainer = IStarTrainer(
        model=model, args=arguments(tmp_path), istar={"zeta": 0.0}, istar_modules=["encoder.block.*", "decoder.block.*"]
    )
    out = model(**batch, output_hidden_states=True)
    # The last block's state comes without the norm that stands behind it; the first block's is the same.
    trainer.istar.layers = (0, 2)
    first = [
        out.encoder_hidden_states[1][batch["attention_mask"].bool()],
        out.decoder_hidden_states[1][batch["labels"] != -100],
    ]
    assert score_of(trainer, model, batch) == pytest.approx(algorithm_1(torch.cat(first)).item(), abs=1e-9)


def test_predictions_of_towers_are_those_of_the_plain_trainer(tmp_path: Path) -> None:
    model, batch, points = two_towers()
    examples = [{name: value[i] for name, value in batch.items() if name != "return_loss"} for i in range(4)]
    model.float()

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        together = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**together, "pixel_values": together["pixel_values"].float(), "return_loss": True}

    shapes = []
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": {}})):
        args = arguments(tmp_path, remove_unused_columns=False)
        trainer = kind(model=model, args=args, data_collator=collate, eval_dataset=examples, **more)
        result = trainer.predict(examples)
        shapes.append(describe(result.predictions))
    assert shapes[0] == shapes[1]
    expected = algorithm_1(torch.cat(points)).item()
    assert result.metrics["test_isoscore_star"] == pytest.approx(expected, abs=1e-5)  # float32


def describe(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [describe(part) for part in value]
    if isinstance(value, dict):
        return {name: describe(part) for name, part in value.items()}
    return getattr(value, "shape", type(value).__name__)


# ---------------------------------------------------------------- masks that nothing is known of


class Tagged(nn.Module):
    """Puts a place in front of the sequence, and says nowhere that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, DIM)
        self.layer = nn.Linear(DIM, DIM)
        self.tag = nn.Parameter(torch.randn(1, 1, DIM))
        self.head = nn.Linear(DIM, 2)

    def forward(
        self, input_ids: Any, attention_mask: Any, words: Any, labels: Any = None, output_hidden_states: bool = False
    ) -> Any:
        first = torch.cat([self.tag.expand(len(input_ids), -1, -1), self.embed(input_ids)], 1)
        last = self.layer(first).tanh()
        logits = self.head(last.mean(1))
        loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss, logits, (first, last) if output_hidden_states else None)


def tagged() -> tuple[nn.Module, list[dict[str, Any]]]:
    model = made(Tagged)
    examples = []
    for i in range(8):
        mask = kept((LENGTHS[i % 4],))[0].tolist()
        ids = RNG.integers(4, 39, 8).tolist()
        examples.append({"input_ids": ids, "attention_mask": mask, "words": [0, *mask], "labels": i % 2})
    return model, examples


@pytest.mark.parametrize("istar", [{"zeta": 0.0}, {"zeta": 0.2}])
def test_with_lam_zero_no_mask_ends_a_run(
    istar: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, examples = tagged()
    results = []
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "eval_strategy": "epoch"}
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": {"lam": 0.0, "dim": DIM, **istar}})):
        model, args = copy.deepcopy(first), arguments(tmp_path, **settings)
        trainer = kind(model=model, args=args, train_dataset=examples, eval_dataset=examples, **more)
        with caplog.at_level(logging.WARNING, "isoscore_star"):
            trainer.train()
        results.append((model, losses(trainer), trainer.evaluate()["eval_loss"]))
    (model, loss, eval_loss), (other, other_loss, other_eval_loss) = results
    assert_same(model, other)
    assert (loss, eval_loss) == (other_loss, other_eval_loss)
    assert len(caplog.records) == 1
    assert "lam is 0, so that training goes on" in caplog.text
    assert "Give istar_mask" in caplog.text


def test_otherwise_the_error_says_what_to_do(tmp_path: Path) -> None:
    model, examples = tagged()
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=examples, istar={"dim": DIM})
    message = r"attention_mask: expected shape \(\d, 9\).*got \(\d, 8\).*Give istar_mask: the name .* or False"
    with pytest.raises(iso.InvalidValueError, match=message):
        trainer.train()
    with pytest.raises(iso.InvalidTypeError, match="istar_mask: expected a name"):
        IStarTrainer(model=model, args=arguments(tmp_path), istar={"dim": DIM}, istar_mask=True)


def with_outputs(inputs: dict[str, Any], outputs: Any) -> Any:
    assert outputs.hidden_states[0].shape[:-1] == inputs["words"].shape
    return [None, inputs["words"]]


@pytest.mark.parametrize("mask", ["words", False, with_outputs])
def test_a_mask_of_the_users_own(mask: Any, tmp_path: Path) -> None:
    model, examples = tagged()
    batch = stacked(examples)
    trainer = IStarTrainer(
        model=model, args=arguments(tmp_path), eval_dataset=examples, istar={"dim": DIM, "zeta": 0.0}, istar_mask=mask
    )
    _, state = model(**batch, output_hidden_states=True).hidden_states
    points = state.flatten(0, 1) if mask is False else state[batch["words"].bool()]
    expected = algorithm_1(points).item()
    assert score_of(trainer, model, batch) == pytest.approx(expected, abs=1e-9)
    assert trainer.evaluate()["eval_isoscore_star"] == pytest.approx(expected, abs=1e-9)


def test_examples_that_fill_the_last_batch_up_count_once_with_all_their_choices() -> None:
    """Two ranks have two examples each, of two choices, and of the last batch three examples are real."""
    state = SimpleNamespace(end_of_dataloader=True, remainder=3)
    penalty = SimpleNamespace(skip_embeddings=False, layers=None)
    seen = []
    for rank in (0, 1):
        accelerator = SimpleNamespace(gradient_state=state, num_processes=2, process_index=rank)
        calls = [Call([torch.randn(4, 5, DIM)], [None], 2), Call([torch.randn(4, 5, DIM)], [torch.ones(4, 5)], 2)]
        one, two = (joined([call], penalty, accelerator) for call in calls)
        both = joined(calls, penalty, accelerator)
        assert torch.equal(both.masks[0], torch.cat([one.masks[0].flatten(), two.masks[0].flatten()]) != 0)
        seen.append(one.masks[0].any(1).tolist())
    assert seen == [[True] * 4, [True, True, False, False]]
