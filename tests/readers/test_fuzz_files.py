"""A short form of the fuzzer of files: ``python tests/fuzz/files.py`` is the long one."""

from __future__ import annotations

import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
pytest.importorskip("torch")
pytest.importorskip("datasets")
pytest.importorskip("faiss")
pytest.importorskip("h5py")
pytest.importorskip("lance")
pytest.importorskip("zarr")

from fuzz.damage import DAMAGES
from fuzz.files import GOOD, cases, verdicts
from fuzz.valid_files import WRITERS

FILES = 20 * len(WRITERS)


@pytest.mark.slow
def test_damaged_files_are_scored_right_or_refused() -> None:
    found = list(verdicts(cases(FILES, 0, tuple(WRITERS))))
    assert len(found) == FILES
    failed = [
        f"--case {case.number} ({case.suffix}, {case.damage}): {outcome}: {text}"
        for case, outcome, text in found
        if outcome not in GOOD
    ]
    assert not failed, "\n".join(failed)
    # The draw reaches what it is there for: every damage, and in every format what can be read and what cannot.
    assert {verdict.case.damage for verdict in found} == {damage.__name__ for damage in DAMAGES} | {"whole", "loss"}
    for suffix in WRITERS:
        outcomes = {verdict.outcome for verdict in found if verdict.case.suffix == suffix}
        assert "error" in outcomes
        assert outcomes & {"as it was", "as its library reads it"}
