"""Find the claims, check them one after another, keep what came out."""

from __future__ import annotations

import importlib
import pkgutil
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paper_checks import claims
from paper_checks._claim import Check, Claim, Findings, NoDataError, Run, Verdict
from paper_checks._files import write_claim


def all_claims() -> list[Claim]:
    """Give the claim of every script in ``paper_checks/claims``, in order."""
    names = [module.name for module in pkgutil.iter_modules(claims.__path__) if module.name.startswith("claim_")]
    found: list[Claim] = [importlib.import_module(f"{claims.__name__}.{name}").CLAIM for name in names]
    return sorted(found, key=lambda claim: claim.number)


def chosen(known: Sequence[Claim], only: Iterable[str]) -> list[Claim]:
    """Pick claims by name or number; all of them if nothing is asked for."""
    wanted = list(only)
    for name in wanted:
        if not any(name in (claim.name, str(claim.number)) for claim in known):
            raise KeyError(f"there is no claim {name!r}; there are {', '.join(claim.name for claim in known)}")
    return [claim for claim in known if not wanted or claim.name in wanted or str(claim.number) in wanted]


def run_claims(known: Sequence[Claim], run: Run, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Check claims and write the files of each as soon as it is done.

    Returns
    -------
    list of dict
        What stands in the JSON of each.
    """
    records = []
    for claim in known:
        tell(f"{claim.number}. {claim.name}: {claim.title}")
        start = time.perf_counter()
        verdict, findings = _check(claim, run)
        seconds = time.perf_counter() - start
        tell(f"   {verdict.value} ({seconds:.0f} s)")
        records.append(write_claim(claim, verdict, findings, seconds, run))
    return records


def _check(claim: Claim, run: Run) -> tuple[Verdict, Findings]:
    """Check one claim; whatever goes wrong in it is its own verdict, and the others are still checked."""
    try:
        findings = claim.check(run)
        return findings.verdict, findings
    except NoDataError as reason:
        return Verdict.no_data, Findings([_not_checked(claim, str(reason))])
    except Exception as error:
        last = f"{type(error).__name__}: {error}"
        return Verdict.error, Findings([_not_checked(claim, last)], notes=[traceback.format_exc()])


def _not_checked(claim: Claim, why: str) -> Check:
    return Check(claim.title, "", f"not checked: {why}", "", holds=False)
