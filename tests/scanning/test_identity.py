"""A folder is another scan's as soon as anything differs that its numbers hang on, and damage is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.numpy")
import tiny_scanned as tiny  # noqa: E402

KEY = "isoscore_star_scan"


class KilledError(Exception):
    """What stops a scan between two batches."""


def kill(done: int, total: int | None) -> None:
    if done == 5:
        raise KilledError


class Loader:
    """Batches that are not in memory: another seed gives others after the first ones."""

    def __init__(self, others_from: int = 99, count: int = 12) -> None:
        self._others, self._count = others_from, count

    def __iter__(self) -> Iterator[Any]:
        for number in range(self._count):
            seed = number + 1000 * (number >= self._others)
            yield {"input": torch.as_tensor(np.random.default_rng(seed).normal(size=(4, 5, 4)), dtype=torch.float32)}


def linear() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())


def scan(output: Path, batches: Any, **options: Any) -> Any:
    return iso.scan(linear(), batches=batches, layers=["0", "1"], output=output, seconds_between_states=0.0, **options)


def test_another_tokenizer(tmp_path: Path) -> None:
    items, own = tiny.texts(24), tiny.model()
    iso.scan(own, items, tokenizer=tiny.tokenizer(), output=tmp_path)
    iso.scan(own, items, tokenizer=tiny.tokenizer(), output=tmp_path)
    with pytest.raises(iso.InvalidValueError, match="the tokenizer differs"):
        iso.scan(own, items, tokenizer=tiny.tokenizer(tiny.CAUSAL), output=tmp_path)
    same_words = tiny.tokenizer()
    from tokenizers import normalizers

    same_words.backend_tokenizer.normalizer = normalizers.Replace("w1", "w2")  # the vocabulary stays as it is
    with pytest.raises(iso.InvalidValueError, match="the tokenizer differs"):
        iso.scan(own, items, tokenizer=same_words, output=tmp_path)


def test_one_changed_weight_of_many(tmp_path: Path) -> None:
    items, own = tiny.texts(24), tiny.model()
    iso.scan(own, items, tokenizer=tiny.tokenizer(), output=tmp_path)
    with torch.no_grad():
        own.embeddings.word_embeddings.weight[7, 3] += 1
    with pytest.raises(iso.InvalidValueError, match="the model's weights differ"):
        iso.scan(own, items, tokenizer=tiny.tokenizer(), output=tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.float64, torch.int32])
def test_weights_of_any_dtype_are_hashed(dtype: Any) -> None:
    from isoscore_star.scanning.sources._fingerprint import fingerprint

    model = torch.nn.Linear(2, 2)
    hashes = set()
    for place in (None, 0, 999):
        values = torch.zeros(1000, dtype=dtype)
        if place is not None:
            values[place] = 1
        model.register_buffer("kept", values)
        hashes.add(fingerprint(model))
    assert len(hashes) == 3


def test_a_scalar_and_a_buffer_without_values_are_hashed() -> None:
    from isoscore_star.scanning.sources._fingerprint import fingerprint

    norm = torch.nn.BatchNorm1d(3)
    before = fingerprint(norm)
    norm.num_batches_tracked += 1
    assert fingerprint(norm) != before
    model, hashes = torch.nn.Linear(2, 2), set()
    for shape in ((0, 3), (0, 4)):
        model.register_buffer("empty", torch.zeros(shape))
        hashes.add(fingerprint(model))
    assert len(hashes) == 2


@pytest.mark.parametrize("made", [list, lambda loader: torch.stack([one["input"] for one in loader])])
def test_batches_in_memory_are_known_whole(tmp_path: Path, made: Callable[[Any], Any]) -> None:
    whole = scan(tmp_path, made(Loader()))
    assert scan(tmp_path, made(Loader())).to_dict() == whole.to_dict()
    with pytest.raises(iso.InvalidValueError, match="the texts, images or batches differ"):
        scan(tmp_path, made(Loader(others_from=11)))


def test_a_loader_is_known_by_its_first_batch_once_a_scan_is_finished(tmp_path: Path) -> None:
    scan(tmp_path, Loader())
    with pytest.raises(iso.InvalidValueError, match="the texts, images or batches differ"):
        scan(tmp_path, Loader(others_from=0))


def test_a_loader_that_gives_other_batches_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        scan(tmp_path, Loader(), progress=kill)
    with pytest.raises(iso.InvalidValueError, match="batch 3 differs from the one that the unfinished scan has read"):
        scan(tmp_path, Loader(others_from=3))
    with pytest.raises(iso.InvalidValueError, match="there are 2, and the unfinished scan has read"):
        scan(tmp_path, Loader(count=2))
    whole = iso.scan(linear(), batches=iter(Loader()), layers=["0", "1"])  # an iterator, which is read once
    assert scan(tmp_path, Loader()).to_dict()["layers"] == whole.to_dict()["layers"]


def test_another_mask(tmp_path: Path) -> None:
    batches = list(Loader())
    scan(tmp_path, batches, mask=lambda inputs, outputs: torch.ones(4, 5))
    with pytest.raises(iso.InvalidValueError, match="mask was"):
        scan(tmp_path, batches, mask=lambda inputs, outputs: torch.ones(4, 5) * (torch.arange(5) < 3))
    with pytest.raises(iso.InvalidValueError, match="mask was"):
        scan(tmp_path, batches, mask=False)


def kept(inputs: Any, outputs: Any, upto: int = 5) -> Any:
    return torch.ones(4, 5) * (torch.arange(5) < upto)


def closed(upto: int) -> Callable[..., Any]:
    return lambda inputs, outputs: kept(inputs, outputs, upto)


class Called:
    def __init__(self, upto: int) -> None:
        self.upto = upto

    def __call__(self, inputs: Any, outputs: Any) -> Any:
        return kept(inputs, outputs, self.upto)


@pytest.mark.parametrize("made", [lambda upto: partial(kept, upto=upto), closed, Called])
def test_a_mask_of_another_value(tmp_path: Path, made: Callable[[int], Any]) -> None:
    batches = list(Loader())
    whole = scan(tmp_path, batches, mask=made(3))
    assert scan(tmp_path, batches, mask=made(3)).to_dict() == whole.to_dict()
    with pytest.raises(iso.InvalidValueError, match="mask was"):
        scan(tmp_path, batches, mask=made(4))


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_limit_that_only_special_tokens_fit(tmp_path: Path, wanted: int) -> None:
    with pytest.raises(iso.InvalidValueError, match=f"at least 3, since the tokenizer adds 2 special.*got {wanted}"):
        iso.scan(tiny.model(), tiny.texts(24), tokenizer=tiny.tokenizer(), max_tokens=wanted)


def test_the_least_limit_cuts() -> None:
    found = iso.scan(tiny.model(), tiny.texts(24), tokenizer=tiny.tokenizer(), max_tokens=3)
    assert found.layers[0].measurement.count == 3 * 24
    decoder = tiny.tokenizer(tiny.CAUSAL)
    found = iso.scan(tiny.model(tiny.CAUSAL), tiny.texts(24), tokenizer=decoder, max_tokens=1)
    assert found.layers[1].measurement.count == 24


def _rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    with safetensors.safe_open(file, "np") as kept:
        record = json.loads(kept.metadata()[KEY])
        arrays = {key: kept.get_tensor(key) for key in kept.keys()}  # noqa: SIM118
    change(record, arrays)
    safetensors.save_file(arrays, file, {KEY: json.dumps(record)})


def _without_a_block(record: dict[str, Any], arrays: dict[str, Any]) -> None:
    for key in [key for key in arrays if key.startswith("3/")]:
        del arrays[key]


def _scaled(record: dict[str, Any], arrays: dict[str, Any]) -> None:
    key = max(key for key in arrays if arrays[key].dtype == np.float64)
    arrays[key] = np.asarray(arrays[key] * 1.5)


@pytest.mark.parametrize(
    "change",
    [
        _without_a_block,
        _scaled,
        lambda record, arrays: record["names"].reverse(),
        lambda record, arrays: arrays.update({"foo/bar": np.zeros(2)}),
        lambda record, arrays: record.update(places={"a": 1}),
        lambda record, arrays: record.pop("checksum"),
    ],
)
def test_damage_is_seen(tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    whole = scan(tmp_path, list(Loader()))
    file = tmp_path / "moments.safetensors"
    _rewritten(file, lambda record, arrays: None)
    assert iso.load_scan(tmp_path).to_dict() == whole.to_dict()
    _rewritten(file, change)
    with pytest.raises(iso.InvalidValueError, match=r"moments\.safetensors.*damaged \(its checksum does not fit\)"):
        iso.load_scan(tmp_path)


def test_one_of_anything_is_told_in_the_singular() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
    notes = " ".join(iso.scan(model, batches=[torch.randn(2, 9, 4)], layers=["0"]).notes)
    assert "1 block of sequences is too few" in notes
    items = [*["w1 w2"] * 30, "w1 w2 w3 w4 w5 w6", " "]
    notes = " ".join(iso.scan(tiny.model(), items, tokenizer=tiny.tokenizer(), max_tokens=5).notes)
    assert "1 text reaches the limit of 5 tokens" in notes
    assert "1 of 32 texts is empty" in notes


def test_a_loader_that_fails_at_once(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        raise OSError("the disk is gone")
        yield

    with pytest.raises(iso.InvalidValueError, match="batches: the first one cannot be had: the disk is gone"):
        scan(tmp_path, broken())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool])
def test_inputs_of_any_dtype_are_hashed(dtype: Any) -> None:
    from isoscore_star.scanning.sources._fingerprint import fingerprint_of_batches

    batch = torch.zeros(3, 4, dtype=dtype)
    before = fingerprint_of_batches([batch, "words", None])
    assert fingerprint_of_batches([batch.clone(), "words", None]) == before
    batch[2, 3] = 1
    assert fingerprint_of_batches([batch, "words", None]) != before
