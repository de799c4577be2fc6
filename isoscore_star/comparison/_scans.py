"""Whether two scans have the same texts in the same blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAME = {
    "fingerprint": "they are of other texts, images or batches",
    "sequences": "they are of other numbers of sequences",
    "batch_size": "their blocks are of other texts, by batches of {} and {}",
    "wanted_blocks": "they were made with {} and {} blocks",
}
"""What their blocks hang on, and what to say where it differs."""


def why_unpaired(a: Any, b: Any) -> str:
    """Return why the blocks of two scans are not the same texts; nothing where they are, or that is not known.

    Parameters
    ----------
    a, b : object
        With a mapping `provenance`, as scans have it; of any other nothing is known.
    """
    first, second = (getattr(of, "provenance", None) for of in (a, b))
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return ""
    if first.get("texts") == second.get("texts") == "weights":
        # Of matrices the fingerprint has files and sizes, which training or rounding may change, but no rows.
        rows = [_rows(of) for of in (first, second)]
        return "" if rows[0] == rows[1] else "their matrices have other numbers of rows"
    for key, says in _SAME.items():
        values = first.get(key), second.get(key)
        if values[0] != values[1]:
            return says.format(*values)
    return ""


def _rows(provenance: Mapping[str, Any]) -> Any:
    found = provenance.get("fingerprint")
    return sorted(entry[2][0] for entry in found.values()) if isinstance(found, Mapping) else None
