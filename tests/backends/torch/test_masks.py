"""`StateMasks`: which states are points, where the mask is not shaped like them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoscore_star.backends.torch import HiddenStates, ShrinkageCovariance, StateMasks  # noqa: E402

LENGTHS = torch.tensor([5, 3, 4])
KEPT = torch.arange(5) < LENGTHS[:, None]
"""Three sequences, of which two are padded to five places."""

STATES = [torch.randn(3, 5, 4) for _ in range(2)]


def masks_of(mask: Any, states: Any = STATES, model: Any = None, **more: Any) -> list[Any]:
    return StateMasks(nn.Identity() if model is None else model, **more)(states, {"attention_mask": mask})


def causal(kept: Any) -> Any:
    return torch.tril(torch.ones(5, 5, dtype=torch.bool)) & kept[:, None, :]


def additive(pattern: Any, lowest: float, dtype: Any) -> Any:
    return torch.zeros(pattern.shape, dtype=dtype).masked_fill(~pattern, lowest)


PATTERNS = {
    "keys": KEPT[:, None, None, :],
    "square": (KEPT[:, None, :] & KEPT[:, :, None])[:, None],
    "three axes": KEPT[:, None, :].expand(3, 5, 5),
    "causal": causal(KEPT)[:, None],
    "causal, of each head": causal(KEPT)[:, None].expand(3, 2, 5, 5),
    "ones and zeros": causal(KEPT)[:, None].long(),
    "ones and zeros in float32": causal(KEPT)[:, None].float(),
    "additive": additive(causal(KEPT)[:, None], torch.finfo(torch.float32).min, torch.float32),
    "additive, infinite": additive(causal(KEPT)[:, None], -torch.inf, torch.float32),
    "additive in float16": additive(KEPT[:, None, None, :], -1e4, torch.float16),
    "additive in bfloat16": additive(KEPT[:, None, None, :], -1e4, torch.bfloat16),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_of_an_attention_pattern_those_count_that_are_attended_to(name: str) -> None:
    for mask in masks_of(PATTERNS[name]):
        assert torch.equal(mask != 0, KEPT)


def test_places_that_could_attend_to_nothing_do_not_count_for_what_they_were_opened_to() -> None:
    left_padded = KEPT.flip(1)
    pattern = causal(left_padded)
    pattern = pattern | ~pattern.any(-1, keepdim=True)  # as transformers does, since a softmax over nothing is NaN
    (mask,) = masks_of(pattern[:, None], STATES[:1])
    assert torch.equal(mask, left_padded)


@pytest.mark.parametrize("shape", [(3, 1, 1, 5), (3, 1, 5, 5), (1, 1, 5, 5)])
def test_an_additive_pattern_that_closes_nothing_is_no_mask_of_zeros(shape: tuple[int, ...]) -> None:
    (mask,) = masks_of(torch.zeros(shape), STATES[:1])
    assert bool(mask.all())
    assert mask.shape == (3, 5)


def test_an_additive_mask_of_places() -> None:
    (mask,) = masks_of(additive(KEPT, -1e9, torch.float32), STATES[:1])
    assert torch.equal(mask, KEPT)


@pytest.mark.parametrize("batch", [1, 3])
def test_choices_are_rows(batch: int) -> None:
    states = torch.randn(batch * 2, 5, 4)
    kept = torch.rand(batch, 2, 5) < 0.5
    (mask,) = masks_of(kept, [states])
    assert torch.equal(mask, torch.cat([kept[i] for i in range(batch)]))


def test_virtual_tokens_do_not_count() -> None:
    class Peft(nn.Module):
        peft_config = {"default": SimpleNamespace(num_virtual_tokens=2)}  # noqa: RUF012

    (mask,) = masks_of(KEPT, [torch.randn(3, 7, 4)], nn.Sequential(Peft()))
    assert torch.equal(mask, torch.cat([torch.zeros(3, 2, dtype=torch.bool), KEPT], 1))
    with pytest.raises(iso.InvalidValueError, match="not known"):
        masks_of(KEPT, [torch.randn(3, 8, 4)], Peft())


def test_layers_of_one_shape_share_one_mask() -> None:
    """By which the score knows that it has to look through it but once."""
    one, other = masks_of(KEPT.float())
    assert one is other
    assert masks_of(KEPT)[0] is not None


def test_states_that_are_none_have_no_mask() -> None:
    assert masks_of(KEPT, [None, STATES[0]])[0] is None


def test_a_decoder_has_a_mask_of_its_own() -> None:
    model = nn.Identity()
    model.config = SimpleNamespace(is_encoder_decoder=True)
    names = ["encoder.block.0", "decoder.block.0"]
    labels = torch.where(KEPT, 7, -100)
    padding = {"attention_mask": KEPT.flip(1), "labels": labels}
    encoder, decoder = StateMasks(model)(STATES, padding, names=names)
    assert torch.equal(encoder, KEPT.flip(1))
    assert torch.equal(decoder, KEPT)
    given = {**padding, "decoder_attention_mask": ~KEPT}
    assert torch.equal(StateMasks(model)(STATES, given, names=names)[1], ~KEPT)
    # OPT has only a decoder, whose name is no sign of an encoder.
    _, only = StateMasks(nn.Identity())(STATES, padding, names=names)
    assert torch.equal(only, KEPT.flip(1))


def test_a_tower_for_images_has_no_mask() -> None:
    names = ["text_model.layers.0", "vision_model.layers.0"]
    text, images = StateMasks(nn.Identity())(STATES, {"attention_mask": KEPT}, names=names)
    assert torch.equal(text, KEPT)
    assert images is None


def test_what_the_user_says() -> None:
    inputs = {"attention_mask": KEPT, "words": ~KEPT}
    assert StateMasks(nn.Identity(), False)(STATES, inputs) == [None, None]
    assert torch.equal(StateMasks(nn.Identity(), "words")(STATES, inputs)[1], ~KEPT)

    def by_layer(given: Any, outputs: Any) -> Any:
        return [given["words"], outputs]

    first, second = StateMasks(nn.Identity(), by_layer)(STATES, inputs, KEPT)
    assert torch.equal(first, ~KEPT)
    assert torch.equal(second, KEPT)
    assert StateMasks(nn.Identity(), lambda given, outputs: None)(STATES, inputs) == [None, None]


@pytest.mark.parametrize("inputs", [None, KEPT, (KEPT, KEPT), {}, []])
def test_inputs_without_a_mask(inputs: Any) -> None:
    assert StateMasks(nn.Identity())(STATES, inputs) == [None, None]


def test_errors() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"attention_mask: expected shape \(3, 5\).*got \(3, 6\).*False"):
        masks_of(torch.ones(3, 6))
    with pytest.raises(iso.InvalidValueError, match=r"istar_mask: the batch has no 'words'; got the names \['a'\]"):
        StateMasks(nn.Identity(), "words", option="istar_mask")(STATES, {"a": 1})
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected one mask, or one for each of the 2 layers.* 3"):
        StateMasks(nn.Identity(), lambda given, outputs: [None] * 3)(STATES, {})
    for wrong in (True, 3, lambda batch: None):
        with pytest.raises(iso.InvalidTypeError, match="mask: expected a name in the inputs, a function"):
            StateMasks(nn.Identity(), wrong)


def test_hooked_layers_tell_their_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with HiddenStates(model, ["1", "0"]) as states:
        model(torch.randn(2, 4))
        states.take()
        assert states.taken == ["0", "1"]  # in the order of the calls


def test_a_pass_over_data_knows_choices() -> None:
    class Chooser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 4)

        def forward(self, input_ids: Any, attention_mask: Any, output_hidden_states: bool = False) -> Any:
            return SimpleNamespace(hidden_states=[self.embed(input_ids.flatten(0, 1))])

    model = Chooser()
    batch = {"input_ids": torch.randint(20, (2, 3, 5)), "attention_mask": (torch.rand(2, 3, 5) < 0.6).long()}
    cov = ShrinkageCovariance(4).fit(model, [batch]).cov
    expected = torch.cov(model.embed(batch["input_ids"])[batch["attention_mask"].bool()].detach().T)
    assert torch.allclose(cov, expected, rtol=1e-5, atol=1e-6)  # float32
    with pytest.raises(iso.InvalidValueError, match=re.escape("Give forward, with StateMasks(model, mask)")):
        ShrinkageCovariance(4).fit(model, [{**batch, "attention_mask": torch.ones(2, 2, 5)}])
