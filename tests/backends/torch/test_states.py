"""`HiddenStates` against what transformers return themselves, and its gradients with and without checkpointing."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from isoscore_star.backends.torch import HiddenStates, IStarLoss, ShrinkageCovariance  # noqa: E402

WIDTHS: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
MODELS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**WIDTHS, num_hidden_layers=2)),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(dim=16, n_heads=2, hidden_dim=32, n_layers=2, vocab_size=50)
    ),
    "albert": lambda: transformers.AlbertModel(
        transformers.AlbertConfig(**WIDTHS, embedding_size=8, num_hidden_layers=3, num_hidden_groups=1)
    ),
    "gpt2": lambda: transformers.GPT2Model(
        transformers.GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=50, bos_token_id=1, eos_token_id=2)
    ),
    "llama": lambda: transformers.LlamaModel(transformers.LlamaConfig(**WIDTHS, num_hidden_layers=2)),
}
GLOBS = {
    "bert": "encoder.layer.*",
    "distilbert": "transformer.layer.*",
    "albert": "encoder.albert_layer_groups.*",
    "gpt2": "h.*",
    "llama": "layers.*",
}
FINAL_NORMS = {"gpt2": "ln_f", "llama": "norm"}
MASK = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()


def _model(family: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[family]().double()
    for module in model.modules():  # so that two runs in training mode are alike
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return model


def _batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": MASK}


def _gradients(model: nn.Module, states: HiddenStates | None, **call: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output = model(**_batch(), **call)
    hidden = output.hidden_states[1:] if states is None else states.take()
    IStarLoss(16, zeta=0.0)(hidden, MASK).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("layers", ["found by itself", "glob", "modules"])
def test_hooked_states_equal_those_that_the_model_returns(family: str, layers: str) -> None:
    model = _model(family).eval()
    glob = GLOBS[family]
    modules = [model.get_submodule(glob.replace("*", str(i))) for i in range(1 if family == "albert" else 2)]
    chosen = {"found by itself": None, "glob": glob, "modules": modules}[layers]
    with HiddenStates(model, chosen) as states:
        returned = model(**_batch(), output_hidden_states=True).hidden_states[1:]
        hooked = states.take()
    assert len(hooked) == len(returned)
    if family in FINAL_NORMS:  # the model returns its last state after a norm, which the last layer has not seen yet
        assert not torch.equal(hooked[-1], returned[-1])
        hooked[-1] = model.get_submodule(FINAL_NORMS[family])(hooked[-1])
    assert all(map(torch.equal, hooked, returned))


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_with_and_without_checkpointing_are_equal(family: str, reentrant: bool) -> None:
    model = _model(family).train()
    with HiddenStates(model) as states:
        plain = _gradients(model, states)
    if family not in FINAL_NORMS:
        returned = _gradients(model, None, output_hidden_states=True)
        assert plain.keys() == returned.keys()
        assert all(torch.equal(plain[name], returned[name]) for name in plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers is about to rename the method
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()  # what a reentrant checkpoint needs to have a gradient at all
    states = HiddenStates(model)
    for _ in range(2):  # the second run would find what the first one's backward pass left behind
        checkpointed = _gradients(model, states, **({"use_cache": False} if family in FINAL_NORMS else {}))
        assert plain.keys() == checkpointed.keys()
        for name, gradient in plain.items():
            # A checkpoint adds up a layer's gradients in another order, which costs a few roundings.
            rounding = 1e-14 * max(float(gradient.abs().max()), 1e-2)
            assert torch.allclose(gradient, checkpointed[name], rtol=0, atol=rounding)


class _Checkpointed(nn.Module):
    """Layers that are checkpointed by hand, as models do outside transformers."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.reentrant = reentrant
        self.calls = 0
        self.layers[0].register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
def test_runs_inside_the_backward_pass_are_not_recorded(reentrant: bool) -> None:
    model = _Checkpointed(reentrant).double()
    x = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    states = HiddenStates(model, "layers.*")
    for _ in range(2):
        model(x)
        taken = states.take()
        assert len(taken) == 3
        iso.istar_loss(taken, zeta=0.0).backward()
    assert model.calls == (4 if reentrant else 2)  # the plain hook beside ours did see the reentrant layer again
    checkpointed = [p.grad for p in model.parameters()]

    by_hand = [x]
    for layer in model.layers:
        by_hand.append(layer(by_hand[-1]))
    expected = torch.autograd.grad(iso.istar_loss(by_hand[1:], zeta=0.0), list(model.parameters()))
    for got, want in zip(checkpointed, expected, strict=True):
        assert torch.allclose(got, 2 * want, rtol=1e-12, atol=1e-16)


def test_states_without_gradient_inside_a_reentrant_checkpoint_are_refused() -> None:
    model = _Checkpointed(reentrant=True)
    with HiddenStates(model, "layers.*.0") as states:  # inside what is checkpointed
        model(torch.randn(5, 8, requires_grad=True))
        with pytest.raises(iso.InvalidValueError, match="use_reentrant=False"):
            states.take()
        with torch.no_grad(), warnings.catch_warnings():  # where nobody expects a gradient
            warnings.simplefilter("ignore")
            model(torch.randn(5, 8))
        assert len(states.take()) == 3


def test_calls_add_up_with_gradients_and_replace_each_other_without() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first, second = torch.randn(5, 4), torch.randn(6, 4)
    states = HiddenStates(model, ["1", "0"])
    model(first), model(second)
    assert [len(state) for state in states.take()] == [5, 5, 6, 6]
    with torch.no_grad():
        for _ in range(100):
            model(first)
    assert len(states.take()) == 2
    with torch.no_grad():
        model(first)
    model(second)
    assert [len(state) for state in states.take()] == [6, 6]
    states.recording = False
    model(first)
    with pytest.raises(iso.InvalidValueError, match="none of the 2 layers"):
        states.take()
    states.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(iso.InvalidValueError, match="removed"):
        states.take()


def test_copies_of_the_model_record_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    states = HiddenStates(model, "0")
    model(torch.randn(3, 4))
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        clone(torch.randn(5, 4))
    assert [len(state) for state in states.take()] == [3]


def test_the_first_tensor_of_tuples_and_mappings() -> None:
    class Layer(nn.Linear):
        answer: Any = staticmethod(lambda x: x)

        def forward(self, x: torch.Tensor) -> Any:
            return self.answer(super().forward(x))

    layer = Layer(4, 4)
    with HiddenStates(nn.ModuleDict({"only": layer}), "only") as states:
        for answer in (lambda x: (x, None), lambda x: [x, x], lambda x: {"states": x, "more": 1}):
            layer.answer = answer
            layer(torch.randn(3, 4))
        assert [tuple(state.shape) for state in states.take()] == [(3, 4)] * 3
        layer.answer = lambda x: (None, x)
        with pytest.raises(iso.InvalidTypeError, match=r"'only' puts out NoneType"):
            layer(torch.randn(3, 4))


def test_nested_tensors_are_refused_and_not_needed() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x, padding = nn.TransformerEncoder(layer, 2), torch.randn(3, 7, 16), MASK == 0
    with HiddenStates(model) as states, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of nested tensors
        with torch.no_grad(), pytest.raises(iso.InvalidTypeError, match="set_fastpath_enabled"):
            model.eval()(x, src_key_padding_mask=padding)
        states.clear()

        def forward(model: nn.Module, batch: torch.Tensor) -> Any:
            model(batch, src_key_padding_mask=padding)
            return states.take(), MASK

        assert ShrinkageCovariance(16).fit(model, [x], forward=forward).count == 2 * 13
    assert torch.backends.mha.get_fastpath_enabled()


def test_errors_name_what_is_there() -> None:
    model = _model("bert")
    for layers, message in (
        ("encoder.layers.*", r"'encoder.layers.\*' matches no module.*Close names: 'encoder.layer.0'"),
        ("layer.0", "Close names: 'encoder.layer.0'"),
        (nn.Linear(2, 2), "no part of the model"),
        ([], "at least one"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            HiddenStates(model, layers)
    for wrong in ([3], 3):
        with pytest.raises(iso.InvalidTypeError, match="layers: expected names"):
            HiddenStates(model, wrong)
    with pytest.raises(iso.InvalidTypeError, match="model: expected a torch module"):
        HiddenStates(len)
    with pytest.raises(iso.InvalidValueError, match="it has none"):
        HiddenStates(nn.Linear(4, 4))
    with pytest.raises(iso.InvalidValueError, match=r"it has 2 \('left.encoder.layer', 'right.encoder.layer'\)"):
        HiddenStates(nn.ModuleDict({"left": model, "right": _model("bert")}))
